"""Heat maps against sparsity, corruption by corruption and class by class, and the classes' changes at the highest."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes

from jaxprune import names
from jaxprune.report import aggregates, drawing, formatting, measurements
from jaxprune.report.drawing import TO_PERCENT, Panel, Plot
from jaxprune.report.formatting import POINTS
from jaxprune.report.measurements import ACCURACY, ECE, ArmResults, ClassChange
from jaxprune.results import images

ROW_INCHES, FRAME_INCHES = 0.27, 0.85
CELL_POINTS = 8
BAR_WIDTH, ZERO_WIDTH = 1.4, 0.9
MARK_POINTS = 4.5
# More classes than this are no longer legible one by one: the most damaged are shown.
MAX_CLASSES = 20

ColourMap = tuple[colors.Colormap, colors.Normalize]


def corruptions(arm: ArmResults, name: str, *, measure: str) -> list[Plot]:
    """Returns the figure of a measure by corruption and sparsity, a panel per method; none without corruptions."""
    if not arm.corrupted():
        return []
    table, grids = aggregates.by_corruption(arm.rows), {}
    for method in arm.methods:
        line = aggregates.curve(table, method, arm.stage)
        grid = TO_PERCENT * line.pivot(index="corruption", columns="sparsity", values=f"{measure}_mean")
        grid = grid.reindex(sorted(grid.index, key=lambda each: (each != names.CLEAN, each)))
        grids[method] = grid.rename(index=formatting.spaced)
    values = np.concatenate([grid.to_numpy().ravel() for grid in grids.values()])
    known = values[np.isfinite(values)] if np.isfinite(values).any() else [0, TO_PERCENT]
    colour_map = drawing.heat_map(reverse=measure == ECE), colors.Normalize(min(known), max(known))
    panels = tuple(
        _panel(
            f"{formatting.capitalized(formatting.method(method))}, {formatting.stage(arm.stage)}",
            grid,
            colour_map,
            index,
        )
        for index, (method, grid) in enumerate(grids.items())
    )
    corrupted = aggregates.corrupted(arm.rows)
    what = "Accuracy" if measure == ACCURACY else "Expected calibration error (10 equal-width bins)"
    caption = formatting.paragraph(
        f"{what} in % of every corruption, mean over its severities and over seeds; sparsity 0 is the dense network. "
        "Darker is worse; all panels have the same scale.",
        formatting.corruptions(corrupted),
        formatting.measured_on(corrupted),
        "The cells show means without an interval; summary.csv and results.csv hold the deviations and every row.",
    )
    noun = "Accuracy" if measure == ACCURACY else "Calibration error"
    return [Plot(name, f"{noun} corruption by corruption", caption, panels)]


def classes(arm: ArmResults, name: str) -> list[Plot]:
    """Returns the figure of the change of every class, or nothing where no outputs per image were kept."""
    changes = measurements.class_changes(arm)
    if not changes:
        return []
    class_names = images.read(arm.run_dir).class_names
    titles = {each.label: images.class_name(each.label, class_names) for each in changes}
    limit = max(*(abs(TO_PERCENT * each.estimate.value) for each in changes), 1.0)
    colour_map, panels = (drawing.diverging(), colors.Normalize(-limit, limit)), []
    for method, variants in arm.pruned().items():
        of_method = [each for each in changes if each.variant in variants]
        if not of_method:
            continue
        highest = max(each.variant.sparsity for each in of_method)
        last = [each for each in of_method if each.variant.sparsity == highest]
        last = sorted(last, key=lambda each: each.estimate.value)[:MAX_CLASSES]
        grid = pd.DataFrame(
            [(each.label, each.variant.sparsity, TO_PERCENT * each.estimate.value) for each in of_method],
            columns=["label", "sparsity", "change"],
        ).pivot(index="label", columns="sparsity", values="change")
        grid = grid.reindex([each.label for each in last]).rename(index=titles)
        title, index = formatting.capitalized(formatting.method(method)), arm.methods.index(method)
        draw = partial(_draw_changes, changes=last, titles=[titles[each.label] for each in last])
        panels.append(Panel(f"{title}, {formatting.sparsity(highest)} sparse", draw, _inches(len(last)), method=index))
        panels.append(_panel(f"{title}, every sparsity", grid, colour_map, index, signed=True))
    significant = sum(each.is_significant for each in changes)
    caption = formatting.paragraph(
        "Change of the clean accuracy of each class from the dense to the pruned network, in points, on the same "
        f"images, most damaged class first. Networks {formatting.stage(arm.stage)}.",
        f"{significant} of {formatting.counted(len(changes), 'change')} differ from zero after Holm's correction; "
        "filled marks are among them.",
        formatting.measured_on(arm.rows),
        formatting.interval_note("Bars", {"accuracy": [each.estimate for each in changes]}),
    )
    return [Plot(name, "Damage by class", caption, tuple(panels))]


def _panel(title: str, grid: pd.DataFrame, colour_map: ColourMap, method: int, *, signed: bool = False) -> Panel:
    """Returns a panel of cells with their values; the columns of `grid` are sparsities, its values in percent."""
    draw = partial(_draw_grid, grid=grid, colour_map=colour_map, signed=signed)
    return Panel(title, draw, _inches(len(grid)), method=method)


def _inches(num_rows: int) -> tuple[float, float]:
    return drawing.PANEL_INCHES[0], FRAME_INCHES + ROW_INCHES * num_rows


def _draw_grid(axes: Axes, *, grid: pd.DataFrame, colour_map: ColourMap, signed: bool) -> None:
    colours, norm = colour_map
    axes.pcolormesh(grid.to_numpy(), cmap=colours, norm=norm, edgecolors="none")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        colour = drawing.readable_on(colours(norm(value))) if np.isfinite(value) else drawing.INK
        text, where = formatting.number(value / TO_PERCENT, signed=signed), (column + 0.5, row + 0.5)
        axes.text(*where, text, color=colour, ha="center", va="center", fontsize=CELL_POINTS)
    axes.set_xticks(np.arange(grid.shape[1]) + 0.5, [formatting.sparsity(value) for value in grid.columns])
    axes.set_yticks(np.arange(grid.shape[0]) + 0.5, list(grid.index))
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_xlabel("Sparsity")


def _draw_changes(axes: Axes, *, changes: Sequence[ClassChange], titles: Sequence[str]) -> None:
    axes.axvline(0, color=drawing.INK, linewidth=ZERO_WIDTH)
    colour, marker = drawing.series(0)
    rows, found = range(len(changes)), [each.estimate for each in changes]
    value, low, high = (TO_PERCENT * np.array(ends) for ends in zip(*(each[:3] for each in found), strict=True))
    axes.hlines(rows, low, high, color=colour, linewidth=BAR_WIDTH)
    faces = [colour if each.is_significant else drawing.INTERFACE["paper"][0] for each in changes]
    axes.scatter(value, rows, s=MARK_POINTS**2, marker=marker, facecolors=faces, edgecolors=colour, zorder=3)
    texts = [
        f"{name}: {formatting.interval(each.estimate, POINTS)}, {formatting.counted(each.num_images, 'image')}"
        for name, each in zip(titles, changes, strict=True)
    ]
    drawing.add_tips(axes, value, rows, texts)
    axes.set_yticks(rows, titles)
    axes.invert_yaxis()
    axes.set_xlabel("Change of accuracy, points")
