"""Uncertainty by resampling: bootstrap intervals, paired differences, and the error that noise alone would show."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jaxprune.metrics._arguments import Scalar, as_per_example, as_weights
from jaxprune.metrics._checked import checked, refuse_arguments
from jaxprune.metrics._operators import refuse_arithmetic, short_repr
from jaxprune.metrics._options import NORMS, check_bins, check_level, check_option, check_positive
from jaxprune.metrics._segments import assign_bins
from jaxprune.metrics.binning import calibration_error_of, fill_bins


class Bootstrap(NamedTuple):
    """An estimate with its percentile interval; every field has the structure of what the metric returns."""

    estimate: Any
    low: Any
    high: Any
    standard_error: Any
    p_value: Any  # two-sided, of the estimate being zero
    samples: Any  # [num_samples, ...]

    __repr__ = short_repr
    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


class NoiseFloor(NamedTuple):
    """What a perfectly calibrated model with the same confidences and number of examples would show."""

    mean: Scalar
    standard_deviation: Scalar
    quantile_95: Scalar
    samples: Float[Array, " samples"]

    __repr__ = short_repr
    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


def bootstrap(
    key: Key[Array, ""],
    metric: Callable[..., Any],
    *arrays: Any,
    num_samples: int = 1000,
    level: float = 0.95,
    chunk_size: int = 8,
) -> Bootstrap:
    """Returns the `Bootstrap` of `metric(*arrays)` over the examples, the leading axis of all arrays.

    Rows are drawn with replacement, the same rows of every array: what is paired stays paired. `arrays` and what the
    metric returns may be trees (`ExampleStatistics` in, the dictionary of `summarize_examples` out). `chunk_size`
    resamples are in memory at a time.

    How often a 95 % interval holds the truth, in 500 simulated problems of 300 examples whose true l2 calibration error
    is 0.05: accuracy 94 %, Brier score 95 %, debiased calibration error 86 %, equal-mass calibration error 0 % (41 % at
    2,000 examples), since it is biased upwards and resampling adds the bias once more. So for calibration bootstrap the
    `debiased_calibration_error`, or compare with the `noise_floor`. The smallest `p_value` is 2 / (num_samples + 1).

    The metric is compiled once: give the same function object each time, not a new lambda. Leave padding out, or give
    the mask as one of the arrays. Raises `ValueError` when the arrays differ in their number of examples or have none,
    and for values that a metric of this package (or a `functools.partial` of one) refuses; a function of your own sees
    no values, since it is traced.

    The estimate does not depend on the order of the examples. The interval does as it does on the key: another order is
    another draw.

    >>> from jaxprune.metrics import accuracy
    >>> probs, labels = jnp.tile(jnp.array([[0.75, 0.25]]), (100, 1)), jnp.arange(100) % 2
    >>> result = bootstrap(jax.random.key(0), accuracy, probs, labels, num_samples=200)
    >>> result.estimate.item(), bool(result.low < 0.5 < result.high), bool(0.04 < result.standard_error < 0.06)
    (0.5, True, True)
    """
    _check(arrays, num_samples, level, chunk_size)
    refuse_arguments(metric, *arrays)
    return _summarize(*_resample(key, arrays, metric, num_samples, chunk_size), float(level))


def bootstrap_difference(
    key: Key[Array, ""],
    metric: Callable[..., Any],
    outputs: ArrayLike,
    reference_outputs: ArrayLike,
    labels: ArrayLike,
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    chunk_size: int = 8,
) -> Bootstrap:
    """Returns the `Bootstrap` of `metric(outputs, labels) - metric(reference_outputs, labels)`, paired.

    Both are measured on the same resampled images, so that what is common to them cancels (pruned minus dense on the
    same test set). `p_value` goes into `adjust_p_values` when there is a grid of such comparisons.

    >>> from jaxprune.metrics import brier_score
    >>> dense, labels = jnp.tile(jnp.array([[0.75, 0.25]]), (50, 1)), jnp.zeros(50, int)
    >>> result = bootstrap_difference(jax.random.key(0), brier_score, dense - 0.0, dense, labels, num_samples=100)
    >>> result.estimate.item(), result.p_value.item()
    (0.0, 1.0)
    """
    if jnp.shape(outputs) != jnp.shape(reference_outputs):
        raise ValueError(
            f"outputs and reference_outputs must have one shape, got {jnp.shape(outputs)} and "
            f"{jnp.shape(reference_outputs)}"
        )
    arrays = outputs, reference_outputs, labels
    _check(arrays, num_samples, level, chunk_size)
    for each in (outputs, reference_outputs):
        refuse_arguments(metric, each, labels)
    # Subtracted outside of the compiled metric, so that equal outputs differ by 0 and not by the rounding of a fused
    # multiplication and subtraction.
    both = _resample(key, arrays, _Both(metric), num_samples, chunk_size)
    estimate, samples = (
        jax.tree.map(lambda x, a=axis: x.take(0, a) - x.take(1, a), values) for axis, values in enumerate(both)
    )
    return _summarize(estimate, samples, float(level))


@checked(static_argnames=("num_bins", "binning", "norm", "num_samples", "chunk_size"))
def noise_floor(
    key: Key[Array, ""],
    confidence: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
    norm: str = "l1",
    num_samples: int = 1000,
    chunk_size: int = 32,
) -> NoiseFloor:
    """Returns the `NoiseFloor` of the binned calibration error for these confidences, `[batch]`.

    Correctness is drawn from the confidences themselves, so the model is perfectly calibrated and all that remains is
    the noise of n labels (the consistency resampling of Bröcker & Smith 2007). An error below `quantile_95` is no
    evidence of miscalibration. Raises as `binned_calibration_error`.

    >>> floor = noise_floor(jax.random.key(0), jnp.linspace(0.5, 1, 1000), num_samples=200)
    >>> round(floor.mean.item(), 2), bool(floor.mean < floor.quantile_95)
    (0.03, True)
    """
    check_bins(num_bins, binning)
    check_option("norm", norm, NORMS)
    check_positive("num_samples", num_samples)
    check_positive("chunk_size", chunk_size)
    confidence = as_per_example("confidence", confidence)
    weights = as_weights(weights, confidence.shape[0])

    # The bins depend on the confidences alone, so they are found once for all samples. Sorted, so that the draws do not
    # depend on the order of the examples.
    if weights is None:
        confidence = jnp.sort(confidence)
    else:
        confidence, weights = jax.lax.sort((jnp.where(weights == 0, jnp.inf, confidence), weights), num_keys=2)
    nothing = jnp.zeros(confidence.shape, bool)
    confidence, _, weights, segments = assign_bins(confidence, nothing, weights, num_bins, binning)

    def sample(key):
        correct = jax.random.uniform(key, confidence.shape) < confidence
        return calibration_error_of(fill_bins(confidence, correct, weights, segments, num_bins), norm)

    samples = jax.lax.map(sample, jax.random.split(key, num_samples), batch_size=chunk_size)
    return NoiseFloor(samples.mean(), samples.std(), jnp.quantile(samples, 0.95), samples)


def _check(arrays, num_samples, level, chunk_size) -> None:
    check_positive("num_samples", num_samples)
    check_positive("chunk_size", chunk_size)
    check_level(level)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            "arrays must share a leading axis of at least one example, got the shapes "
            f"{[jnp.shape(leaf) for leaf in jax.tree.leaves(arrays)]}; bind other arguments with functools.partial"
        )


@partial(jax.jit, static_argnums=(2, 3, 4))
def _resample(key, arrays, metric, num_samples, chunk_size):
    """Returns the metric of all rows and, stacked, of each resample."""
    size = jax.tree.leaves(arrays)[0].shape[0]

    def resample(key):
        rows = jax.random.randint(key, (size,), 0, size)
        return metric(*jax.tree.map(lambda x: jnp.asarray(x)[rows], arrays))

    samples = jax.lax.map(resample, jax.random.split(key, num_samples), batch_size=chunk_size)
    return metric(*arrays), samples


@partial(jax.jit, static_argnums=2)
def _summarize(estimate, samples, level) -> Bootstrap:
    low, high = (
        jax.tree.map(lambda x, q=q: jnp.quantile(x, q, axis=0), samples) for q in ((1 - level) / 2, (1 + level) / 2)
    )
    standard_error = jax.tree.map(lambda x: x.std(axis=0), samples)
    return Bootstrap(estimate, low, high, standard_error, jax.tree.map(_p_value, samples), samples)


def _p_value(samples: Float[Array, "samples *shape"]) -> Float[Array, "*shape"]:
    """Returns twice the smaller tail beyond zero, counting the observed sample as one of them (Davison & Hinkley)."""
    tail = jnp.minimum((samples <= 0).sum(axis=0), (samples >= 0).sum(axis=0))
    value = jnp.minimum(2 * (1 + tail) / (1 + samples.shape[0]), 1)
    return jnp.where(jnp.isnan(samples).any(axis=0), jnp.nan, value)


class _Both(NamedTuple):
    """The metric of two outputs, `[2, ...]`, by one kernel; equal for equal metrics, so that it compiles once."""

    metric: Callable[..., Any]

    def __call__(self, outputs, reference_outputs, labels):
        return jax.vmap(self.metric, in_axes=(0, None))(jnp.stack([outputs, reference_outputs]), labels)
