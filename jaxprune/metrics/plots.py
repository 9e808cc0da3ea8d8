"""Figures from metrics: matplotlib axes in, the same axes out, so that they compose. Needs the extra `study`.

Import it by name (`from jaxprune.metrics import plots`): `jaxprune.metrics` itself does without matplotlib.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from jaxprune.metrics.intervals import wilson_interval
from jaxprune.metrics.reliability import ReliabilityDiagram
from jaxprune.metrics.selective import RiskCoverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNT_HEIGHT = 0.25  # of the axes, taken by the fullest bin's bar
FAINT = 0.2  # opacity of bands and count bars


def reliability_diagram(
    diagram: ReliabilityDiagram, *, ax: "Axes | None" = None, level: float = 0.95, label: str | None = None
) -> "Axes":
    """Returns axes with accuracy against confidence per bin, Wilson intervals, and the bins' counts as faint bars.

    Below the diagonal the classifier is overconfident. Draw several models by passing the same `ax`.

    >>> import jax.numpy as jnp
    >>> from jaxprune import metrics
    >>> diagram = metrics.reliability_diagram(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]), num_bins=4)
    >>> reliability_diagram(diagram).get_ylabel()
    'accuracy'
    """
    ax = _axes(ax)
    lower, upper, count, confidence, accuracy = (np.asarray(x) for x in diagram)
    occupied = count > 0
    low, high = (np.asarray(end) for end in wilson_interval(accuracy * count, count, level=level))
    # Weighted accuracies can round a hair outside of their own interval.
    below, above = (np.maximum(x, 0)[occupied] for x in (accuracy - low, high - accuracy))
    points = ax.errorbar(
        confidence[occupied], accuracy[occupied], (below, above), fmt="o-", markersize=4, capsize=2, label=label
    )
    heights = COUNT_HEIGHT * count[occupied] / max(count.max(), 1)
    ax.bar(
        lower[occupied],
        heights,
        width=(upper - lower)[occupied],
        align="edge",
        color=points[0].get_color(),
        alpha=FAINT,
    )
    if not any(line.get_gid() == "diagonal" for line in ax.lines):
        ax.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, gid="diagonal")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    if label is not None:
        ax.legend(loc="upper left")
    return ax


def calibration_by_severity(
    errors: Mapping[str, ArrayLike | Sequence[float]],
    *,
    ax: "Axes | None" = None,
    intervals: Mapping[str, Sequence[ArrayLike | Sequence[float]]] | None = None,
    quantity: str = "expected calibration error",
) -> "Axes":
    """Returns axes with one line for each model: a quantity `[1 + severities]`, clean first, against severity.

    `intervals` gives bands, model -> (low, high). Raises `ValueError` for a band without its line.

    >>> calibration_by_severity({"dense": [0.02, 0.04, 0.08], "pruned": [0.02, 0.05, 0.1]}).get_xlabel()
    'severity (0 is clean)'
    """
    ax = _axes(ax)
    intervals = intervals or {}
    unknown = sorted(set(intervals) - set(errors))
    if unknown:
        raise ValueError(f"intervals name {unknown}, which errors do not have; errors have {sorted(errors)}")
    for name, values in errors.items():
        values = np.asarray(values)
        severities = np.arange(len(values))
        (line,) = ax.plot(severities, values, marker="o", markersize=4, label=name)
        if name in intervals:
            ax.fill_between(severities, *map(np.asarray, intervals[name]), color=line.get_color(), alpha=FAINT)
    ax.set(xlabel="severity (0 is clean)", ylabel=quantity)
    ax.set_xticks(np.arange(max(map(len, errors.values()), default=1)))
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def risk_coverage(curves: Mapping[str, RiskCoverage], *, ax: "Axes | None" = None) -> "Axes":
    """Returns axes with one risk-coverage curve for each model: lower is better, at every coverage.

    >>> import jax.numpy as jnp
    >>> from jaxprune import metrics
    >>> curve = metrics.risk_coverage(jnp.array([[0.9, 0.1], [0.6, 0.4]]), jnp.array([0, 1]))
    >>> len(risk_coverage({"dense": curve}).lines)
    1
    """
    ax = _axes(ax)
    for name, curve in curves.items():
        ax.plot(np.asarray(curve.coverage), np.asarray(curve.risk), drawstyle="steps-post", label=name)
    ax.set(xlim=(0, 1), xlabel="coverage (most confident first)", ylabel="risk (error rate)")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("metrics.plots needs matplotlib; install it with: pip install 'jaxprune[study]'") from error
    # A figure of its own and not of pyplot: no window, no global list of figures to grow.
    return Figure(layout="constrained").add_subplot()
