"""What a reliability diagram shows."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import refuse_arithmetic
from jaxprune.metrics._options import check_bins
from jaxprune.metrics._rows import top_label_arguments
from jaxprune.metrics._segments import assign_bins
from jaxprune.metrics._sums import refuse_full
from jaxprune.metrics.binning import CalibrationBins, fill_bins
from jaxprune.metrics.edges import equal_width_edges


class ReliabilityDiagram(NamedTuple):
    """Per bin: its edges, how many examples it holds, their mean confidence and accuracy (NaN in an empty bin)."""

    lower: Float[Array, " bins"]
    upper: Float[Array, " bins"]
    count: Int[Array, " bins"]
    confidence: Float[Array, " bins"]
    accuracy: Float[Array, " bins"]

    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic

    @property
    def signed_gap(self) -> Float[Array, " bins"]:
        """Confidence minus accuracy: positive where the classifier is overconfident."""
        return self.confidence - self.accuracy


@checked(static_argnames=("from_logits", "num_bins", "binning"))
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

    The edges of equal-mass bins are the smallest and the largest confidence in each; ties are shared between bins as in
    `expected_calibration_error`. `CalibrationBins` stream the equal-width one: `reliability_of(bins)`.

    >>> diagram = reliability_diagram(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]), num_bins=4)
    >>> diagram.count.tolist(), diagram.confidence.tolist(), diagram.accuracy.tolist()
    ([0, 0, 1, 1], [nan, nan, 0.5, 0.75], [nan, nan, 0.0, 1.0])
    """
    check_bins(num_bins, binning)
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    confidence, correct, weights, segments = assign_bins(confidence, correct, weights, num_bins, binning)
    bins = fill_bins(confidence, correct, weights, segments, num_bins)
    diagram = _diagram(bins)
    if binning == "equal_width":
        return diagram
    ends = (
        confidence.at[rank].get(mode="fill", fill_value=jnp.nan)
        for rank in (segments.starts[:-1], segments.starts[1:] - 1)
    )
    lower, upper = (jnp.where(bins.count > 0, end, jnp.nan) for end in ends)
    return diagram._replace(lower=lower, upper=upper)


def reliability_of(bins: CalibrationBins) -> ReliabilityDiagram:
    """Returns the diagram of equal-width `CalibrationBins`; raises `OverflowError` when their counts are full.

    >>> bins = CalibrationBins.empty(num_bins=2).update(jnp.array([[0.75, 0.25]]), jnp.array([0]))
    >>> reliability_of(bins).accuracy.tolist(), reliability_of(bins).lower.tolist()
    ([nan, 1.0], [0.0, 0.5])
    """
    refuse_full(bins.count)
    return _diagram(bins)


def _diagram(bins: CalibrationBins) -> ReliabilityDiagram:
    weight = bins.weight.value
    edges = jnp.asarray(equal_width_edges(bins.count.shape[0]))
    return ReliabilityDiagram(
        lower=edges[:-1],
        upper=edges[1:],
        count=bins.count,
        confidence=bins.confidence.value / weight,
        accuracy=bins.correct.value / weight,
    )
