"""The figures of an arm: accuracy and calibration against sparsity, severity, confidence and size, and all others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from jaxprune import metrics, names
from jaxprune.report import aggregates, bootstrap, drawing, formatting, heat_maps
from jaxprune.report.bootstrap import IntervalEstimate
from jaxprune.report.drawing import TO_PERCENT, Mark, Panel, Plot
from jaxprune.report.measurements import ACCURACY, CLEAN_SET, ECE, MEASURES, ArmResults, TestSet, Variant

NOUNS = {ACCURACY: "accuracy", ECE: "calibration error"}
LABELS = {ACCURACY: "Accuracy, %", ECE: "Calibration error (ECE), %"}
BASELINE_WIDTH, LINE_WIDTH, TRADE_OFF_WIDTH, DIAGONAL_WIDTH = 1.1, 1.3, 1.1, 0.8
RING_POINTS, RING_WIDTH = 9.5, 1.2
DENSE_POINTS = 9
# A size axis is logarithmic where its ends differ by more than this factor.
LOGARITHMIC_FROM = 8
LOGARITHMIC_TICKS = (1, 2, 5)
SIZES = {"Non-zero parameters": "num_nonzero", "Multiply-accumulates": "multiply_accumulates"}
LIMITS_MARGIN = 0.05
# Points of several lines at one severity, or in one bin, are moved apart by this much, so that their bars can be told
# from each other.
SEVERITY_OFFSET, CONFIDENCE_OFFSET = 0.03, 0.5


def _clean(arm: ArmResults, name: str) -> list[Plot]:
    panels, estimates = [], {measure: [] for measure in MEASURES}
    for stage in [arm.stage, *(stage for stage in aggregates.stages(arm.rows) if stage != arm.stage)]:
        for measure in MEASURES:
            curves = {}
            for method in arm.methods:
                levels = [(each.sparsity, arm.level(each, [CLEAN_SET], measure)) for each in arm.curve(method, stage)]
                estimates[measure] += [level for _, level in levels]
                curves[formatting.method(method)] = levels
            draw = partial(_draw_curves, curves=curves, measure=measure)
            title = formatting.stage(stage)
            panels.append(Panel(f"Clean {NOUNS[measure]}, {title}", draw, choice=formatting.capitalized(title)))
    clean = arm.rows[arm.rows["corruption"] == names.CLEAN]
    is_fine_tuned = arm.dense(names.STAGE_FINE_TUNED) not in (None, arm.dense(names.STAGE_DENSE))
    dense = (
        "as trained before fine-tuning, with the same fine-tuning budget after it" if is_fine_tuned else "as trained"
    )
    caption = formatting.paragraph(
        "Accuracy and expected calibration error on clean test images against sparsity. The dashed line is the dense "
        f"network, {dense}. Each panel has its own scale.",
        formatting.binning(clean),
        formatting.measured_on(clean),
        formatting.interval_note("Bands", {NOUNS[measure]: found for measure, found in estimates.items()}),
    )
    return [Plot(name, "Clean accuracy and calibration against sparsity", caption, tuple(panels))]


def _draw_curves(axes: Axes, *, curves: dict[str, list[tuple[float, IntervalEstimate]]], measure: str) -> None:
    for index, (method, levels) in enumerate(curves.items()):
        marks = [
            Mark(
                TO_PERCENT * sparsity,
                level,
                f"{method} at {TO_PERCENT * sparsity:g} % sparsity: {formatting.interval(level)}",
            )
            for sparsity, level in levels
        ]
        colour, marker = drawing.series(index)
        drawing.draw_series(axes, marks, colour=colour, marker=marker, label=method, method=index, has_band=True)
    dense = next((levels[0][1] for levels in curves.values() if levels and levels[0][0] == 0), None)
    if dense is not None:
        axes.axhline(
            TO_PERCENT * dense.value, color=drawing.INK, linestyle="--", linewidth=BASELINE_WIDTH, label="dense"
        )
    if measure == ECE:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="Sparsity, % of prunable weights or channels removed", ylabel=LABELS[measure])


def _severity(arm: ArmResults, name: str, *, measure: str) -> list[Plot]:
    if not arm.corrupted():
        return []
    test_sets = {0: (CLEAN_SET,)} if CLEAN_SET in arm.test_sets else {}
    test_sets |= {severity: arm.corrupted(severity) for severity in sorted({each for _, each in arm.corrupted()})}
    curves = {
        method: {
            variant: {severity: arm.level(variant, sets, measure) for severity, sets in test_sets.items()}
            for variant in arm.curve(method)
        }
        for method in arm.methods
    }
    estimates = [level for lines in curves.values() for levels in lines.values() for level in levels.values()]
    limits = _limits(estimates, measure)
    panels = tuple(
        Panel(
            f"{formatting.capitalized(formatting.method(method))}, {formatting.stage(arm.stage)}",
            partial(_draw_severities, lines=lines, measure=measure, limits=limits),
            method=index,
        )
        for index, (method, lines) in enumerate(curves.items())
    )
    corrupted, baseline = aggregates.corrupted(arm.rows), arm.dense()
    what = "accuracy" if measure == ACCURACY else "expected calibration error (10 equal-width bins)"
    dense = "not measured" if baseline is None else formatting.stage(baseline.stage)
    caption = formatting.paragraph(
        f"Mean {what} over the corruptions at each severity; one line per sparsity. The dashed line is the dense "
        f"network ({dense}). All panels have the same scale.",
        formatting.corruptions(corrupted),
        formatting.measured_on(corrupted),
        formatting.interval_note("Bars", {NOUNS[measure]: estimates}),
    )
    return [Plot(name, f"Corrupted {NOUNS[measure]} by severity", caption, panels)]


def _limits(estimates: Sequence[IntervalEstimate], measure: str) -> tuple[float, float]:
    """Returns the ends of an axis that holds all values and intervals."""
    ends = TO_PERCENT * np.array([each[:3] for each in estimates])
    ends = ends[np.isfinite(ends)]
    if not ends.size:
        return 0.0, TO_PERCENT
    margin = LIMITS_MARGIN * max(np.ptp(ends), 1.0)
    return (0.0 if measure == ECE else max(ends.min() - margin, 0.0)), ends.max() + margin


def _draw_severities(
    axes: Axes, *, lines: dict[Variant, dict[int, IntervalEstimate]], measure: str, limits: tuple[float, float]
) -> None:
    for index, (variant, levels) in enumerate(lines.items()):
        name, style = _line_style(variant, [each for each in lines if not each.is_dense])
        offset = SEVERITY_OFFSET * (index - (len(lines) - 1) / 2)
        marks = []
        for severity, level in levels.items():
            where = f"severity {severity}" if severity else names.CLEAN
            marks.append(Mark(severity + offset, level, f"{name}, {where}: {formatting.interval(level)}"))
        drawing.draw_series(axes, marks, label=name, linewidth=LINE_WIDTH, **style)
    severities = sorted({severity for levels in lines.values() for severity in levels})
    axes.set_xticks(severities, [f"{severity}" if severity else names.CLEAN for severity in severities])
    axes.set_ylim(limits)
    axes.set(xlabel="Severity of the corruption", ylabel=LABELS[measure])


def _line_style(variant: Variant, pruned: Sequence[Variant]) -> tuple[str, dict]:
    """Returns the name of a line and its looks: the dense one is dashed, the others go from light to dark."""
    if variant.is_dense:
        return names.DENSE, {"colour": drawing.INK, "marker": None, "linestyle": "--", "zorder": 3}
    step = pruned.index(variant)
    style = {"colour": drawing.ramp(step, len(pruned)), "marker": drawing.series(step)[1]}
    return f"{formatting.sparsity(variant.sparsity)} sparse", style


def _reliability(arm: ArmResults, name: str) -> list[Plot]:
    """Returns how often each confidence is right, dense against pruned; nothing where no outputs were kept."""
    choices = {"Clean images": (CLEAN_SET,)}
    if arm.corrupted():
        choices[f"Severity {arm.worst_severity}"] = arm.corrupted(arm.worst_severity)
    panels = []
    for choice, test_sets in choices.items():
        for method, variants in arm.pruned().items():
            shown = dict.fromkeys([arm.dense(), variants[len(variants) // 2], variants[-1]])
            lines = {each: arm.bins(each, test_sets) for each in shown if each is not None}
            lines = {each: bins / len(test_sets) for each, bins in lines.items() if bins is not None}
            if len(lines) > 1:
                title = f"{formatting.capitalized(formatting.method(method))}, {choice[0].lower()}{choice[1:]}"
                draw = partial(_draw_reliability, lines=lines)
                panels.append(Panel(title, draw, choice=choice, method=arm.methods.index(method)))
    caption = formatting.paragraph(
        "Accuracy of the images of each confidence, in 10 equal-width bins. On the diagonal a network is right as "
        "often as it says, below it is overconfident. Of the sparsities the middle and the highest are shown. "
        f"Networks {formatting.stage(arm.stage)}.",
        formatting.measured_on(arm.rows),
        "Bars: 95 % Wilson interval over the images of one test set, mean over seeds; bins of less than one image are "
        "left out.",
    )
    return [Plot(name, "Reliability, dense against pruned", caption, tuple(panels))] if panels else []


def _draw_reliability(axes: Axes, *, lines: dict[Variant, np.ndarray]) -> None:
    axes.plot([0, TO_PERCENT], [0, TO_PERCENT], color=drawing.INK, linewidth=DIAGONAL_WIDTH, linestyle=":")
    for index, (variant, bins) in enumerate(lines.items()):
        count, correct, confidence = bins[:, bins[0] >= 1]
        is_dense, marks = variant.is_dense, []
        name = names.DENSE if is_dense else f"{formatting.sparsity(variant.sparsity)} sparse"
        for n, accuracy, x in zip(count, correct / count, TO_PERCENT * confidence / count, strict=True):
            low, high = map(float, metrics.wilson_interval(accuracy * n, n))
            x += CONFIDENCE_OFFSET * (index - 1)
            text = f"{name}: confidence {x:.1f} %, accuracy {formatting.percent(accuracy)}, {n:,.0f} images"
            marks.append(Mark(x, bootstrap.NO_ESTIMATE._replace(value=accuracy, low=low, high=high), text))
        colour, marker = (drawing.INK, None) if is_dense else drawing.series(index - 1)
        line = "--" if is_dense else "-"
        drawing.draw_series(axes, marks, colour=colour, marker=marker, label=name, linestyle=line, linewidth=LINE_WIDTH)
    axes.set(xlim=(0, TO_PERCENT), ylim=(0, TO_PERCENT), xlabel="Confidence, %", ylabel="Accuracy, %")


# Whose networks a line joins: those of a method of an arm; the last is the arm's name before theirs.
Series = tuple[ArmResults, str, str]


class SizedNetwork(NamedTuple):
    """A variant in a trade-off: its mean size over seeds, and its estimate."""

    name: str
    size: float
    estimate: IntervalEstimate
    is_dense: bool


def known_sizes(arms: Iterable[ArmResults]) -> dict[str, str]:
    """Returns those of `SIZES` that the rows of some arm state."""
    arms = list(arms)
    return {size: column for size, column in SIZES.items() if any(arm.rows[column].notna().any() for arm in arms)}


def _trade_off(arm: ArmResults, name: str) -> list[Plot]:
    """Returns the figure of one arm: a series per method, which the page can hide; none where no size is known."""
    if not known_sizes([arm]):
        return []
    series = {formatting.method(method): (arm, method, "") for method in arm.methods}
    caption = formatting.measured_on(arm.rows)
    return [_trade_off_plot(name, "Trade-off against size", series, caption, has_methods=True)]


def trade_off_of_arms(arms: Mapping[str, ArmResults], name: str) -> Plot:
    """Returns the figure of several arms by their labels: a series per arm and method, controls left out."""
    series = {
        f"{label}, {formatting.method(method)}": (arm, method, f"{label}, ")
        for label, arm in arms.items()
        for method in arm.methods
        if method not in aggregates.CONTROLS
    }
    return _trade_off_plot(name, "All arms: trade-off against size", series, "", has_methods=False)


def _trade_off_plot(
    name: str, title: str, series: Mapping[str, Series], measured_on: str, *, has_methods: bool
) -> Plot:
    # Long names take a line of the legend each.
    inches = (drawing.PANEL_INCHES[0], drawing.PANEL_INCHES[1] + drawing.LEGEND_LINE_INCHES * (len(series) - 1))
    arms = [arm for arm, _, _ in series.values()]
    kinds = ["clean", *(["corrupted"] if any(arm.corrupted() for arm in arms) else [])]
    panels, estimates = [], {noun: [] for noun in NOUNS.values()}
    for size, column in known_sizes(arms).items():
        for kind in kinds:
            for measure, noun in NOUNS.items():
                networks = {}
                for label, (arm, method, prefix) in series.items():
                    test_sets = (CLEAN_SET,) if kind == "clean" else arm.corrupted()
                    networks[label] = _networks(arm, method, prefix, column, test_sets, measure)
                    estimates[noun] += [each.estimate for each in networks[label]]
                draw = partial(
                    _draw_trade_off,
                    series=networks,
                    size=size,
                    is_higher_better=measure == ACCURACY,
                    has_methods=has_methods,
                )
                panels.append(Panel(f"{formatting.capitalized(kind)} {noun}, %", draw, inches, choice=size))
    stages = " or ".join(formatting.stage(stage) for stage in sorted({arm.stage for arm in arms}))
    caption = formatting.paragraph(
        "Each network by its size and what it keeps; crosses are dense networks. Rings mark the Pareto front: no other "
        "network of the panel is both smaller and better. A masked weight is no non-zero parameter, but saves no "
        f"multiply-accumulate. Networks {stages}.",
        measured_on,
        formatting.interval_note("Bars", estimates),
    )
    return Plot(name, title, caption, tuple(panels))


def _networks(
    arm: ArmResults, method: str, prefix: str, column: str, test_sets: Sequence[TestSet], measure: str
) -> list[SizedNetwork]:
    """Returns the dense network and the method's, from the smallest, without those that are not known."""
    sizes, out = arm.rows.groupby([*Variant._fields])[column].mean(), []
    for variant in arm.curve(method):
        name = (
            names.DENSE if variant.is_dense else f"{formatting.method(method)} {formatting.sparsity(variant.sparsity)}"
        )
        found = arm.level(variant, test_sets, measure)
        if np.isfinite(found.value) and np.isfinite(sizes[tuple(variant)]):
            out.append(SizedNetwork(f"{prefix}{name}", float(sizes[tuple(variant)]), found, variant.is_dense))
    return sorted(out, key=lambda each: each.size)


