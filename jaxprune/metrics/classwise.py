"""Calibration of every class probability, not only of the largest one."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Labels, Outputs, PerExample, Scalar, as_integers, as_outputs, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import check_alike, merge_sum, refuse_arithmetic, refuse_product
from jaxprune.metrics._options import NORMS, check_bins, check_option, check_positive, check_threshold
from jaxprune.metrics._rows import squared_loss
from jaxprune.metrics._sums import refuse_full, undefined_if_full, weighted_mean
from jaxprune.metrics.binning import (
    CalibrationBins,
    bins_of,
    calibration_error_of,
    debiased_square_of,
    squared_error_of,
)

CLASSES_AT_ONCE = 16  # bounds the memory at 50,000 x 1,000 to some 100 MB


class BrierDecomposition(NamedTuple):
    """The parts of the Brier score, which is their sum."""

    calibration: Scalar
    refinement: Scalar
    within_bins: Scalar

    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


class ClasswiseCalibrationBins(NamedTuple):
    """Equal-width bins of every class probability, in O(classes x bins) memory: streams `classwise_calibration_error`.

    An accumulator like `CalibrationBins`. Equal-mass bins (`adaptive_calibration_error`) need all probabilities at once
    and cannot stream.

    >>> bins = ClasswiseCalibrationBins.empty(num_classes=2, num_bins=10)
    >>> bins = bins.update(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]))
    >>> bins.compute().item()
    0.375
    """

    bins: CalibrationBins  # arrays [classes, bins]

    @classmethod
    def empty(cls, *, num_classes: int, num_bins: int = 15) -> "ClasswiseCalibrationBins":
        """Returns bins that hold nothing, the identity of `merge`."""
        check_positive("num_classes", num_classes)
        empty = CalibrationBins.empty(num_bins=num_bins)
        return cls(jax.tree.map(lambda x: jnp.zeros((num_classes, *x.shape), x.dtype), empty))

    @checked(static_argnames=("from_logits", "threshold"))
    def update(
        self,
        outputs: ArrayLike,
        labels: ArrayLike,
        *,
        from_logits: bool = False,
        weights: ArrayLike | None = None,
        threshold: float = 0.0,
    ) -> "ClasswiseCalibrationBins":
        """Returns the bins with a batch added; rows of weight 0 and probabilities below the threshold do not count."""
        check_threshold(threshold)
        probs, labels, weights = classwise_arguments(outputs, labels, weights, from_logits)
        num_classes, num_bins = self.bins.count.shape
        if probs.shape[1] != num_classes:
            raise ValueError(
                f"outputs have {probs.shape[1]} classes, these bins {num_classes}; make them with that many"
            )
        added = bins_of_classes(probs, labels, weights, num_bins, "equal_width", threshold)
        return self.merge(ClasswiseCalibrationBins(added))

    @jax.jit
    def merge(self, other: "ClasswiseCalibrationBins") -> "ClasswiseCalibrationBins":
        """Returns the bins of both, as `+` does; raises `ValueError` when they have different bins or classes."""
        check_alike(self, other)
        if self.bins.count.shape != other.bins.count.shape:
            raise ValueError(
                f"cannot merge {list(self.bins.count.shape)} classes and bins with {list(other.bins.count.shape)}; "
                "make both with the same num_classes and num_bins"
            )
        return ClasswiseCalibrationBins(self.bins.merge(other.bins))

    __add__ = __radd__ = merge_sum
    __mul__ = __rmul__ = refuse_product

    def psum(self, axis_name: str | tuple[str, ...]) -> "ClasswiseCalibrationBins":
        """Returns the bins of all devices of the mapped axis, on each of them."""
        return ClasswiseCalibrationBins(self.bins.psum(axis_name))

    def compute(self, *, norm: str = "l1") -> Scalar:
        """Returns the class-wise calibration error of what the bins hold, NaN when they are empty.

        Raises `OverflowError` when a bin holds 2^31 - 1 examples or more (under a transformation it gives NaN).
        """
        check_option("norm", norm, NORMS)
        refuse_full(self.bins.count)
        return _compute(self.bins, norm)


@checked(static_argnames=("from_logits", "num_bins", "binning", "norm", "threshold"))
def classwise_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
    norm: str = "l1",
    threshold: float = 0.0,
) -> Scalar:
    r"""Returns the mean over the classes of the binned error of p_k against 1[y = k], in [0, 1].

    $$\left( \frac{1}{K} \sum_k \sum_b \frac{n_{kb}}{n_k}
    \left| \mathrm{freq}_{kb} - \mathrm{conf}_{kb} \right|^p \right)^{1/p}$$

    With p = 1 (`norm="l1"`) the static calibration error of Nixon et al. 2019; with p = 2 (`"l2"`) the root of the
    classes' mean of squares, the marginal calibration error of Kumar, Liang & Ma 2019 with equal weights of the
    classes. `"max"` and `"average"` are the means over the classes of those errors. Probabilities below `threshold` (in
    [0, 1]) do not count, n_k is the number of those that do, and a class without any is left out of the mean. Options
    and errors as in `expected_calibration_error`.

    Elsewhere: torchmetrics and netcal bin the top label only. uncertainty-calibration (Kumar et al.) has this l2, by
    default debiased and in equal-mass bins.

    >>> classwise_calibration_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]), num_bins=10).item()
    0.375
    """
    check_bins(num_bins, binning)
    check_option("norm", norm, NORMS)
    check_threshold(threshold)
    arguments = classwise_arguments(outputs, labels, weights, from_logits)
    return classwise_error_of(bins_of_classes(*arguments, num_bins, binning, threshold), norm)


@checked(static_argnames=("from_logits", "num_bins", "norm", "threshold"))
def adaptive_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    norm: str = "l1",
    threshold: float = 0.0,
) -> Scalar:
    r"""Returns `classwise_calibration_error` with equal-mass bins, in [0, 1]; the order of ties does not matter.

    $$\frac{1}{K B} \sum_k \sum_b \left| \mathrm{freq}_{kb} - \mathrm{conf}_{kb} \right|$$

    when all bins are equally full (Nixon et al. 2019, ACE; with a threshold, TACE). Elsewhere: netcal's `ACE` is
    another error, `average_calibration_error`, of the top label. What sorts and splits without regard to ties
    (probabilities of exactly 0, for instance) gives a result that depends on the order of the rows.

    >>> adaptive_calibration_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]), num_bins=2).item()
    0.375
    """
    return classwise_calibration_error(
        outputs,
        labels,
        from_logits=from_logits,
        weights=weights,
        num_bins=num_bins,
        binning="equal_mass",
        norm=norm,
        threshold=threshold,
    )


@checked(static_argnames=("from_logits", "num_bins"))
def brier_decomposition(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
) -> BrierDecomposition:
    r"""Returns the calibration and refinement parts of `brier_score`, summed over the classes like it.

    $$\sum_k \sum_b \frac{n_{kb}}{n} (\mathrm{freq}_{kb} - \mathrm{conf}_{kb})^2, \quad
    \sum_k \sum_b \frac{n_{kb}}{n} \mathrm{freq}_{kb} (1 - \mathrm{freq}_{kb})$$

    over equal-width bins of each class (Murphy 1973; DeGroot & Fienberg 1983). The two add up to the score when the
    probabilities within a bin are equal; `within_bins` is what is missing otherwise (Stephenson et al. 2008), so that
    the three always do.

    >>> parts = brier_decomposition(jnp.array([[0.75, 0.25], [0.75, 0.25]]), jnp.array([0, 1]))
    >>> [part.item() for part in parts]
    [0.125, 0.5, 0.0]
    """
    check_positive("num_bins", num_bins)
    probs, labels, weights = classwise_arguments(outputs, labels, weights, from_logits)
    bins = bins_of_classes(probs, labels, weights, num_bins, "equal_width", 0.0)
    return decomposition_of(bins, weighted_mean(squared_loss(probs, labels), weights))


@checked(static_argnames=("from_logits", "num_bins", "binning", "threshold"))
def debiased_classwise_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_mass",
    threshold: float = 0.0,
) -> Scalar:
    r"""Returns the l2 class-wise calibration error less what the noise of the labels adds to it, in [0, 1].

    $$\sqrt{\max\left(0, \frac{1}{K} \sum_k \sum_b \frac{n_{kb}}{n_k} \left[
    (\mathrm{freq}_{kb} - \mathrm{conf}_{kb})^2
    - \frac{\mathrm{freq}_{kb} (1 - \mathrm{freq}_{kb})}{n_{kb} - 1} \right] \right)}$$

    Kumar, Liang & Ma 2019, Section 5, for their marginal calibration error. Bins of one example contribute nothing.
    Options and errors as in `classwise_calibration_error`. Elsewhere: uncertainty-calibration puts negative classes to
    0 before it averages, which is biased upwards; here only the mean over the classes is.

    >>> probs = jnp.tile(jnp.array([[0.75, 0.25]]), (5, 1))
    >>> labels = jnp.array([0, 0, 1, 1, 1])
    >>> round(debiased_classwise_calibration_error(probs, labels, num_bins=1).item(), 4)
    0.25
    """
    check_bins(num_bins, binning)
    check_threshold(threshold)
    arguments = classwise_arguments(outputs, labels, weights, from_logits)
    return debiased_classwise_error_of(bins_of_classes(*arguments, num_bins, binning, threshold))


def decomposition_of(bins: CalibrationBins, score: Scalar) -> BrierDecomposition:
    """Returns the parts of a Brier score, from the bins of every class."""
    weight = bins.weight.value
    occupied = jnp.where(weight == 0, 1, weight)
    frequency, confidence = bins.correct.value / occupied, bins.confidence.value / occupied
    mass = weight / weight.sum(axis=1, keepdims=True)
    calibration = (mass * (frequency - confidence) ** 2).sum()
    refinement = (mass * frequency * (1 - frequency)).sum()
    return BrierDecomposition(calibration, refinement, score - calibration - refinement)


def classwise_error_of(bins: CalibrationBins, norm: str) -> Scalar:
    """Returns the mean error of the classes that have examples, of l2 the root of the mean of the squares."""
    if norm == "l2":
        return jnp.sqrt(_mean_of_classes(bins, squared_error_of))
    return _mean_of_classes(bins, partial(calibration_error_of, norm=norm))


def debiased_classwise_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the root of the mean of the debiased squares of the classes that have examples."""
    return jnp.sqrt(jnp.maximum(_mean_of_classes(bins, debiased_square_of), 0))


