"""Every scalar metric of one classifier on one test set, in one call."""

from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar
from jaxprune.metrics._checked import checked
from jaxprune.metrics._options import BINNINGS, check_positive
from jaxprune.metrics._rows import top_label_arguments
from jaxprune.metrics._sums import weighted_mean
from jaxprune.metrics.binning import bins_of, calibration_error_of, debiased_error_of, overconfidence_error_of
from jaxprune.metrics.calibration import kolmogorov_smirnov_calibration_error, signed_calibration_gap
from jaxprune.metrics.classification import (
    accuracy,
    brier_score,
    entropy,
    negative_log_likelihood,
    top_label_brier_score,
)
from jaxprune.metrics.classwise import (
    bins_of_classes,
    classwise_arguments,
    classwise_error_of,
    debiased_classwise_error_of,
    decomposition_of,
)
from jaxprune.metrics.selective import area_under_risk_coverage
from jaxprune.metrics.smooth import smooth_calibration_error

UNBINNED = (
    accuracy,
    negative_log_likelihood,
    brier_score,
    signed_calibration_gap,
    smooth_calibration_error,
    kolmogorov_smirnov_calibration_error,
    area_under_risk_coverage,
    top_label_brier_score,
)


@checked(static_argnames=("from_logits", "num_bins"))
def calibration_report(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int | tuple[int, ...] = (10, 15),
) -> dict[str, Scalar]:
    """Returns all scalar metrics by name; the names of binned ones carry the binning and the number of bins.

    `ece` is the l1 `expected_calibration_error`, `ece_l2`, `ece_max` and `ece_average` its other norms;
    `overconfidence`, `debiased`, `classwise`, `debiased_classwise` and `adaptive` are the errors of those names. The
    others are the functions of those names.

    >>> import jax.numpy as jnp
    >>> report = calibration_report(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]), num_bins=(10,))
    >>> for name, value in report.items():
    ...     print(f"{name:36} {value:.3f}")
    accuracy                             0.500
    adaptive_equal_mass_10               0.375
    area_under_risk_coverage             0.250
    brier_calibration_10                 0.312
    brier_refinement_10                  0.000
    brier_score                          0.312
    classwise_equal_width_10             0.375
    ...
    """
    num_bins = num_bins if isinstance(num_bins, tuple) else (num_bins,)
    for bins in num_bins:
        check_positive("num_bins", bins)
    options = {"from_logits": from_logits, "weights": weights}
    confidence, correct, top_weights = top_label_arguments(outputs, labels, weights, from_logits)
    report = {metric.__name__: metric(outputs, labels, **options) for metric in UNBINNED}
    report["entropy"] = entropy(outputs, **options)
    report["mean_confidence"] = weighted_mean(confidence, top_weights)
    classwise = classwise_arguments(outputs, labels, weights, from_logits)
    for size in num_bins:
        for binning in BINNINGS:
            bins = bins_of(confidence, correct, top_weights, size, binning)
            report[f"ece_{binning}_{size}"] = calibration_error_of(bins, "l1")
            report[f"ece_l2_{binning}_{size}"] = calibration_error_of(bins, "l2")
            report[f"ece_max_{binning}_{size}"] = calibration_error_of(bins, "max")
            report[f"ece_average_{binning}_{size}"] = calibration_error_of(bins, "average")
            report[f"debiased_{binning}_{size}"] = debiased_error_of(bins)
            report[f"overconfidence_{binning}_{size}"] = overconfidence_error_of(bins)
        bins = bins_of_classes(*classwise, size, "equal_width", 0.0)
        report[f"classwise_equal_width_{size}"] = classwise_error_of(bins, "l1")
        report[f"brier_calibration_{size}"], report[f"brier_refinement_{size}"], _ = decomposition_of(
            bins, report["brier_score"]
        )
        bins = bins_of_classes(*classwise, size, "equal_mass", 0.0)
        report[f"adaptive_equal_mass_{size}"] = classwise_error_of(bins, "l1")
        report[f"debiased_classwise_equal_mass_{size}"] = debiased_classwise_error_of(bins)
    return report