def _draw_trade_off(
    axes: Axes, *, series: Mapping[str, Sequence[SizedNetwork]], size: str, is_higher_better: bool, has_methods: bool
) -> None:
    for index, (label, networks) in enumerate(series.items()):
        marks = []
        for each in networks:
            text = f"{each.name}: {formatting.percent(each.estimate.value)} at {each.size:,.0f} {size.lower()}"
            marks.append(Mark(each.size, each.estimate, text))
        colour, marker = drawing.series(index)
        method = index if has_methods else None
        drawing.draw_series(
            axes, marks, colour=colour, marker=marker, label=label, method=method, linewidth=TRADE_OFF_WIDTH
        )
    everyone = [each for networks in series.values() for each in networks]
    dense = [each for each in everyone if each.is_dense]
    front = pareto_front(everyone, is_higher_better=is_higher_better)
    ring = {"markersize": RING_POINTS, "markerfacecolor": "none", "markeredgewidth": RING_WIDTH, "zorder": 3}
    for marker, shown, style in (("x", dense, {"markersize": DENSE_POINTS, "zorder": 4}), ("o", front, ring)):
        x, y = [each.size for each in shown], [TO_PERCENT * each.estimate.value for each in shown]
        axes.plot(x, y, linestyle="none", marker=marker, color=drawing.INK, **style)
    sizes = [each.size for each in everyone if each.size > 0]
    if sizes and max(sizes) > LOGARITHMIC_FROM * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=LOGARITHMIC_TICKS))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: formatting.amount(value))
    axes.set_xlabel(size)


