"""Which bin a confidence falls in, and what a bin gets of equal confidences that lie on its boundary."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxprune.metrics._arguments import Outcomes, PerExample
from jaxprune.metrics.edges import equal_width_bins


class Segments(NamedTuple):
    """What rows are summed into: first the bins, then the runs of ties that lie in more than one equal-mass bin.

    Each bin has `shares` of the runs, and counts the rows between two of the ranks `starts`; equal-width bins have
    neither.
    """

    index: Int[Array, " batch"]
    shares: Float[Array, "bins runs"] | None = None
    starts: Int[Array, " edges"] | None = None


def assign_bins(
    confidence: PerExample, correct: Outcomes, weights: PerExample | None, num_bins: int, binning: str
) -> tuple[PerExample, Outcomes, PerExample | None, Segments]:
    """Returns the rows, sorted where the binning needs it, and the segment of each."""
    if binning == "equal_width":
        return confidence, correct, weights, Segments(equal_width_bins(confidence, num_bins=num_bins))
    if weights is None:
        confidence, correct = jax.lax.sort((confidence, correct), num_keys=1, is_stable=True)
        return confidence, correct, None, equal_mass_segments(confidence, jnp.asarray(confidence.size), num_bins)
    # Rows of weight 0 sort behind all others, so that the ranks of the rest are those without them.
    confidence = jnp.where(weights == 0, jnp.inf, confidence)
    confidence, correct, weights = jax.lax.sort((confidence, correct, weights), num_keys=1, is_stable=True)
    return confidence, correct, weights, equal_mass_segments(confidence, (weights != 0).sum(), num_bins)


def equal_mass_index(rank: Int[Array, " batch"], size: Int[Array, ""], num_bins: int) -> Int[Array, " batch"]:
    """Returns the bin of each rank when `size` ranks are split as by `numpy.array_split`: the longer bins first."""
    length, longer = size // num_bins, size % num_bins
    start = longer * (length + 1)
    index = jnp.where(rank < start, rank // (length + 1), longer + (rank - start) // jnp.maximum(length, 1))
    return jnp.clip(index, 0, num_bins - 1)


def equal_mass_segments(confidence: PerExample, size: Int[Array, ""], num_bins: int) -> Segments:
    """Returns the segments of ascending confidences, of which the first `size` count.

    Which of equal confidences comes first is chance, or the order of the file. A run of them that lies on the boundary
    of bins is a segment of its own, of which each bin gets the share that its ranks are of the run's.
    """
    index = equal_mass_index(jnp.arange(confidence.size), size, num_bins)
    bins = jnp.arange(num_bins + 1)
    starts = bins * (size // num_bins) + jnp.minimum(bins, size % num_bins)
    if num_bins == 1 or confidence.size == 0:
        return Segments(index, None, starts)
    boundary = starts[1:-1]
    before, after = (confidence.at[rank].get(mode="clip") for rank in (boundary - 1, boundary))
    on_run = (boundary > 0) & (boundary < size) & (before == after)
    value = jnp.where(on_run, after, jnp.nan)
    run = (value[:, None] == value[None, :]).argmax(axis=1)  # named by the first boundary on it
    of_lower, of_upper = jnp.append(jnp.nan, value), jnp.append(value, jnp.nan)
    run_of_lower = jnp.append(0, run)
    index = jnp.where(
        confidence == of_lower[index],
        num_bins + run_of_lower[index],
        jnp.where(confidence == of_upper[index], num_bins + index, index),
    )
    first, end = (jnp.searchsorted(confidence, value, side=side) for side in ("left", "right"))
    overlap = jnp.minimum(end[None], starts[1:, None]) - jnp.maximum(first[None], starts[:-1, None])
    length = jnp.where(on_run, end - first, 1)
    shares = jnp.where(on_run[None], jnp.maximum(overlap, 0) / length[None], 0)
    return Segments(index, shares, starts)
