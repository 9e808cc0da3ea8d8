"""One look for every figure: its colours by day and by night, PNG for papers, SVG for the page."""

import html
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

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
# Steps of viridis that stand out from white, and from the dark page.
RAMP_STEPS = 12
RAMP_LIGHT, RAMP_DARK = (0.80, 0.0), (0.35, 1.0)
HEAT_MAP, DIVERGING = "cividis", "PuOr"

# Of red, green and blue (WCAG 2, relative luminance).
LUMINANCE_WEIGHTS = (0.2126, 0.7152, 0.0722)

PANEL_INCHES = (4.6, 3.5)
PNG_DPI = 160
# Around the axes, in inches: what is always there, and what labels and legends add.
MARGINS = {"left": 0.16, "right": 0.14, "bottom": 0.27, "top": 0.33}
LETTER_INCHES, LABEL_INCHES, LEGEND_LINE_INCHES, LEGEND_GAP_INCHES = 0.073, 0.19, 0.185, 0.08
# What the pointer meets: larger than a marker, and with nothing to see.
TIP_POINTS, TIP_COLOUR = 11, (0.0, 0.0, 0.0, 0.0)
NOTE_PREFIX = "note-"
# What fits on one line of a legend as wide as a panel: this many characters, of which a line's sample takes some.
LEGEND_CHARACTERS, LEGEND_HANDLE_CHARACTERS = 66, 8

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


def tip(axes: Axes, x: float, y: float, text: str, *, method: int | None = None) -> None:
    """Puts a text on a point of the drawing, which the page shows where the pointer or finger is."""
    if math.isfinite(x) and math.isfinite(y):
        (spot,) = axes.plot([x], [y], marker="o", markersize=TIP_POINTS, color=TIP_COLOUR, linestyle="none", zorder=9)
        of_method(spot, method)
        _note(spot, text=text)


def of_method(artist: Artist, method: int | None) -> None:
    """Says which method an artist belongs to, by its number among the methods of the section, for the page to hide."""
    if method is not None:
        _note(artist, method=method)


def _note(artist: Artist, **notes: Any) -> None:
    """Keeps notes for the page beside an artist; its id leads to them when the drawing has become text."""
    known = _notes(artist.get_figure(root=True))
    name = artist.get_gid() or f"{NOTE_PREFIX}{len(known)}"
    artist.set_gid(name)
    known[name] = known.get(name, {}) | notes


def _notes(figure: Figure) -> dict[str, dict[str, Any]]:
    if not hasattr(figure, "_jaxprune_notes"):
        figure._jaxprune_notes = {}
    return figure._jaxprune_notes


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
    series = {f"series-{index}": pair for index, pair in enumerate(SERIES)}
    steps = {f"ramp-{i}": (_ramp_colour(RAMP_LIGHT, i), _ramp_colour(RAMP_DARK, i)) for i in range(RAMP_STEPS)}
    return INTERFACE | series | steps


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
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=panel.inches)
        _draw(panel, figure, panel.inches)
        figure.savefig(out, format="svg", transparent=True)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    for name, notes in _notes(figure).items():
        svg = svg.replace(f'<g id="{name}"/>', "").replace(f'<g id="{name}">', _group(**notes), 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', lambda found: _shortened(found[0]), svg)
    # Several drawings share one page, so their ids must differ, and their text takes the page's font.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"\bfont: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # matplotlib before 3.11
    svg = re.sub(r"\bfont-family: [^;\"]*;? ?", "", svg)
    for name, (light, _) in palette().items():
        svg = svg.replace(light, f"var(--{name})")
    attributes = f'role="img" aria-label="{html.escape(panel.title)}"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', lambda _: attributes, svg, count=1)


def _shortened(attribute: str) -> str:
    """Returns an attribute of coordinates with a hundredth of a point, which nobody sees, as its last digit."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute)


def _group(*, text: str | None = None, method: int | None = None) -> str:
    """Returns the opening of an SVG group: hidden with its method, and a text for the pointer."""
    attributes = "" if method is None else f' data-method="{method}"'
    return f"<g{attributes}>" if text is None else f'<g class="tip"{attributes}><title>{html.escape(text)}</title>'


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
