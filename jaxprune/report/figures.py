"""The figures of a report: clean, corrupted by severity, and corruption by corruption, against sparsity."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes

from jaxprune.report import tables, theme, words
from jaxprune.report.theme import Panel, Plot

ACCURACY, ECE = "accuracy", "ece_equal_width_10"
LABELS = {ACCURACY: "Accuracy, %", ECE: "Calibration error (ECE), %"}
INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
BAND_OPACITY = 0.16
BASELINE_WIDTH, LINE_WIDTH, BAR_WIDTH = 1.1, 1.3, 0.8
LIMITS_MARGIN = 0.05
HEAT_MAP_ROW_INCHES = 0.27
HEAT_MAP_FRAME_INCHES = 0.85
# Points of several lines at one severity are moved apart by this much, so that their bars can be told from each other.
DODGE = 0.03


def plots(family: pd.DataFrame) -> list[Plot]:
    """Returns all figures of the rows of one data set and architecture."""
    prefix = "-".join(words.file_stem(family[key].iloc[0]) for key in tables.FAMILY)
    out = [_clean(family, f"{prefix}-clean")]
    if (family["corruption"] != tables.CLEAN).any():
        out += [
            _severity(family, f"{prefix}-corrupted-accuracy", ACCURACY),
            _severity(family, f"{prefix}-corrupted-calibration", ECE),
            _heat_map(family, f"{prefix}-corruptions-accuracy", ACCURACY),
            _heat_map(family, f"{prefix}-corruptions-calibration", ECE),
        ]
    return out


def _clean(family: pd.DataFrame, name: str) -> Plot:
    table = tables.summary(family)
    panels = []
    for stage in tables.stages(family):
        for measure in (ACCURACY, ECE):
            title = f"Clean {'accuracy' if measure == ACCURACY else 'calibration error'}, {words.stage(stage)}"
            panels.append(Panel(title, partial(_draw_curves, table=table, stage=stage, measure=measure)))
    clean = family[family["corruption"] == tables.CLEAN]
    has_control = not tables.baseline(family, tables.FINE_TUNED)["stage"].eq(tables.AS_TRAINED).all()
    dense = "as trained before fine-tuning, with the same fine-tuning budget after it" if has_control else "as trained"
    caption = words.caption(
        "Accuracy and expected calibration error on clean test images against sparsity. The dashed line is the dense "
        f"network, {dense}. Each panel has its own scale.",
        words.binning(clean),
        words.evidence(clean),
        words.accuracy_interval(family),
    )
    return Plot(name, "Clean accuracy and calibration against sparsity", caption, tuple(panels))


def _draw_curves(axes: Axes, *, table: pd.DataFrame, stage: str, measure: str) -> None:
    for index, method in enumerate(tables.methods(table)):
        line = tables.curve(table, method, stage)
        x, y = PERCENT * line["sparsity"], PERCENT * line[f"clean_{measure}_mean"]
        colour = theme.SERIES[index % len(theme.SERIES)][0]
        marker = theme.MARKERS[index % len(theme.MARKERS)]
        axes.plot(x, y, color=colour, marker=marker, label=words.method(method))
        sd = PERCENT * line[f"clean_{measure}_sd"]
        low, high = y - sd, y + sd
        if measure == ACCURACY:
            low = low.fillna(PERCENT * line["clean_accuracy_low"])
            high = high.fillna(PERCENT * line["clean_accuracy_high"])
        axes.fill_between(x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
    dense = tables.baseline(table, stage)
    if not dense.empty:
        level = PERCENT * dense[f"clean_{measure}_mean"].iloc[0]
        axes.axhline(level, color=INK, linestyle="--", linewidth=BASELINE_WIDTH, label="dense")
    if measure == ECE:
        axes.set_ylim(bottom=0)
    axes.set(xlabel="Sparsity, % of prunable weights removed", ylabel=LABELS[measure])


def _severity(family: pd.DataFrame, name: str, measure: str) -> Plot:
    stage = tables.main_stage(family)
    table = tables.by_severity(family)
    curves = {method: tables.curve(table, method, stage) for method in tables.methods(family)}
    limits = _limits(pd.concat(curves.values()), measure)
    panels = tuple(
        Panel(
            f"{words.as_start(words.method(method))}, {words.stage(stage)}",
            partial(_draw_severities, table=line, measure=measure, limits=limits),
        )
        for method, line in curves.items()
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
        words.seed_interval(family),
    )
    noun = "accuracy" if measure == ACCURACY else "calibration error"
    return Plot(name, f"Corrupted {noun} by severity", caption, panels)


def _limits(table: pd.DataFrame, measure: str) -> tuple[float, float]:
    mean, sd = PERCENT * table[f"{measure}_mean"], PERCENT * table[f"{measure}_sd"].fillna(0)
    low, high = (mean - sd).min(), (mean + sd).max()
    if not np.isfinite(high):
        return 0.0, PERCENT
    margin = LIMITS_MARGIN * max(high - low, 1.0)
    return (0.0 if measure == ECE else max(low - margin, 0.0)), high + margin


def _draw_severities(axes: Axes, *, table: pd.DataFrame, measure: str, limits: tuple[float, float]) -> None:
    sparsities = sorted(table["sparsity"].unique())
    pruned = [sparsity for sparsity in sparsities if sparsity > 0]
    for index, sparsity in enumerate(sparsities):
        line = table[table["sparsity"] == sparsity].sort_values("severity")
        dense = sparsity == 0
        sd = PERCENT * line[f"{measure}_sd"]
        x = line["severity"] + DODGE * (index - (len(sparsities) - 1) / 2)
        axes.errorbar(
            x,
            PERCENT * line[f"{measure}_mean"],
            None if sd.isna().all() else sd,
            color=INK if dense else theme.ramp(pruned.index(sparsity), len(pruned)),
            marker=None if dense else theme.MARKERS[pruned.index(sparsity) % len(theme.MARKERS)],
            linestyle="--" if dense else "-",
            linewidth=LINE_WIDTH,
            elinewidth=BAR_WIDTH,
            label="dense" if dense else f"{words.sparsity(sparsity)} sparse",
            zorder=3 if dense else 2,
        )
    severities = sorted(table["severity"].unique())
    axes.set_xticks(severities, ["clean" if severity == 0 else f"{severity}" for severity in severities])
    axes.set_ylim(limits)
    axes.set(xlabel="Severity of the corruption", ylabel=LABELS[measure])


def _heat_map(family: pd.DataFrame, name: str, measure: str) -> Plot:
    stage = tables.main_stage(family)
    table = tables.by_corruption(family)
    grids = {method: _grid(tables.curve(table, method, stage), measure) for method in tables.methods(family)}
    values = np.concatenate([grid.to_numpy().ravel() for grid in grids.values()])
    norm = colors.Normalize(*_finite_range(values))
    panels = tuple(
        Panel(
            f"{words.as_start(words.method(method))}, {words.stage(stage)}",
            partial(_draw_grid, grid=grid, norm=norm, reverse=measure == ECE),
            (theme.PANEL_INCHES[0], HEAT_MAP_FRAME_INCHES + HEAT_MAP_ROW_INCHES * len(grid)),
        )
        for method, grid in grids.items()
    )
    corrupted = tables.corrupted(family)
    what = "Accuracy" if measure == ACCURACY else "Expected calibration error (10 equal-width bins)"
    caption = words.caption(
        f"{what} in % of every corruption, mean over its severities and over seeds; sparsity 0 is the dense network. "
        "Darker is worse; all panels have the same scale.",
        words.corruptions(corrupted),
        words.evidence(corrupted),
        "The cells show means without an interval; summary.csv and results.csv hold the deviations and every row.",
    )
    noun = "accuracy" if measure == ACCURACY else "calibration error"
    return Plot(name, f"{words.as_start(noun)} corruption by corruption", caption, panels)


def _grid(line: pd.DataFrame, measure: str) -> pd.DataFrame:
    grid = line.pivot(index="corruption", columns="sparsity", values=f"{measure}_mean")
    return PERCENT * grid.reindex(sorted(grid.index, key=lambda name: (name != tables.CLEAN, name)))


def _finite_range(values: Sequence[float]) -> tuple[float, float]:
    finite = np.asarray(values)[np.isfinite(values)]
    return (finite.min(), finite.max()) if finite.size else (0.0, PERCENT)


def _draw_grid(axes: Axes, *, grid: pd.DataFrame, norm: colors.Normalize, reverse: bool) -> None:
    colour_map = theme.heat_map(reverse=reverse)
    axes.pcolormesh(grid.to_numpy(), cmap=colour_map, norm=norm, edgecolors="none")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        known = np.isfinite(value)
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value:.1f}" if known else words.UNKNOWN,
            color=theme.readable_on(colour_map(norm(value))) if known else INK,
            ha="center",
            va="center",
            fontsize=8,
        )
    axes.set_xticks(np.arange(grid.shape[1]) + 0.5, [words.sparsity(value) for value in grid.columns])
    axes.set_yticks(np.arange(grid.shape[0]) + 0.5, [words.plain(name) for name in grid.index])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_xlabel("Sparsity")
