"""The table of deviations in `docs/corruptions.md` holds on photographs that it was not measured on."""

import importlib.util
import pathlib
import re

import pytest

from jaxprune.corruptions import CORRUPTIONS

_ROOT = pathlib.Path(__file__).parents[2]
_SIZES = (32, 64, 224)


def _table():
    """Returns {(corruption, size): (largest difference, mean, mean of the worst image)}, the larger of two tables."""
    text = (_ROOT / "docs" / "corruptions.md").read_text()
    rows = re.findall(r"^\| (\w+) ((?:\| \d+ / [\d.]+ / [\d.]+ ){3})\|$", text, flags=re.M)
    table = {}
    for name, cells in rows:
        for size, cell in zip(_SIZES, cells.strip("| ").split("|"), strict=True):
            numbers = map(float, cell.split("/"))
            table[name, size] = tuple(map(max, numbers, table.get((name, size), (0, 0, 0))))
    return table


@pytest.fixture(scope="module")
def script():
    """The module `benchmarks/corruption_deviations.py`, which prints that table."""
    path = _ROOT / "benchmarks" / "corruption_deviations.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_has_every_corruption_at_three_sizes():
    assert set(_table()) == {(name, size) for name in CORRUPTIONS for size in _SIZES}


@pytest.mark.parametrize(("name", "size"), [("brightness", 32), ("elastic_transform", 64), ("snow", 64)])
def test_holds_on_other_photographs(name, size, script):
    found = script.measure(name, script.photographs(size, count=8, seed=2), seed=2)
    largest, _, mean_of_worst_image = _table()[name, size]
    assert found.largest <= largest
    assert found.mean_of_worst_image <= mean_of_worst_image
