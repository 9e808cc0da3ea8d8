"""The paper's figures from one arm's rows: clean accuracy and calibration, and both by severity, against sparsity."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxprune.report import damage_figures, heat_maps, reliability, tables, theme, trade_off, words
from jaxprune.report.evidence import ACCURACY, CLEAN_SET, ECE, Evidence, Network, TestSet
from jaxprune.report.resampling import Estimate
from jaxprune.report.theme import Panel, Plot

NOUNS = {ACCURACY: "accuracy", ECE: "calibration error"}
LABELS = {ACCURACY: "Accuracy, %", ECE: "Calibration error (ECE), %"}
INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
BAND_OPACITY = 0.16
BASELINE_WIDTH, LINE_WIDTH, BAR_WIDTH = 1.1, 1.3, 0.8
LIMITS_MARGIN = 0.05
# Points of several lines at one severity are moved apart by this much, so that their bars can be told from each other.
DODGE = 0.03


class Point(NamedTuple):
    """One mark of a figure, in percent, and what it says of itself."""

    x: float
    estimate: Estimate
    text: str

    @property
    def y(self) -> float:
        """The value."""
        return PERCENT * self.estimate.value


def plots(family: pd.DataFrame, evidence: Evidence, prefix: str) -> list[Plot]:
    """Returns all figures of the rows of one data set and arm; their names begin with `prefix`."""
    out = [_clean(family, evidence, f"{prefix}-clean")]
    if evidence.corrupted():
        out += [
            _severity(family, evidence, f"{prefix}-corrupted-accuracy", ACCURACY),
            _severity(family, evidence, f"{prefix}-corrupted-calibration", ECE),
            heat_maps.corruptions(family, f"{prefix}-corruptions-accuracy", ACCURACY),
            heat_maps.corruptions(family, f"{prefix}-corruptions-calibration", ECE),
        ]
    out.append(trade_off.of_family(family, evidence, f"{prefix}-trade-off"))
    out += reliability.diagrams(family, evidence, f"{prefix}-reliability")
    out += damage_figures.of_classes(family, evidence, f"{prefix}-classes")
    return out


def networks(evidence: Evidence, method: str, stage: str) -> list[Network]:
    """Returns the dense baseline of a stage and the networks of a method, by sparsity."""
    line = tables.curve(evidence.family[[*tables.NETWORK]].drop_duplicates(), method, stage)
    return [Network(*each) for each in line[list(Network._fields)].itertuples(index=False)]


def say(estimate: Estimate) -> str:
    """Returns an estimate in percent with its interval."""
    ends = f" ({words.number(estimate.low)} to {words.number(estimate.high)})" if estimate.has_interval else ""
    return f"{words.percent(estimate.value)}{ends}"


def draw_line(axes: Axes, points: Sequence[Point], index: int, *, label: str, method: int | None) -> None:
    """Draws a series with its band, each point with its text."""
    colour = theme.SERIES[index % len(theme.SERIES)][0]
    marker = theme.MARKERS[index % len(theme.MARKERS)]
    x, y = [point.x for point in points], [point.y for point in points]
    low, high = ([PERCENT * getattr(point.estimate, end) for point in points] for end in ("low", "high"))
    (line,) = axes.plot(x, y, color=colour, marker=marker, label=label)
    band = axes.fill_between(x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
    for artist in (line, band):
        theme.of_method(artist, method)
    for point in points:
        theme.tip(axes, point.x, point.y, point.text, method=method)


def _clean(family: pd.DataFrame, evidence: Evidence, name: str) -> Plot:
    panels, estimates = [], {ACCURACY: [], ECE: []}
    stages = [evidence.stage, *(stage for stage in tables.stages(family) if stage != evidence.stage)]
    for stage in stages:
        for measure in (ACCURACY, ECE):
            curves = {
                method: [
                    Point(PERCENT * each.sparsity, evidence.level(each, [CLEAN_SET], measure), "")
                    for each in networks(evidence, method, stage)
                ]
                for method in tables.methods(family)
            }
            estimates[measure] += [point.estimate for line in curves.values() for point in line]
            title = f"Clean {NOUNS[measure]}, {words.stage(stage)}"
            draw = partial(_draw_curves, curves=curves, measure=measure)
            panels.append(Panel(title, draw, choice=words.as_start(words.stage(stage))))
    clean = family[family["corruption"] == tables.CLEAN]
    has_control = not tables.baseline(family, tables.FINE_TUNED)["stage"].eq(tables.AS_TRAINED).all()
    dense = "as trained before fine-tuning, with the same fine-tuning budget after it" if has_control else "as trained"
    caption = words.caption(
        "Accuracy and expected calibration error on clean test images against sparsity. The dashed line is the dense "
        f"network, {dense}. Each panel has its own scale.",
        words.binning(clean),
        words.evidence(clean),
        words.intervals("Bands", {NOUNS[measure]: found for measure, found in estimates.items()}),
    )
    return Plot(name, "Clean accuracy and calibration against sparsity", caption, tuple(panels))


def _draw_curves(axes: Axes, *, curves: dict[str, list[Point]], measure: str) -> None:
    for index, (method, line) in enumerate(curves.items()):
        points = [
            point._replace(text=f"{words.method(method)} at {point.x:g} % sparsity: {say(point.estimate)}")
            for point in line
            if np.isfinite(point.y)
        ]
        draw_line(axes, points, index, label=words.method(method), method=index)
    dense = next((line[0] for line in curves.values() if line and line[0].x == 0), None)
    if dense is not None:
        axes.axhline(dense.y, color=INK, linestyle="--", linewidth=BASELINE_WIDTH, label="dense")
    if measure == ECE:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="Sparsity, % of prunable weights or channels removed", ylabel=LABELS[measure])


def _severity(family: pd.DataFrame, evidence: Evidence, name: str, measure: str) -> Plot:
    stage = evidence.stage
    severities = sorted({severity for _, severity in evidence.test_sets})
    by_severity = {
        severity: evidence.corrupted(severity) if severity else (CLEAN_SET,)
        for severity in severities
        if severity or CLEAN_SET in evidence.test_sets
    }
    curves = {
        method: {each: _by_severity(evidence, each, by_severity, measure) for each in networks(evidence, method, stage)}
        for method in tables.methods(family)
    }
    estimates = [point.estimate for lines in curves.values() for line in lines.values() for point in line]
    limits = _limits(estimates, measure)
    panels = tuple(
        Panel(
            f"{words.as_start(words.method(method))}, {words.stage(stage)}",
            partial(_draw_severities, lines=lines, measure=measure, limits=limits),
            method=index,
        )
        for index, (method, lines) in enumerate(curves.items())
    )
    corrupted = tables.corrupted(family)
    what = "accuracy" if measure == ACCURACY else "expected calibration error (10 equal-width bins)"
    baseline = tables.baseline(family, stage)["stage"]
    dense = "not measured" if baseline.empty else words.stage(baseline.iloc[0])
    caption = words.caption(
        f"Mean {what} over the corruptions at each severity; one line per sparsity. The dashed line is the dense "
        f"network ({dense}). All panels have the same scale.",
        words.corruptions(corrupted),
        words.evidence(corrupted),
        words.intervals("Bars", {NOUNS[measure]: estimates}),
    )
    return Plot(name, f"Corrupted {NOUNS[measure]} by severity", caption, panels)


def _by_severity(
    evidence: Evidence, network: Network, by_severity: dict[int, Sequence[TestSet]], measure: str
) -> list[Point]:
    return [Point(severity, evidence.level(network, each, measure), "") for severity, each in by_severity.items()]


def _limits(estimates: Iterable[Estimate], measure: str) -> tuple[float, float]:
    ends = PERCENT * np.array([[each.value, each.low, each.high] for each in estimates]).reshape(-1)
    ends = ends[np.isfinite(ends)]
    if not ends.size:
        return 0.0, PERCENT
    low, high = ends.min(), ends.max()
    margin = LIMITS_MARGIN * max(high - low, 1.0)
    return (0.0 if measure == ECE else max(low - margin, 0.0)), high + margin


def _draw_severities(
    axes: Axes, *, lines: dict[Network, list[Point]], measure: str, limits: tuple[float, float]
) -> None:
    sparsities = [network.sparsity for network in lines]
    pruned = [sparsity for sparsity in sparsities if sparsity > 0]
    for index, (network, line) in enumerate(lines.items()):
        points = [point for point in line if np.isfinite(point.y)]
        if not points:
            continue
        dense = network.sparsity == 0
        name = "dense" if dense else f"{words.sparsity(network.sparsity)} sparse"
        x = [point.x + DODGE * (index - (len(sparsities) - 1) / 2) for point in points]
        y = np.array([point.y for point in points])
        ends = PERCENT * np.array([[point.estimate.low, point.estimate.high] for point in points]).T
        step = 0 if dense else pruned.index(network.sparsity)
        axes.errorbar(
            x,
            y,
            None if np.isnan(ends).all() else np.clip(np.abs(ends - y), 0, None),
            color=INK if dense else theme.ramp(step, len(pruned)),
            marker=None if dense else theme.MARKERS[step % len(theme.MARKERS)],
            linestyle="--" if dense else "-",
            linewidth=LINE_WIDTH,
            elinewidth=BAR_WIDTH,
            label=name,
            zorder=3 if dense else 2,
        )
        for where, point in zip(x, points, strict=True):
            test_set = f"severity {point.x:g}" if point.x else "clean"
            theme.tip(axes, where, point.y, f"{name}, {test_set}: {say(point.estimate)}")
    severities = sorted({int(point.x) for line in lines.values() for point in line})
    axes.set_xticks(severities, ["clean" if severity == 0 else f"{severity}" for severity in severities])
    axes.set_ylim(limits)
    axes.set(xlabel="Severity of the corruption", ylabel=LABELS[measure])
