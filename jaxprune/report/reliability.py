"""Reliability diagrams: how often each confidence is right, dense against pruned, clean and at the highest severity."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jaxprune.report import tables, theme, words
from jaxprune.report.evidence import CLEAN_SET, Evidence, Network
from jaxprune.report.theme import Panel, Plot

INK = theme.INTERFACE["ink"][0]
PERCENT = 100.0
BAR_WIDTH, LINE_WIDTH, DIAGONAL_WIDTH = 0.8, 1.3, 0.8
DODGE = 0.5
# 97.5 % of the normal distribution lie below.
NORMAL_REACH = 1.959963984540054


def diagrams(family: pd.DataFrame, evidence: Evidence, name: str) -> list[Plot]:
    """Returns the figure, or nothing where no outputs per image were kept."""
    dense = evidence.dense()
    kinds = {"Clean images": (CLEAN_SET,)}
    if evidence.corrupted():
        kinds[f"Severity {evidence.worst_severity}"] = evidence.corrupted(evidence.worst_severity)
    panels = []
    methods = tables.methods(family)
    for kind, test_sets in kinds.items():
        for granularity in ("weights", "channels"):
            for method, networks in evidence.networks(granularity=granularity).items():
                shown = [dense, *_ends(networks)]
                lines = {each: evidence.bins(each, test_sets) for each in shown if each is not None}
                lines = {each: bins for each, bins in lines.items() if bins is not None}
                if len(lines) > 1:
                    title = f"{words.as_start(words.method(method))}, {kind[0].lower()}{kind[1:]}"
                    draw = partial(_draw, lines=lines, num_sets=len(test_sets))
                    panels.append(Panel(title, draw, choice=kind, method=methods.index(method)))
    if not panels:
        return []
    caption = words.caption(
        "Accuracy of the images of each confidence, in 10 equal-width bins. On the diagonal a network is right as "
        "often as it says, below it is overconfident. Of the sparsities the middle and the highest are shown. "
        f"Networks {words.stage(evidence.stage)}.",
        words.evidence(family),
        "Bars: 95 % Wilson interval over the images of one test set, mean over seeds; bins of less than one image are "
        "left out.",
    )
    return [Plot(name, "Reliability, dense against pruned", caption, tuple(panels))]


def _ends(networks: list[Network]) -> list[Network]:
    """Returns the middle and the last."""
    return list(dict.fromkeys([networks[len(networks) // 2], networks[-1]]))


def _draw(axes: Axes, *, lines: dict[Network, np.ndarray], num_sets: int) -> None:
    axes.plot([0, PERCENT], [0, PERCENT], color=INK, linewidth=DIAGONAL_WIDTH, linestyle=":")
    for index, (network, bins) in enumerate(lines.items()):
        count, correct, confidence = bins[:, bins[0] >= num_sets]
        x, y = PERCENT * confidence / count, correct / count
        low, high = _wilson(y, count / num_sets)
        dense = network.method == tables.DENSE
        name = "dense" if dense else f"{words.sparsity(network.sparsity)} sparse"
        x = x + DODGE * (index - 1)
        axes.errorbar(
            x,
            PERCENT * y,
            PERCENT * np.clip([y - low, high - y], 0, None),
            color=INK if dense else theme.SERIES[index - 1][0],
            marker=None if dense else theme.MARKERS[index - 1],
            linestyle="--" if dense else "-",
            linewidth=LINE_WIDTH,
            elinewidth=BAR_WIDTH,
            label=name,
        )
        for where, value, images in zip(x, y, count / num_sets, strict=True):
            text = f"{name}: confidence {where:.1f} %, accuracy {words.percent(value)}, {images:,.0f} images"
            theme.tip(axes, where, PERCENT * value, text)
    axes.set(xlim=(0, PERCENT), ylim=(0, PERCENT), xlabel="Confidence, %", ylabel="Accuracy, %")


def _wilson(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = NORMAL_REACH
    centre, radius = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (centre - radius) / (1 + z**2 / n), (centre + radius) / (1 + z**2 / n)