def pareto_front(networks: Sequence[SizedNetwork], *, is_higher_better: bool) -> list[SizedNetwork]:
    """Returns the networks that no other dominates: at most as large, at least as good, and better in one of both."""
    sign = 1 if is_higher_better else -1

    def dominates(other: SizedNetwork, network: SizedNetwork) -> bool:
        size, value = network.size, sign * network.estimate.value
        is_no_worse = other.size <= size and sign * other.estimate.value >= value
        return is_no_worse and (other.size, sign * other.estimate.value) != (size, value)

    return [each for each in networks if not any(dominates(other, each) for other in networks)]


# The figures of an arm, in the order of the page: from its results and a name to plots, none where it lacks what they
# show. The name is the prefix of the arm and the figure's own.
FIGURES: dict[str, Callable[[ArmResults, str], list[Plot]]] = {
    "clean": _clean,
    "corrupted-accuracy": partial(_severity, measure=ACCURACY),
    "corrupted-calibration": partial(_severity, measure=ECE),
    "corruptions-accuracy": partial(heat_maps.corruptions, measure=ACCURACY),
    "corruptions-calibration": partial(heat_maps.corruptions, measure=ECE),
    "trade-off": _trade_off,
    "reliability": _reliability,
    "classes": heat_maps.classes,
}


def plots(arm: ArmResults, prefix: str) -> list[Plot]:
    """Returns all figures of one arm; their names begin with `prefix`."""
    return [plot for name, draw in FIGURES.items() for plot in draw(arm, f"{prefix}-{name}")]
