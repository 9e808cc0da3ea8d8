"""The look of every figure and of the page, and what panels are made into: PNG and PDF for papers, SVG for the page.

Every colour has two values, by day and by night; the page's style sheet has them as variables, which the SVG refer to.
"""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from jaxprune.report.bootstrap import IntervalEstimate

# Names that the page's style sheet uses too: (light, dark).
INTERFACE = {
    "paper": ("#fdfdfc", "#14171b"),
    "card": ("#f4f5f6", "#1d2127"),
    "ink": ("#1b1e23", "#e7e5e1"),
    "muted": ("#5a616b", "#a3a9b2"),
    "grid": ("#dcdfe3", "#363c45"),
    "accent": ("#0b5c94", "#7cc4f2"),
    # Okabe and Ito's green and vermilion, with the contrast that text needs.
    "yes": ("#00694d", "#2fcb9c"),
    "no": ("#a34700", "#ff8b3d"),
}
# Okabe and Ito's colour-blind-safe palette (Wong 2011, Nature Methods 8:441), lifted for the dark page.
SERIES = (
    ("#0072b2", "#4da9ea"),
    ("#d55e00", "#ff8b3d"),
    ("#009e73", "#2fcb9c"),
    ("#cc79a7", "#eb9fc8"),
    ("#e69f00", "#f6c14d"),
    ("#56b4e9", "#a8dcff"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = INTERFACE["ink"][0]
# Steps of viridis that stand out from white, and from the dark page.
RAMP_STEPS = 12
RAMP_LIGHT, RAMP_DARK = (0.80, 0.0), (0.35, 1.0)
HEAT_MAP, DIVERGING = "cividis", "PuOr"

# Of red, green and blue (WCAG 2, relative luminance).
LUMINANCE_WEIGHTS = (0.2126, 0.7152, 0.0722)

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.columnspacing": 1.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INTERFACE["muted"][0],
    "axes.labelcolor": INTERFACE["ink"][0],
    "axes.titlecolor": INTERFACE["ink"][0],
    "text.color": INTERFACE["ink"][0],
    "xtick.color": INTERFACE["muted"][0],
    "ytick.color": INTERFACE["muted"][0],
    "xtick.labelcolor": INTERFACE["ink"][0],
    "ytick.labelcolor": INTERFACE["ink"][0],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INTERFACE["grid"][0],
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxprune",
}

PANEL_INCHES = (4.6, 3.5)
PNG_DPI = 160
TO_PERCENT = 100.0
BAND_OPACITY, BAR_WIDTH = 0.16, 0.8
# Around the axes, in inches: what is always there, and what labels and legends add.
MARGINS = {"left": 0.16, "right": 0.14, "bottom": 0.27, "top": 0.33}
LETTER_INCHES, LABEL_INCHES, LEGEND_LINE_INCHES, LEGEND_GAP_INCHES = 0.073, 0.19, 0.185, 0.08
# What fits on one line of a legend as wide as a panel: this many characters, of which a line's sample takes some.
LEGEND_CHARACTERS, LEGEND_HANDLE_CHARACTERS = 66, 8
# What the pointer meets: larger than a marker, and with nothing to see.
TIP_POINTS, TIP_COLOUR = 11, (0.0, 0.0, 0.0, 0.0)
# A hundredth of a point is the last digit of a coordinate: nobody sees more.
_COORDINATES = ("d", "x", "y", "transform")
_MORE_DIGITS = re.compile(r"(\.\d\d)\d+")


@dataclass(frozen=True)
class Panel:
    """One drawing: on the page an image of its own, so that panels stack on a phone; in the PNG one of several."""

    title: str
    draw: Callable[[Axes], None]
    inches: tuple[float, float] = PANEL_INCHES
    # The page shows the panels of one choice at a time (a stage, for instance), and hides those of methods not wanted.
    choice: str = ""
    method: int | None = None


@dataclass(frozen=True)
class Plot:
    """A captioned figure of one or more panels, laid out `columns` to a line."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2

    @property
    def choices(self) -> list[str]:
        """What the panels are chosen by, the first one shown first."""
        return list(dict.fromkeys(panel.choice for panel in self.panels))


def annotate(artist: Artist, *, method: int | None = None, texts: Sequence[str] = ()) -> None:
    """Says for the page which method an artist belongs to, by its number among the section's, and what its points say.

    matplotlib writes an artist's group id into the SVG, so the note travels in it.
    """
    if method is not None or texts:
        artist.set_gid(json.dumps({"method": method, "texts": list(texts)}))


def add_tips(
    axes: Axes, x: Sequence[float], y: Sequence[float], texts: Sequence[str], method: int | None = None
) -> None:
    """Puts texts on points of the drawing, which the page shows where the pointer or finger is."""
    known = [each for each in zip(x, y, texts, strict=True) if np.isfinite(each[:2]).all()]
    if known:
        x, y, texts = zip(*known, strict=True)
        annotate(axes.scatter(x, y, s=TIP_POINTS**2, color=TIP_COLOUR, zorder=9), method=method, texts=texts)


class Mark(NamedTuple):
    """One point of a series: where it lies, its estimate (a fraction, drawn in percent), and what it says of itself."""

    x: float
    estimate: IntervalEstimate
    text: str


def draw_series(
    axes: Axes,
    marks: Sequence[Mark],
    *,
    colour: str,
    label: str,
    marker: str | None,
    method: int | None = None,
    has_band: bool = False,
    **options,
) -> None:
    """Draws a line through the marks that are known, with their intervals as bars or a band, and their texts."""
    marks = [mark for mark in marks if np.isfinite(mark.estimate.value)]
    if not marks:
        return
    x = [mark.x for mark in marks]
    y, low, high = (TO_PERCENT * np.array(ends) for ends in zip(*(mark.estimate[:3] for mark in marks), strict=True))
    drawn = axes.plot(x, y, color=colour, marker=marker, label=label, **options)
    if has_band:
        drawn.append(axes.fill_between(x, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0))
    else:
        drawn.append(axes.vlines(x, low, high, color=colour, linewidth=BAR_WIDTH))
    for artist in drawn:
        annotate(artist, method=method)
    add_tips(axes, x, y, [mark.text for mark in marks], method)


def series(index: int) -> tuple[str, str]:
    """Returns colour and marker of a series by its place among all."""
    return SERIES[index % len(SERIES)][0], MARKERS[index % len(MARKERS)]


def ramp(step: int, steps: int) -> str:
    """Returns the colour of entry `step` of an ordered series of `steps`."""
    position = 0 if steps < 2 else round(step * (RAMP_STEPS - 1) / (steps - 1))
    return _ramp_colour(RAMP_LIGHT, position)


def heat_map(*, reverse: bool) -> colors.Colormap:
    """Returns the colour map of heat maps, dark for low values, or for high ones with `reverse`."""
    return matplotlib.colormaps[f"{HEAT_MAP}_r" if reverse else HEAT_MAP]


def diverging() -> colors.Colormap:
    """Returns the colour map of changes: orange for losses, purple for gains."""
    return matplotlib.colormaps[DIVERGING]


def readable_on(background: tuple[float, ...]) -> str:
    """Returns black or white, whichever contrasts more with an RGB(A) colour in [0, 1]."""
    return max("#000000", "#ffffff", key=lambda text: contrast(background, colors.to_rgb(text)))


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Returns the contrast of two RGB(A) colours in [0, 1]: 1 (equal) to 21 (black on white), as WCAG 2 defines it."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def palette() -> dict[str, tuple[str, str]]:
    """Returns every colour by the name of its style-sheet variable, as a pair (light, dark) of `#rrggbb`."""
    lines = {f"series-{index}": pair for index, pair in enumerate(SERIES)}
    steps = {f"ramp-{i}": (_ramp_colour(RAMP_LIGHT, i), _ramp_colour(RAMP_DARK, i)) for i in range(RAMP_STEPS)}
    return INTERFACE | lines | steps


def files(plot: Plot) -> dict[str, bytes]:
    """Returns the figure on white as `png` and `pdf`, all its panels together."""
    columns = min(plot.columns, len(plot.panels))
    lines = -(-len(plot.panels) // columns)
    width = columns * max(panel.inches[0] for panel in plot.panels)
    height = lines * max(panel.inches[1] for panel in plot.panels)
    png, pdf = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        cells = figure.subfigures(lines, columns, squeeze=False).ravel()
        for panel, cell in zip(plot.panels, cells, strict=False):
            _draw(panel, cell, (width / columns, height / lines))
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return {"png": png.getvalue(), "pdf": pdf.getvalue()}


def svgs(plot: Plot) -> list[str]:
    """Returns each panel as an `<svg>` element to put into HTML: colours are style-sheet variables, text is text."""
    return [_svg(panel, f"{plot.name}-{index}") for index, panel in enumerate(plot.panels)]


def _svg(panel: Panel, prefix: str) -> str:
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=panel.inches)
        _draw(panel, figure, panel.inches)
        figure.savefig(out, format="svg", transparent=True)
    # Several drawings share one page, so their ids must differ; colours follow the page, by day and by night.
    root = _without_namespaces(ElementTree.fromstring(out.getvalue()))
    variables = {light: f"var(--{name})" for name, (light, _) in palette().items()}
    for element in [*root.iter()]:
        note = element.get("id", "")
        if note.startswith("{"):
            del element.attrib["id"]
            _apply_note(element, **json.loads(note))
        for name, value in element.items():
            element.set(name, _for_page(name, value, prefix, variables))
    root.attrib |= {"role": "img", "aria-label": panel.title}
    return ElementTree.tostring(root, encoding="unicode")


def _without_namespaces(root: ElementTree.Element) -> ElementTree.Element:
    """Returns the drawing as HTML takes it: no name spaces, no metadata, no size of its own, no style sheet."""
    for element in [*root.iter()]:
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.items()}
        element.tag = element.tag.rpartition("}")[2]
        for child in [*element]:
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    return root


def _apply_note(group: ElementTree.Element, method: int | None, texts: Sequence[str]) -> None:
    """Marks a group with its method, and puts each of its points into a group of its own with a text."""
    if method is not None:
        group.set("data-method", f"{method}")
    if not texts:
        return
    defined = {shape for definitions in group.iter("defs") for shape in definitions.iter()}
    points = [
        (parent, place, child)
        for parent in group.iter()
        for place, child in enumerate(parent)
        if child.tag in ("use", "path") and child not in defined
    ]
    for (parent, place, point), text in zip(points, texts, strict=True):
        tip = ElementTree.Element("g", {"class": "tip"})
        ElementTree.SubElement(tip, "title").text = text
        tip.append(point)
        parent[place] = tip


def _for_page(name: str, value: str, prefix: str, variables: Mapping[str, str]) -> str:
    """Returns the value of an attribute as the page needs it."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    if name in _COORDINATES:
        return _MORE_DIGITS.sub(r"\1", value)
    if name != "style":
        return value.replace("url(#", f"url(#{prefix}-")
    style = dict(part.split(": ", 1) for part in value.split("; "))
    if "font" in style:  # matplotlib before 3.11
        style["font-size"] = next(part for part in style.pop("font").split() if part.endswith("px"))
    style.pop("font-family", None)  # the page's own
    return "; ".join(f"{key}: {variables.get(each, each)}" for key, each in style.items())


def _draw(panel: Panel, figure: FigureBase, inches: tuple[float, float]) -> None:
    """Draws a panel with margins for its labels and legend, estimated from their letters.

    matplotlib's own layout measures every text several times, which takes longer than all the drawing.
    """
    axes = figure.add_subplot()
    axes.set_title(panel.title)
    panel.draw(axes)
    handles, labels = axes.get_legend_handles_labels()
    lines = 0
    if labels:
        columns = max(1, LEGEND_CHARACTERS // (max(map(len, labels)) + LEGEND_HANDLE_CHARACTERS))
        lines = -(-len(labels) // columns)
        figure.legend(handles, labels, loc="lower center", ncols=columns, borderaxespad=0.3)
    legend = LEGEND_LINE_INCHES * lines + (LEGEND_GAP_INCHES if lines else 0)
    bottom = MARGINS["bottom"] + (LABEL_INCHES if axes.get_xlabel() else 0) + legend
    width, height = inches
    for _ in range(2):  # again with the ticks that the axes have at their height
        letters = max((len(label.get_text()) for label in axes.get_yticklabels()), default=0)
        left = MARGINS["left"] + LETTER_INCHES * letters + (LABEL_INCHES if axes.get_ylabel() else 0)
        sizes = 1 - (left + MARGINS["right"]) / width, 1 - (bottom + MARGINS["top"]) / height
        axes.set_position((left / width, bottom / height, *sizes))


def _luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return sum(weight * c for weight, c in zip(LUMINANCE_WEIGHTS, linear, strict=True))


def _ramp_colour(ends: tuple[float, float], position: int) -> str:
    start, stop = ends
    return colors.to_hex(matplotlib.colormaps["viridis"](start + (stop - start) * position / (RAMP_STEPS - 1)))
