"""Figures of the damage by class: every sparsity as a heat map, the highest with its intervals."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes

from jaxprune.report import damage, heat_maps, pictures, tables, theme, words
from jaxprune.report.damage import ClassChange
from jaxprune.report.evidence import Evidence
from jaxprune.report.theme import Panel, Plot

INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
BAR_WIDTH, ZERO_WIDTH = 1.4, 0.9
# More classes than this are no longer legible one by one: the most damaged are shown.
MAX_CLASSES = 20


def of_classes(family: pd.DataFrame, evidence: Evidence, name: str) -> list[Plot]:
    """Returns the figure, or nothing where no outputs per image were kept."""
    changes = damage.class_changes(evidence)
    if not changes:
        return []
    class_names, methods = pictures.class_names(evidence.run_dir), tables.methods(family)
    panels, limit = [], max(max(abs(PERCENT * each.estimate.value) for each in changes), 1.0)
    norm = colors.Normalize(-limit, limit)
    for method in dict.fromkeys(each.network.method for each in changes):
        own = [each for each in changes if each.network.method == method]
        highest = max(each.network.sparsity for each in own)
        last = sorted((each for each in own if each.network.sparsity == highest), key=lambda each: each.estimate.value)
        last = last[:MAX_CLASSES]
        title, index = words.as_start(words.method(method)), methods.index(method)
        inches = (theme.PANEL_INCHES[0], heat_maps.FRAME_INCHES + heat_maps.ROW_INCHES * len(last))
        draw = partial(_draw, changes=last, class_names=class_names)
        panels.append(Panel(f"{title}, {words.sparsity(highest)} sparse", draw, inches, method=index))
        kept = {each.label for each in last}
        grid = pd.DataFrame(
            [
                (_name(each.label, class_names), each.network.sparsity, PERCENT * each.estimate.value)
                for each in own
                if each.label in kept
            ],
            columns=["class", "sparsity", "change"],
        ).pivot(index="class", columns="sparsity", values="change")
        grid = grid.reindex([_name(each.label, class_names) for each in last])
        colour_map = theme.diverging()
        panels.append(heat_maps.panel(f"{title}, every sparsity", grid, colour_map, norm, method=index, signed=True))
    significant = sum(each.is_significant for each in changes)
    caption = words.caption(
        "Change of the clean accuracy of each class from the dense to the pruned network, in points, on the same "
        f"images, most damaged class first. Networks {words.stage(evidence.stage)}.",
        f"{significant} of {words.counted(len(changes), 'change')} differ from zero after Holm's correction; filled "
        "marks are among them.",
        words.evidence(family),
        words.intervals("Bars", {"accuracy": [each.estimate for each in changes]}),
    )
    return [Plot(name, "Damage by class", caption, tuple(panels))]


def _name(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if label < len(class_names) else f"class {label}"


def _draw(axes: Axes, *, changes: list[ClassChange], class_names: Sequence[str]) -> None:
    axes.axvline(0, color=INK, linewidth=ZERO_WIDTH)
    for row, each in enumerate(changes):
        value, low, high = (PERCENT * end for end in each.estimate[:3])
        colour = theme.SERIES[0][0]
        axes.plot([low, high], [row, row], color=colour, linewidth=BAR_WIDTH)
        face = colour if each.is_significant else theme.INTERFACE["paper"][0]
        axes.plot([value], [row], marker="o", color=colour, markerfacecolor=face, linestyle="none")
        name = _name(each.label, class_names)
        text = f"{name}: {words.points(each.estimate.value)} ({words.number(each.estimate.low, signed=True)} to "
        text += f"{words.number(each.estimate.high, signed=True)}), {each.num_images:,} images"
        theme.tip(axes, value, row, text)
    axes.set_yticks(np.arange(len(changes)), [_name(each.label, class_names) for each in changes])
    axes.invert_yaxis()
    axes.set_xlabel("Change of accuracy, points")
