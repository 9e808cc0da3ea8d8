"""Confidence bins: which bin a confidence falls in, what a bin keeps, and the errors read off the bins."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxprune.metrics._arguments import (
    Outcomes,
    PerExample,
    Scalar,
    as_integers,
    as_outcomes,
    as_outputs,
    as_per_example,
    as_weights,
)
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import check_alike, merge_sum, refuse_product
from jaxprune.metrics._options import NORMS, check_bins, check_option, check_positive
from jaxprune.metrics._rows import top_label
from jaxprune.metrics._segments import Segments, assign_bins
from jaxprune.metrics._sums import (
    COARSE,
    COARSE_SEGMENTS,
    FINE,
    Pair,
    add,
    add_counts,
    count_segments,
    exactly,
    psum,
    psum_counts,
    refuse_full,
    segment_sum,
    subtract,
    undefined_if_full,
    weighted,
)
from jaxprune.metrics.edges import equal_width_bins


class CalibrationBins(NamedTuple):
    """Equal-width confidence bins: everything that the equal-width calibration errors need, in O(bins) memory.

    An accumulator: `empty`, `update` with each batch, `merge` (associative and commutative) or `psum` across devices,
    then `compute`. Counts are int32, sums are pairs of floats, so batches, chunks, devices and orders give the same
    numbers. What needs the order of all confidences cannot stream (equal-mass bins, Kolmogorov-Smirnov,
    risk-coverage): keep the `ExampleStatistics` for those, 17 bytes for each example.

    >>> bins = CalibrationBins.empty(num_bins=10)
    >>> bins = bins.update(jnp.array([[0.75, 0.25]]), jnp.array([0]))
    >>> bins = bins.merge(CalibrationBins.empty(num_bins=10).update(jnp.array([[0.5, 0.5]]), jnp.array([1])))
    >>> bins.compute().item(), bins.count.tolist()
    (0.375, [0, 0, 0, 0, 0, 1, 0, 1, 0, 0])
    >>> sum([bins, bins]).count.tolist()  # `first + second` is `first.merge(second)`
    [0, 0, 0, 0, 0, 2, 0, 2, 0, 0]
    """

    count: Int[Array, " bins"]  # examples of non-zero weight
    weight: Pair
    correct: Pair
    confidence: Pair

    @classmethod
    def empty(cls, *, num_bins: int = 15) -> "CalibrationBins":
        """Returns bins that hold nothing, the identity of `merge`."""
        check_positive("num_bins", num_bins)
        zeros = jnp.zeros(num_bins, jnp.float32)
        return cls(jnp.zeros(num_bins, jnp.int32), *3 * [Pair(zeros, zeros)])

    @checked(static_argnames="from_logits")
    def update(
        self, outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
    ) -> "CalibrationBins":
        """Returns the bins with a batch added; rows of weight 0 (padding) do not count."""
        outputs = as_outputs(outputs)
        labels = as_integers("labels", labels, outputs.shape[0])
        confidence, _, correct = top_label(outputs, labels, from_logits=from_logits)
        return self.update_examples(confidence, correct, weights=weights)

    @checked()
    def update_examples(
        self, confidence: ArrayLike, correct: ArrayLike, *, weights: ArrayLike | None = None
    ) -> "CalibrationBins":
        """Returns the bins with a batch added, given as its confidences and whether each prediction was right."""
        confidence = as_per_example("confidence", confidence)
        correct = as_outcomes(correct, confidence.shape[0])
        weights = as_weights(weights, confidence.shape[0])
        index = equal_width_bins(confidence, num_bins=self.count.shape[0])
        return self.merge(fill_bins(confidence, correct, weights, Segments(index), self.count.shape[0]))

    @jax.jit
    def merge(self, other: "CalibrationBins") -> "CalibrationBins":
        """Returns the bins of both, as `+` does; raises `ValueError` when they have different bins."""
        check_alike(self, other)
        if self.count.shape != other.count.shape:
            raise ValueError(
                f"cannot merge {self.count.shape[-1]} bins with {other.count.shape[-1]}; "
                "make both with the same num_bins"
            )
        sums = (add(mine, theirs) for mine, theirs in zip(self[1:], other[1:], strict=True))
        return CalibrationBins(add_counts(self.count, other.count), *sums)

    __add__ = __radd__ = merge_sum
    __mul__ = __rmul__ = refuse_product

    def psum(self, axis_name: str | tuple[str, ...]) -> "CalibrationBins":
        """Returns the bins of all devices of the mapped axis, on each of them (under `pmap`, `shard_map`, `vmap`).

        Compute afterwards: the mean over devices of their errors (`pmean`) is no error of anything, and too large.
        """
        sums = (psum(pair, axis_name) for pair in self[1:])
        return CalibrationBins(psum_counts(self.count, axis_name), *sums)

    def compute(self, *, norm: str = "l1") -> Scalar:
        """Returns the expected calibration error of what the bins hold, NaN when they are empty.

        Raises `OverflowError` when a bin holds 2^31 - 1 examples or more (under a transformation it gives NaN).
        """
        check_option("norm", norm, NORMS)
        refuse_full(self.count)
        return _compute(self, norm)


@checked(static_argnames=("num_bins", "binning", "norm"))
def binned_calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
    norm: str = "l1",
) -> Scalar:
    """Returns the calibration error of confidences `[batch]` against what came true, `[batch]` of 0 and 1.

    `expected_calibration_error` is this for the top label, and says what the options mean. Use it directly for the
    confidences of `example_statistics`, of a detector, or of one class.

    >>> confidence, correct = jnp.array([0.75, 0.5, 1.0]), jnp.array([1, 0, 1])
    >>> round(binned_calibration_error(confidence, correct, num_bins=10).item(), 4)
    0.25
    """
    check_bins(num_bins, binning)
    check_option("norm", norm, NORMS)
    confidence = as_per_example("confidence", confidence)
    correct = as_outcomes(correct, confidence.shape[0])
    weights = as_weights(weights, confidence.shape[0])
    return calibration_error_of(bins_of(confidence, correct, weights, num_bins, binning), norm)


def bins_of(
    confidence: PerExample, correct: Outcomes, weights: PerExample | None, num_bins: int, binning: str
) -> CalibrationBins:
    """Returns the filled bins of one batch."""
    return fill_bins(*assign_bins(confidence, correct, weights, num_bins, binning), num_bins)


def fill_bins(
    confidence: PerExample, correct: Outcomes, weights: PerExample | None, segments: Segments, num_bins: int
) -> CalibrationBins:
    """Returns the counts and sums of each bin."""
    index, shares, starts = segments
    size = num_bins if shares is None else num_bins + shares.shape[1]
    if weights is None:
        is_count = correct.dtype == bool
        count, num_correct = count_segments(correct if is_count else jnp.ones_like(index, bool), index, size)
        sums = (
            exactly(count),
            exactly(num_correct) if is_count else segment_sum(correct, index, size),
            segment_sum(confidence, index, size, COARSE if size <= COARSE_SEGMENTS else FINE),
        )
    else:
        count = jax.ops.segment_sum((weights != 0).astype(jnp.int32), index, size)
        columns = (weights, weighted(correct.astype(weights.dtype), weights), weighted(confidence, weights))
        sums = tuple(segment_sum(column, index, size) for column in columns)
    if starts is not None:
        count = jnp.diff(starts)
    if shares is not None:
        sums = tuple(_shared(pair, shares, num_bins) for pair in sums)
    return CalibrationBins(count.astype(jnp.int32), *sums)


def _shared(segments: Pair, shares: Float[Array, "bins runs"], num_bins: int) -> Pair:
    """Returns the sums of the bins, from those of their own rows and their shares of the runs."""
    own = Pair(segments.high[:num_bins], segments.low[:num_bins])
    parts = (shares * segments.value[None, num_bins:]).sum(axis=1)
    return add(own, Pair(parts, jnp.zeros_like(parts)))


@partial(jax.jit, static_argnames="norm")
def _compute(bins: CalibrationBins, norm: str) -> Scalar:
    return undefined_if_full(bins.count, calibration_error_of(bins, norm))


def calibration_error_of(bins: CalibrationBins, norm: str) -> Scalar:
    """Returns the norm of the gaps between accuracy and confidence, NaN when the bins are empty."""
    gap = subtract(bins.correct, bins.confidence).value
    weight = bins.weight.value
    mass = weight.sum()
    if norm == "l1":
        return jnp.abs(gap).sum() / mass
    if norm == "l2":
        return jnp.sqrt(squared_error_of(bins))
    gaps = jnp.abs(gap / jnp.where(weight == 0, 1, weight))
    if norm == "average":
        return gaps.sum() / (weight != 0).sum()
    return jnp.where(mass == 0, jnp.nan, gaps.max())


def squared_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the weighted mean of the squared gaps, NaN when the bins are empty."""
    weight = bins.weight.value
    gap = subtract(bins.correct, bins.confidence).value
    return (gap**2 / jnp.where(weight == 0, 1, weight)).sum() / weight.sum()


def debiased_square_of(bins: CalibrationBins) -> Scalar:
    """Returns the weighted mean of the squared gaps less the accuracies' variances, NaN when the bins are empty."""
    weight = bins.weight.value
    occupied = jnp.where(weight == 0, 1, weight)
    gap = subtract(bins.correct, bins.confidence).value / occupied
    accuracy = bins.correct.value / occupied
    variance = accuracy * (1 - accuracy) / jnp.maximum(bins.count - 1, 1)
    squares = jnp.where(bins.count == 1, 0, weight * (gap**2 - variance))
    return squares.sum() / weight.sum()


def debiased_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the l2 error with the variance of each bin's accuracy subtracted, NaN when the bins are empty."""
    return jnp.sqrt(jnp.maximum(debiased_square_of(bins), 0))


def overconfidence_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the confidence-weighted sum of the gaps of overconfident bins, NaN when the bins are empty."""
    weight = bins.weight.value
    confidence = bins.confidence.value / jnp.where(weight == 0, 1, weight)
    excess = jnp.maximum(subtract(bins.confidence, bins.correct).value, 0)
    return (confidence * excess).sum() / weight.sum()
