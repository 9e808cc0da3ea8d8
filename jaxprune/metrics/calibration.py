"""Calibration errors of classifiers: does a confidence of 0.8 come true eight times in ten?

`outputs` are probabilities `[batch, classes]` unless `from_logits=True`; labels are class indices `[batch]`; examples
of weight 0 never count. One NaN among what counts makes the result NaN; so does an empty batch. Lower precisions are
computed in float32.

An eager call refuses values that mean something else: probabilities that are negative or do not sum to 1 (logits,
percentages), labels outside of the classes, negative weights. Inside `jit`, `vmap`, `pmap` or `shard_map` there are no
values to look at: such a label makes the result NaN, and anything else a number without meaning; `check_inputs` before.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar
from jaxprune.metrics._checked import checked
from jaxprune.metrics._options import check_bins
from jaxprune.metrics._rows import top_label_arguments, where_defined
from jaxprune.metrics._sums import weighted, weighted_mean
from jaxprune.metrics.binning import (
    binned_calibration_error,
    bins_of,
    debiased_error_of,
    overconfidence_error_of,
)

_BINNED = ("from_logits", "num_bins", "binning")


@checked(static_argnames=(*_BINNED, "norm"))
def expected_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
    norm: str = "l1",
) -> Scalar:
    r"""Returns the binned calibration error of the largest probability, in [0, 1].

    $$\left( \sum_b \frac{n_b}{n} \left| \mathrm{acc}_b - \mathrm{conf}_b \right|^p \right)^{1/p}$$

    with p = 1 (`norm="l1"`), p = 2 (`"l2"`), the largest gap of a bin (`"max"`) or the mean gap of the bins
    (`"average"`). Empty bins do not count.

    `binning="equal_width"`: bin k holds [k / bins, (k + 1) / bins), the last one also 1, so nothing is lost at 0 or 1
    (Guo et al. 2017, Eq. 3, has bins closed on the right and loses 0). `"equal_mass"`: the examples of non-zero weight
    are sorted by confidence and split into bins whose sizes differ by at most one, as by `numpy.array_split`; weights
    enter the sums within a bin. Of equal confidences on the boundary of bins each bin gets its share at their mean
    correctness and mean weight, so that the order of the examples never matters. With fewer examples than bins some
    bins are empty.

    It is biased upwards: `noise_floor` says what a perfectly calibrated model would show. For a mean over devices merge
    their `CalibrationBins` (`psum`) and compute once: `pmean` of their errors is larger than the error of all.

    Raises `ValueError` for wrong shapes, `num_bins` below 1, an unknown option, or, eagerly, values that no
    probability, label or weight has; `TypeError` for labels that are not integers.

    Elsewhere: torchmetrics has l1, l2 (with the root, as here) and max with equal-width bins, where float32 edges can
    put k / bins left of its edge and a confidence of 1 has a bin of its own. netcal's `ECE` is the l1, by default with
    10 bins; its equal-mass bins have quantiles as edges, so that ties stay together and bins differ in size.
    uncertainty-calibration defaults to the debiased l2 in equal-mass bins; also there ties stay together.

    >>> probs = jnp.array([[0.8, 0.2], [0.6, 0.4]])
    >>> round(expected_calibration_error(probs, jnp.array([0, 1]), num_bins=10).item(), 4)
    0.4
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return binned_calibration_error(confidence, correct, weights=weights, num_bins=num_bins, binning=binning, norm=norm)


@checked(static_argnames=_BINNED)
def maximum_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
) -> Scalar:
    r"""Returns the largest gap between accuracy and confidence of a non-empty bin, in [0, 1].

    $$\max_b \left| \mathrm{acc}_b - \mathrm{conf}_b \right|$$

    The `norm="max"` of `expected_calibration_error` (Naeini et al. 2015), and so in torchmetrics and netcal (`MCE`).
    Bins of few examples decide it.

    >>> probs = jnp.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    >>> maximum_calibration_error(probs, jnp.array([0, 1, 1]), num_bins=10).item()
    0.5
    """
    return expected_calibration_error(
        outputs, labels, from_logits=from_logits, weights=weights, num_bins=num_bins, binning=binning, norm="max"
    )


