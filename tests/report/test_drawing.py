"""The SVG of a panel: what its points say, what can be hidden, and that bars reach from low to high."""

import re
import xml.etree.ElementTree as ElementTree
from functools import partial

import numpy as np
import pytest

from jaxprune.report import drawing
from jaxprune.report.bootstrap import NO_ESTIMATE
from jaxprune.report.drawing import Mark, Panel, Plot

TEXTS = ['first < & > "it\'s"', "second", "third"]


def mark(x, value, low, high, text):
    return Mark(x, NO_ESTIMATE._replace(value=value, low=low, high=high), text)


MARKS = [
    mark(0, 0.2, 0.1, 0.3, TEXTS[0]),
    mark(1, float("nan"), 0.1, 0.3, "unknown"),
    mark(2, 0.6, 0.1, 0.5, TEXTS[1]),  # a bias that was taken off may leave the value outside of its interval
    mark(3, 0.4, float("nan"), float("nan"), TEXTS[2]),
]


def draw(axes, marks, method):
    colour, marker = drawing.series(0)
    drawing.draw_series(axes, marks, colour=colour, marker=marker, label="line", method=method)
    axes.set(xlim=(-1, 4), ylim=(0, 100))


def panel(method=None, marks=MARKS):
    return Panel("A <title>", partial(draw, marks=marks, method=method))


def svg_of(*panels):
    return [ElementTree.fromstring(each) for each in drawing.svgs(Plot("plot", "", "", panels))]


def numbers(text):
    return [float(each) for each in re.findall(r"-?\d+\.?\d*", text)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_point_that_is_known_has_its_text_where_it_lies(count):
    (root,) = svg_of(panel(marks=MARKS[:count]))
    tips = [group for group in root.iter("g") if group.get("class") == "tip"]
    expected = [each for each in MARKS[:count] if np.isfinite(each.estimate.value)]
    assert [tip.find("title").text for tip in tips] == [each.text for each in expected]
    places = [(float(tip.find("use").get("x")), float(tip.find("use").get("y"))) for tip in tips]
    # Both axes are linear: differences of places are in proportion to differences of values.
    for (x, y), each in zip(places[1:], expected[1:], strict=True):
        start = expected[0]
        assert (x - places[0][0]) / (each.x - start.x) == pytest.approx(x_unit(root), rel=1e-2)
        assert (places[0][1] - y) / (each.estimate.value - start.estimate.value) == pytest.approx(
            y_unit(root), rel=1e-2
        )


def axes_box(root):
    (box,) = (each for each in root.iter("clipPath"))
    return box.find("rect")


def x_unit(root):
    return float(axes_box(root).get("width")) / 5


def y_unit(root):
    return float(axes_box(root).get("height")) / 1


def test_bars_reach_from_low_to_high_wherever_the_value_is():
    (root,) = svg_of(panel())
    bars = next(group for group in root.iter("g") if group.get("id", "").endswith("LineCollection_1"))
    bottom = float(axes_box(root).get("y")) + float(axes_box(root).get("height"))
    spans = []
    for path in (each for each in bars.iter("path") if each.get("d")):
        _, first, _, last = numbers(path.get("d"))
        spans.append(sorted((bottom - y) / y_unit(root) for y in (first, last)))
    assert np.round(spans, 2).tolist() == [[0.1, 0.3], [0.1, 0.5]]


def test_what_belongs_to_a_method_can_be_hidden_and_nothing_else():
    (root,) = svg_of(panel(method=3))
    hidden = [group for group in root.iter("g") if group.get("data-method") is not None]
    assert [group.get("data-method") for group in hidden] == ["3", "3", "3"]  # line, bars and texts
    assert sum(len(list(group.iter("title"))) for group in hidden) == 3
    (root,) = svg_of(panel())
    assert not [group for group in root.iter("g") if group.get("data-method") is not None]


def test_drawings_share_a_page():
    roots = svg_of(panel(method=0), panel(method=1))
    ids = [element.get("id") for root in roots for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    values = [value for root in roots for element in root.iter() for value in element.attrib.values()]
    references = {found for value in values for found in re.findall(r"(?:url\(|^)#([^)]+)", value)}
    assert references
    assert references <= set(ids)
    assert all(root.get("aria-label") == "A <title>" and not {"width", "height"} & set(root.attrib) for root in roots)


def test_colours_are_those_of_the_page_and_text_has_its_font():
    (root,) = svg_of(panel())
    styles = " ".join(element.get("style", "") for element in root.iter())
    assert "var(--series-0)" in styles
    assert "var(--ink)" in styles
    assert not [light for light, _ in drawing.palette().values() if light in styles]
    assert "font-family" not in styles
    assert re.search(r"font-size: [\d.]+px", styles)
    assert {"metadata", "style", "script"}.isdisjoint(element.tag for element in root.iter())
