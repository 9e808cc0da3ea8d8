"""What a smaller network costs: accuracy, calibration and robustness against size, and the front of the best."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from jaxprune.report import tables, theme, words
from jaxprune.report.evidence import ACCURACY, CLEAN_SET, ECE, Evidence, Network
from jaxprune.report.resampling import Estimate
from jaxprune.report.theme import Panel, Plot

INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
BAR_WIDTH, LINE_WIDTH = 0.8, 1.1
RING_POINTS, RING_WIDTH = 9.5, 1.2
DENSE_POINTS = 9
# A size axis is logarithmic where its ends differ by more than this factor.
LOGARITHMIC_FROM = 8
LOGARITHMIC_TICKS = (1, 2, 5)
SIZES = {"Non-zero parameters": "num_nonzero", "Multiply-accumulates": "multiply_accumulates"}


class Mark(NamedTuple):
    """One network of a trade-off."""

    series: int
    name: str
    size: float
    estimate: Estimate
    is_dense: bool


def of_family(family: pd.DataFrame, evidence: Evidence, name: str) -> Plot:
    """Returns the figure of one arm: a series per method."""
    methods = tables.methods(family)
    series = {words.method(method): index for index, method in enumerate(methods)}
    return _plot(name, "Trade-off against size", [(family, evidence, "")], series)


def of_arms(parts: Sequence[tuple[pd.DataFrame, Evidence]], name: str, labels: Sequence[str]) -> Plot:
    """Returns the figure of several arms: a series per arm and method, controls left out."""
    series = {}
    for (family, _), label in zip(parts, labels, strict=True):
        for method in tables.methods(family):
            if method not in tables.RANDOM.values():
                series[f"{label}, {words.method(method)}"] = len(series)
    joined = [(*part, f"{label}, ") for part, label in zip(parts, labels, strict=True)]
    return _plot(name, "All arms: trade-off against size", joined, series)


def _plot(name: str, title: str, parts, series: dict[str, int]) -> Plot:
    # Long names take a line of the legend each.
    inches = (theme.PANEL_INCHES[0], theme.PANEL_INCHES[1] + theme.LEGEND_LINE_INCHES * (len(series) - 1))
    panels, estimates = [], {"accuracy": [], "calibration error": []}
    for size, column in SIZES.items():
        for heading, measure, is_corrupted in _measures(parts):
            marks = [
                mark
                for family, evidence, prefix in parts
                for mark in _marks(family, evidence, prefix, series, column, measure, is_corrupted)
            ]
            estimates["accuracy" if measure == ACCURACY else "calibration error"] += [mark.estimate for mark in marks]
            high = measure == ACCURACY
            draw = partial(_draw, marks=marks, series=series, size=size, better_high=high)
            panels.append(Panel(heading, draw, inches, choice=size))
    rows = pd.concat([family for family, _, _ in parts])
    stages = {evidence.stage for _, evidence, _ in parts}
    caption = words.caption(
        "Each network by its size and what it keeps; crosses are dense networks. Rings mark the front: no other "
        "network of the panel is both smaller and better. A masked weight is no non-zero parameter, but saves no "
        f"multiply-accumulate. Networks {' or '.join(words.stage(stage) for stage in sorted(stages))}.",
        words.evidence(rows) if len(parts) == 1 else "",
        words.intervals("Bars", estimates),
    )
    return Plot(name, title, caption, tuple(panels))


def _measures(parts) -> list[tuple[str, str, bool]]:
    out = [("Clean accuracy, %", ACCURACY, False), ("Clean calibration error, %", ECE, False)]
    if any(evidence.corrupted() for _, evidence, _ in parts):
        out += [("Corrupted accuracy, %", ACCURACY, True), ("Corrupted calibration error, %", ECE, True)]
    return out


def _marks(
    family, evidence: Evidence, prefix: str, series, column: str, measure: str, is_corrupted: bool
) -> list[Mark]:
    test_sets = evidence.corrupted() if is_corrupted else (CLEAN_SET,)
    if not test_sets:
        return []
    sizes = family.groupby([*Network._fields])[column].mean()
    out, dense = [], evidence.dense()
    for method in tables.methods(family):
        key = f"{prefix}{words.method(method)}"
        if key not in series:
            continue
        pruned = family[(family["method"] == method) & (family["stage"] == evidence.stage)]
        networks = [Network(method, evidence.stage, s) for s in sorted(pruned["sparsity"].unique()) if s > 0]
        for network in [*([dense] if dense else []), *networks]:
            found = evidence.level(network, test_sets, measure)
            if np.isfinite(found.value):
                is_dense = network == dense
                name = f"{prefix}dense" if is_dense else f"{key} {words.sparsity(network.sparsity)}"
                out.append(Mark(series[key], name, float(sizes[tuple(network)]), found, is_dense))
    return out


def _draw(axes: Axes, *, marks: list[Mark], series: dict[str, int], size: str, better_high: bool) -> None:
    for name, index in series.items():
        own = sorted((mark for mark in marks if mark.series == index), key=lambda mark: mark.size)
        if not own:
            continue
        x, y = [mark.size for mark in own], np.array([PERCENT * mark.estimate.value for mark in own])
        ends = PERCENT * np.array([[mark.estimate.low, mark.estimate.high] for mark in own]).T
        method = index if len(series) and not any(", " in key for key in series) else None
        drawn = axes.errorbar(
            x,
            y,
            None if np.isnan(ends).all() else np.abs(ends - y),
            color=theme.SERIES[index % len(theme.SERIES)][0],
            marker=theme.MARKERS[index % len(theme.MARKERS)],
            linewidth=LINE_WIDTH,
            elinewidth=BAR_WIDTH,
            label=name,
        )
        for artist in (drawn.lines[0], *drawn.lines[2]):
            theme.of_method(artist, method)
        for mark, value in zip(own, y, strict=True):
            text = f"{mark.name}: {words.percent(mark.estimate.value)} at {mark.size:,.0f} {size.lower()}"
            theme.tip(axes, mark.size, value, text, method=method)
    dense = [mark for mark in marks if mark.is_dense]
    axes.plot(
        [mark.size for mark in dense],
        [PERCENT * mark.estimate.value for mark in dense],
        linestyle="none",
        marker="x",
        markersize=DENSE_POINTS,
        color=INK,
        zorder=4,
    )
    best = front(marks, better_high=better_high)
    axes.plot(
        [mark.size for mark in best],
        [PERCENT * mark.estimate.value for mark in best],
        linestyle="none",
        marker="o",
        markersize=RING_POINTS,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=RING_WIDTH,
        zorder=3,
    )
    sizes = [mark.size for mark in marks if mark.size > 0]
    if sizes and max(sizes) > LOGARITHMIC_FROM * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=LOGARITHMIC_TICKS))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: words.amount(value))
    axes.set_xlabel(size)


def front(marks: Sequence[Mark], *, better_high: bool) -> list[Mark]:
    """Returns the networks that no other beats: at most as large, at least as good, and better in one of the two."""
    sign = 1 if better_high else -1

    def beats(other: Mark, mark: Mark) -> bool:
        no_worse = other.size <= mark.size and sign * other.estimate.value >= sign * mark.estimate.value
        return no_worse and (other.size, other.estimate.value) != (mark.size, mark.estimate.value)

    return [mark for mark in marks if not any(beats(other, mark) for other in marks)]