@checked(static_argnames=_BINNED)
def average_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
) -> Scalar:
    r"""Returns the unweighted mean over the non-empty bins of the gap between accuracy and confidence, in [0, 1].

    $$\frac{1}{|\{b : n_b > 0\}|} \sum_{b : n_b > 0} \left| \mathrm{acc}_b - \mathrm{conf}_b \right|$$

    The `norm="average"` of `expected_calibration_error` (Neumann, Zisserman & Vedaldi 2018), netcal's `ACE`: bins of
    few examples count as much as full ones. Not to be confused with `adaptive_calibration_error`, also called ACE.

    >>> probs = jnp.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    >>> average_calibration_error(probs, jnp.array([0, 1, 1]), num_bins=10).item()
    0.375
    """
    return expected_calibration_error(
        outputs, labels, from_logits=from_logits, weights=weights, num_bins=num_bins, binning=binning, norm="average"
    )


@checked(static_argnames=_BINNED)
def debiased_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_mass",
) -> Scalar:
    r"""Returns the l2 calibration error less what the noise of the labels adds to it, in [0, 1].

    $$\sqrt{\max\left(0, \sum_b \frac{n_b}{n} \left[ (\mathrm{acc}_b - \mathrm{conf}_b)^2
    - \frac{\mathrm{acc}_b (1 - \mathrm{acc}_b)}{n_b - 1} \right] \right)}$$

    Kumar, Liang & Ma 2019, Section 5. Bins of one example cannot be debiased and contribute nothing. `n_b - 1` counts
    examples, which is right for masks and an approximation for other weights. Ties in equal-mass bins are shared as in
    `expected_calibration_error`.

    Elsewhere: uncertainty-calibration's `get_calibration_error` is the class-wise one unless `mode="top-label"`, and
    puts the edges of its bins between confidences, so that ties stay together and bins differ in size; outputs with
    many repeated values get one bin for each value.

    >>> probs = jnp.tile(jnp.array([[0.75, 0.25]]), (5, 1))
    >>> round(debiased_calibration_error(probs, jnp.array([0, 0, 1, 1, 1]), num_bins=1).item(), 4)
    0.25
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return debiased_error_of(bins_of(confidence, correct, weights, num_bins, binning))


@checked(static_argnames=_BINNED)
def overconfidence_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
) -> Scalar:
    r"""Returns the calibration error of the overconfident bins only, weighted by their confidence, in [0, 1].

    $$\sum_b \frac{n_b}{n} \mathrm{conf}_b \max(\mathrm{conf}_b - \mathrm{acc}_b, 0)$$

    Thulasidasan et al. 2019, Section 3.1. The excess is weighted by the confidence; without that factor it would be the
    overconfident part of the l1 error.

    >>> overconfidence_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item()
    0.125
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return overconfidence_error_of(bins_of(confidence, correct, weights, num_bins, binning))


@checked(static_argnames="from_logits")
def signed_calibration_gap(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns mean confidence minus accuracy, in [-1, 1]: positive means overconfident. Needs no bins, has no bias.

    $$\frac{1}{n} \sum_i (\mathrm{conf}_i - \mathrm{correct}_i)$$

    >>> signed_calibration_gap(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item()
    0.125
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return weighted_mean(confidence - where_defined(correct, confidence), weights)


@checked(static_argnames="from_logits")
def kolmogorov_smirnov_calibration_error(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the largest gap between cumulative confidence and cumulative accuracy, in [0, 1]; it has no bins.

    $$\max_c \left| \frac{1}{n} \sum_{i : \mathrm{conf}_i \le c} (\mathrm{correct}_i - \mathrm{conf}_i) \right|$$

    Gupta et al. 2021, Eq. 8. Examples of equal confidence are added together, so their order does not matter; the
    authors' code, like others that take the maximum over a cumulative sum, looks between ties too.

    >>> round(kolmogorov_smirnov_calibration_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item(), 4)
    0.25
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    weights = jnp.ones_like(confidence) if weights is None else weights
    residual = weighted(correct - confidence, weights)
    key = jnp.where(weights == 0, jnp.inf, confidence)
    key, residual = jax.lax.sort((key, residual), num_keys=1, is_stable=True)
    last_of_equals = jnp.append(key[1:] != key[:-1], True)[: key.size]
    gaps = jnp.where(last_of_equals, jnp.abs(jnp.cumsum(residual)), 0)
    # One NaN makes all NaN; dividing by the sum of weights makes nothing out of nothing.
    return (gaps.max(initial=0) + 0 * residual.sum()) / weights.sum()
