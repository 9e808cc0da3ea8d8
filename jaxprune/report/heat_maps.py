"""Heat maps: corruption by corruption, and class by class, against sparsity."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes

from jaxprune.report import tables, theme, words
from jaxprune.report.evidence import ACCURACY, ECE
from jaxprune.report.theme import Panel, Plot

INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
ROW_INCHES, FRAME_INCHES = 0.27, 0.85
CELL_POINTS = 8


def corruptions(family: pd.DataFrame, name: str, measure: str) -> Plot:
    """Returns the figure of a measure by corruption and sparsity, a panel per method."""
    stage = tables.main_stage(family)
    table = tables.by_corruption(family)
    grids = {method: _grid(tables.curve(table, method, stage), measure) for method in tables.methods(family)}
    norm = colors.Normalize(*_finite_range(np.concatenate([grid.to_numpy().ravel() for grid in grids.values()])))
    colour_map = theme.heat_map(reverse=measure == ECE)
    panels = tuple(
        panel(f"{words.as_start(words.method(method))}, {words.stage(stage)}", grid, colour_map, norm, method=index)
        for index, (method, grid) in enumerate(grids.items())
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
    noun = "Accuracy" if measure == ACCURACY else "Calibration error"
    return Plot(name, f"{noun} corruption by corruption", caption, panels)


def panel(
    title: str,
    grid: pd.DataFrame,
    colour_map: colors.Colormap,
    norm: colors.Normalize,
    *,
    method: int,
    signed: bool = False,
) -> Panel:
    """Returns a panel of cells with their values; the columns of `grid` are sparsities, its values in percent."""
    draw = partial(_draw, grid=grid, colour_map=colour_map, norm=norm, signed=signed)
    return Panel(title, draw, (theme.PANEL_INCHES[0], FRAME_INCHES + ROW_INCHES * len(grid)), method=method)


def _grid(line: pd.DataFrame, measure: str) -> pd.DataFrame:
    grid = line.pivot(index="corruption", columns="sparsity", values=f"{measure}_mean")
    return PERCENT * grid.reindex(sorted(grid.index, key=lambda name: (name != tables.CLEAN, name)))


def _finite_range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if finite.size else (0.0, PERCENT)


def _draw(axes: Axes, *, grid: pd.DataFrame, colour_map, norm, signed: bool) -> None:
    axes.pcolormesh(grid.to_numpy(), cmap=colour_map, norm=norm, edgecolors="none")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        known = np.isfinite(value)
        axes.text(
            column + 0.5,
            row + 0.5,
            words.number(value / PERCENT, signed=signed),
            color=theme.readable_on(colour_map(norm(value))) if known else INK,
            ha="center",
            va="center",
            fontsize=CELL_POINTS,
        )
    axes.set_xticks(np.arange(grid.shape[1]) + 0.5, [words.sparsity(value) for value in grid.columns])
    axes.set_yticks(np.arange(grid.shape[0]) + 0.5, [words.plain(str(name)) for name in grid.index])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_xlabel("Sparsity")
