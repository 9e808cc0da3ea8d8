"""Calibration errors of classifiers: does a confidence of 0.8 come true eight times in ten?

`outputs` are probabilities `[batch, classes]` unless `from_logits=True`; labels are class indices `[batch]`; examples
of weight 0 never count. One NaN among what counts, or a label outside of the classes, makes the result NaN; so does
an empty batch. Lower precisions are computed in float32.
"""

from functools import partial

import jax
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar, as_integers, as_outputs
from jaxprune.metrics._rows import top_label
from jaxprune.metrics.binning import binned_calibration_error


@partial(jax.jit, static_argnames=("from_logits", "num_bins", "binning", "norm"))
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

    Raises `ValueError` for wrong shapes, `num_bins` below 1 or an unknown option, `TypeError` for labels that are not
    integers.

    >>> import jax.numpy as jnp
    >>> probs = jnp.array([[0.8, 0.2], [0.6, 0.4]])
    >>> round(expected_calibration_error(probs, jnp.array([0, 1]), num_bins=10).item(), 4)
    0.4
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    confidence, _, correct = top_label(outputs, labels, from_logits=from_logits)
    return binned_calibration_error(confidence, correct, weights=weights, num_bins=num_bins, binning=binning, norm=norm)
