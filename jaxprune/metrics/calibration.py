"""Calibration errors of classifiers: does a confidence of 0.8 come true eight times in ten?

`outputs` are probabilities `[batch, classes]` unless `from_logits=True`; labels are class indices `[batch]`; examples
of weight 0 never count. One NaN among what counts, or a label outside of the classes, makes the result NaN; so does
an empty batch. Lower precisions are computed in float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar, check_bins
from jaxprune.metrics._rows import top_label_arguments, where_defined
from jaxprune.metrics._sums import weighted, weighted_mean
from jaxprune.metrics.binning import (
    binned_calibration_error,
    bins_of,
    debiased_error_of,
    overconfidence_error_of,
)

_BINNED = ("from_logits", "num_bins", "binning")


@partial(jax.jit, static_argnames=(*_BINNED, "norm"))
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

    with p = 1 (`norm="l1"`), p = 2 (`"l2"`), or the largest gap of a bin (`"max"`). Empty bins do not count.

    `binning="equal_width"`: bin k holds [k / bins, (k + 1) / bins), the last one also 1, so nothing is lost at 0 or 1
    (Guo et al. 2017, Eq. 3, has bins closed on the right and loses 0). `"equal_mass"`: the examples of non-zero weight
    are sorted by confidence, stably, and split into bins whose sizes differ by at most one, as by `numpy.array_split`;
    weights enter the sums within a bin. With fewer examples than bins some bins are empty.

    It is biased upwards: `noise_floor` says what a perfectly calibrated model would show. Raises `ValueError` for wrong
    shapes, `num_bins` below 1 or an unknown option, `TypeError` for labels that are not integers.

    >>> probs = jnp.array([[0.8, 0.2], [0.6, 0.4]])
    >>> round(expected_calibration_error(probs, jnp.array([0, 1]), num_bins=10).item(), 4)
    0.4
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return binned_calibration_error(confidence, correct, weights=weights, num_bins=num_bins, binning=binning, norm=norm)


@partial(jax.jit, static_argnames=_BINNED)
def maximum_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
) -> Scalar:
    """Returns the largest gap between accuracy and confidence of a non-empty bin, in [0, 1].

    The `norm="max"` of `expected_calibration_error` (Naeini et al. 2015). Bins of few examples decide it.

    >>> probs = jnp.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    >>> maximum_calibration_error(probs, jnp.array([0, 1, 1]), num_bins=10).item()
    0.5
    """
    return expected_calibration_error(
        outputs, labels, from_logits=from_logits, weights=weights, num_bins=num_bins, binning=binning, norm="max"
    )


@partial(jax.jit, static_argnames=_BINNED)
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
    examples, which is right for masks and an approximation for other weights.

    >>> probs = jnp.tile(jnp.array([[0.75, 0.25]]), (5, 1))
    >>> round(debiased_calibration_error(probs, jnp.array([0, 0, 1, 1, 1]), num_bins=1).item(), 4)
    0.25
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return debiased_error_of(bins_of(confidence, correct, weights, num_bins, binning))


@partial(jax.jit, static_argnames=_BINNED)
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

    Thulasidasan et al. 2019, Section 3.1.

    >>> overconfidence_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item()
    0.125
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return overconfidence_error_of(bins_of(confidence, correct, weights, num_bins, binning))


@partial(jax.jit, static_argnames="from_logits")
def signed_calibration_gap(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    """Returns mean confidence minus accuracy, in [-1, 1]: positive means overconfident. Needs no bins, has no bias.

    >>> signed_calibration_gap(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item()
    0.125
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return weighted_mean(confidence - where_defined(correct, confidence), weights)


@partial(jax.jit, static_argnames="from_logits")
def kolmogorov_smirnov_calibration_error(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the largest gap between cumulative confidence and cumulative accuracy, in [0, 1]; it has no bins.

    $$\max_c \left| \frac{1}{n} \sum_{i : \mathrm{conf}_i \le c} (\mathrm{correct}_i - \mathrm{conf}_i) \right|$$

    Gupta et al. 2021, Eq. 8. Examples of equal confidence are added together, so their order does not matter.

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
