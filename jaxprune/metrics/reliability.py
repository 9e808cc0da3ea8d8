"""What a reliability diagram shows."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxprune.metrics._arguments import check_bins
from jaxprune.metrics._rows import top_label_arguments
from jaxprune.metrics.binning import CalibrationBins, assign_bins, equal_width_edges, fill_bins


class ReliabilityDiagram(NamedTuple):
    """Per bin: its edges, how many examples it holds, their mean confidence and accuracy (NaN in an empty bin)."""

    lower: Float[Array, " bins"]
    upper: Float[Array, " bins"]
    count: Int[Array, " bins"]
    confidence: Float[Array, " bins"]
    accuracy: Float[Array, " bins"]

    @property
    def signed_gap(self) -> Float[Array, " bins"]:
        """Confidence minus accuracy: positive where the classifier is overconfident."""
        return self.confidence - self.accuracy


@partial(jax.jit, static_argnames=("from_logits", "num_bins", "binning"))
def reliability_diagram(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
) -> ReliabilityDiagram:
    """Returns a `ReliabilityDiagram`, what `metrics.plots.reliability_diagram` draws.

    The edges of equal-mass bins are the smallest and the largest confidence in each. `CalibrationBins` stream the
    equal-width one: `reliability_of(bins)`.

    >>> diagram = reliability_diagram(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]), num_bins=4)
    >>> diagram.count.tolist(), diagram.confidence.tolist(), diagram.accuracy.tolist()
    ([0, 0, 1, 1], [nan, nan, 0.5, 0.75], [nan, nan, 0.0, 1.0])
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    confidence, correct, weights, index = assign_bins(confidence, correct, weights, num_bins, binning)
    bins = fill_bins(confidence, correct, weights, index, num_bins)
    diagram = reliability_of(bins)
    if binning == "equal_width":
        return diagram
    occupied = bins.count > 0
    # Masked rows stand behind all others with an infinite key.
    index = jnp.where(jnp.isposinf(confidence), num_bins, index)
    lower = jax.ops.segment_min(confidence, index, num_bins + 1)[:num_bins]
    upper = jax.ops.segment_max(confidence, index, num_bins + 1)[:num_bins]
    return diagram._replace(lower=jnp.where(occupied, lower, jnp.nan), upper=jnp.where(occupied, upper, jnp.nan))


def reliability_of(bins: CalibrationBins) -> ReliabilityDiagram:
    """Returns the diagram of equal-width `CalibrationBins`.

    >>> bins = CalibrationBins.empty(num_bins=2).update(jnp.array([[0.75, 0.25]]), jnp.array([0]))
    >>> reliability_of(bins).accuracy.tolist(), reliability_of(bins).lower.tolist()
    ([nan, 1.0], [0.0, 0.5])
    """
    weight = bins.weight.value
    edges = jnp.asarray(equal_width_edges(bins.count.shape[0]))
    return ReliabilityDiagram(
        lower=edges[:-1],
        upper=edges[1:],
        count=bins.count,
        confidence=bins.confidence.value / weight,
        accuracy=bins.correct.value / weight,
    )