def _mean_of_classes(bins: CalibrationBins, error: Callable[[CalibrationBins], Scalar]) -> Scalar:
    """Returns the mean over the classes that have examples: the others have no error, 0 / 0."""
    occupied = bins.count.any(axis=1)
    return jnp.where(occupied, jax.vmap(error)(bins), 0).sum() / occupied.sum()


@partial(jax.jit, static_argnames="norm")
def _compute(bins: CalibrationBins, norm: str) -> Scalar:
    return undefined_if_full(bins.count, classwise_error_of(bins, norm))


def classwise_arguments(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, from_logits: bool
) -> tuple[Outputs, Labels, PerExample | None]:
    """Returns the checked probabilities, labels and weights; a row without a valid label is NaN."""
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    inside = (labels >= 0) & (labels < outputs.shape[1])
    return jnp.where(inside[:, None], probs, jnp.nan), labels, as_weights(weights, outputs.shape[0])


def bins_of_classes(
    probs: Outputs, labels: Labels, weights: PerExample | None, num_bins: int, binning: str, threshold: float
) -> CalibrationBins:
    """Returns the bins of every class, stacked `[classes, bins]`; a few classes at a time."""

    def of_class(column_and_class):
        column, index = column_and_class
        kept = weights
        if threshold > 0:
            ones = jnp.ones_like(column) if weights is None else weights
            kept = jnp.where(column < threshold, 0, ones)  # a NaN is kept, to be seen in the result
        return bins_of(column, labels == index, kept, num_bins, binning)

    return jax.lax.map(of_class, (probs.T, jnp.arange(probs.shape[1])), batch_size=CLASSES_AT_ONCE)
