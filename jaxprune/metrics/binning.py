"""Confidence bins: which bin a confidence falls in, what a bin keeps, and the errors read off the bins."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from jaxprune.metrics._arguments import (
    NORMS,
    Outcomes,
    PerExample,
    Scalar,
    as_integers,
    as_outcomes,
    as_outputs,
    as_per_example,
    as_weights,
    check_bins,
    check_option,
    check_positive,
)
from jaxprune.metrics._rows import top_label
from jaxprune.metrics._sums import (
    COARSE,
    COARSE_SEGMENTS,
    FINE,
    Pair,
    add,
    count_segments,
    exactly,
    psum,
    segment_sum,
    subtract,
    weighted,
)

COMPARE_ALL_UP_TO = 64  # bins; above it a binary search beats comparing with every edge


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

    @partial(jax.jit, static_argnames="from_logits")
    def update(
        self, outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
    ) -> "CalibrationBins":
        """Returns the bins with a batch added; rows of weight 0 (padding) do not count."""
        outputs = as_outputs(outputs)
        labels = as_integers("labels", labels, outputs.shape[0])
        confidence, _, correct = top_label(outputs, labels, from_logits=from_logits)
        return self.update_examples(confidence, correct, weights=weights)

    @jax.jit
    def update_examples(
        self, confidence: ArrayLike, correct: ArrayLike, *, weights: ArrayLike | None = None
    ) -> "CalibrationBins":
        """Returns the bins with a batch added, given as its confidences and whether each prediction was right."""
        confidence = as_per_example("confidence", confidence)
        correct = as_outcomes(correct, confidence.shape[0])
        weights = as_weights(weights, confidence.shape[0])
        index = equal_width_index(confidence, self.count.shape[0])
        return self.merge(fill_bins(confidence, correct, weights, index, self.count.shape[0]))

    @jax.jit
    def merge(self, other: "CalibrationBins") -> "CalibrationBins":
        """Returns the bins of both; raises `ValueError` when they have different bins."""
        if self.count.shape != other.count.shape:
            raise ValueError(
                f"cannot merge {self.count.shape[-1]} bins with {other.count.shape[-1]}; "
                "make both with the same num_bins"
            )
        sums = (add(mine, theirs) for mine, theirs in zip(self[1:], other[1:], strict=True))
        return CalibrationBins(self.count + other.count, *sums)

    def psum(self, axis_name: str | tuple[str, ...]) -> "CalibrationBins":
        """Returns the bins of all devices of the mapped axis, on each of them (under `pmap`, `shard_map`, `vmap`)."""
        return CalibrationBins(jax.lax.psum(self.count, axis_name), *(psum(pair, axis_name) for pair in self[1:]))

    @partial(jax.jit, static_argnames="norm")
    def compute(self, *, norm: str = "l1") -> Scalar:
        """Returns the expected calibration error of what the bins hold, NaN when they are empty."""
        check_option("norm", norm, NORMS)
        return calibration_error_of(self, norm)


@partial(jax.jit, static_argnames=("num_bins", "binning", "norm"))
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


def assign_bins(
    confidence: PerExample, correct: Outcomes, weights: PerExample | None, num_bins: int, binning: str
) -> tuple[PerExample, Outcomes, PerExample | None, Int[Array, " batch"]]:
    """Returns the rows, sorted where the binning needs it, and the bin of each."""
    if binning == "equal_width":
        return confidence, correct, weights, equal_width_index(confidence, num_bins)
    rank = jnp.arange(confidence.size)
    if weights is None:
        confidence, correct = jax.lax.sort((confidence, correct), num_keys=1, is_stable=True)
        return confidence, correct, None, equal_mass_index(rank, jnp.asarray(rank.size), num_bins)
    # Rows of weight 0 sort behind all others, so that the ranks of the rest are those without them.
    confidence = jnp.where(weights == 0, jnp.inf, confidence)
    confidence, correct, weights = jax.lax.sort((confidence, correct, weights), num_keys=1, is_stable=True)
    return confidence, correct, weights, equal_mass_index(rank, (weights != 0).sum(), num_bins)


def fill_bins(
    confidence: PerExample, correct: Outcomes, weights: PerExample | None, index: Int[Array, " batch"], num_bins: int
) -> CalibrationBins:
    """Returns the counts and sums of each bin."""
    if weights is None:
        is_count = correct.dtype == bool
        count, num_correct = count_segments(correct if is_count else jnp.ones_like(index, bool), index, num_bins)
        grid = COARSE if num_bins <= COARSE_SEGMENTS else FINE
        return CalibrationBins(
            count=count,
            weight=exactly(count),
            correct=exactly(num_correct) if is_count else segment_sum(correct, index, num_bins),
            confidence=segment_sum(confidence, index, num_bins, grid),
        )
    count = jax.ops.segment_sum((weights != 0).astype(jnp.int32), index, num_bins)
    columns = (weights, weighted(correct.astype(weights.dtype), weights), weighted(confidence, weights))
    return CalibrationBins(count, *(segment_sum(column, index, num_bins) for column in columns))


def equal_width_edges(num_bins: int) -> np.ndarray:
    """Returns the `num_bins + 1` edges k / bins, in float64."""
    return np.arange(num_bins + 1) / num_bins


def equal_width_index(confidence: PerExample, num_bins: int) -> Int[Array, " batch"]:
    """Returns bin k for confidences in [k / bins, (k + 1) / bins), both ends of the last bin included.

    The edges are float32(k / bins), compared and not multiplied, so that a confidence equal to an edge is right of it.
    """
    edges = equal_width_edges(num_bins)[1:-1].astype(confidence.dtype)
    method = "compare_all" if num_bins <= COMPARE_ALL_UP_TO else "scan_unrolled"
    return jnp.searchsorted(edges, confidence, side="right", method=method).astype(jnp.int32)


def equal_mass_index(rank: Int[Array, " batch"], size: Int[Array, ""], num_bins: int) -> Int[Array, " batch"]:
    """Returns the bin of each rank when `size` ranks are split as by `numpy.array_split`: the longer bins first."""
    length, longer = size // num_bins, size % num_bins
    start = longer * (length + 1)
    index = jnp.where(rank < start, rank // (length + 1), longer + (rank - start) // jnp.maximum(length, 1))
    return jnp.clip(index, 0, num_bins - 1)


def calibration_error_of(bins: CalibrationBins, norm: str) -> Scalar:
    """Returns the norm of the gaps between accuracy and confidence, NaN when the bins are empty."""
    gap = subtract(bins.correct, bins.confidence).value
    weight = bins.weight.value
    mass = weight.sum()
    if norm == "l1":
        return jnp.abs(gap).sum() / mass
    occupied = jnp.where(weight == 0, 1, weight)
    if norm == "l2":
        return jnp.sqrt((gap**2 / occupied).sum() / mass)
    return jnp.where(mass == 0, jnp.nan, jnp.abs(gap / occupied).max())


def debiased_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the l2 error with the variance of each bin's accuracy subtracted, NaN when the bins are empty."""
    weight = bins.weight.value
    occupied = jnp.where(weight == 0, 1, weight)
    gap = subtract(bins.correct, bins.confidence).value / occupied
    accuracy = bins.correct.value / occupied
    variance = accuracy * (1 - accuracy) / jnp.maximum(bins.count - 1, 1)
    squares = jnp.where(bins.count == 1, 0, weight * (gap**2 - variance))
    return jnp.sqrt(jnp.maximum(squares.sum() / weight.sum(), 0))


def overconfidence_error_of(bins: CalibrationBins) -> Scalar:
    """Returns the confidence-weighted sum of the gaps of overconfident bins, NaN when the bins are empty."""
    weight = bins.weight.value
    confidence = bins.confidence.value / jnp.where(weight == 0, 1, weight)
    excess = jnp.maximum(subtract(bins.confidence, bins.correct).value, 0)
    return (confidence * excess).sum() / weight.sum()
