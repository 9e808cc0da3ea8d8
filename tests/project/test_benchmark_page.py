"""The benchmark page: what the scripts measured, with its spread, and what could not be measured."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"

SCRIPT = """
import sys
sys.path.insert(0, {benchmarks!r})
import measurements
path = sys.argv[sys.argv.index("--json") + 1]
measurements.add(path, "a | sort", against="theirs", ours=[1.0, 2.0, 4.0, 5.0], theirs=[3.0, 8.0, 8.0, 30.0])
measurements.add(path, "forward", against="PyTorch", ours=[0.5], theirs=[0.25], work=1000)
measurements.add_absent(path, "smooth ECE", against="relplot", why="No module\\nnamed 'relplot'")
"""


def load(name):
    specification = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def page():
    return load("page")


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder with a script that measures, one that fails and one that measures nothing."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "good.py").write_text(SCRIPT.format(benchmarks=str(BENCHMARKS)))
    (tmp_path / "bad.py").write_text(SCRIPT.format(benchmarks=str(BENCHMARKS)) + "raise ValueError('no | memory')")
    (tmp_path / "empty.py").write_text("pass")
    return tmp_path


def test_a_page_shows_medians_of_pairs_and_names_what_is_missing(page, scripts, monkeypatch, capfd):
    runs = tuple(page.Run(f"{name}.py", "--rounds 2", "") for name in ("good", "bad", "empty"))
    monkeypatch.setattr(page, "HERE", scripts)
    monkeypatch.setattr(page, "AREAS", {"speed": page.Area("Speed", "About it.", runs)})
    out = scripts / "new" / "page.md"
    assert page.main(["--out", str(out)]) == 1
    assert "failed: bad.py, empty.py" in capfd.readouterr().err
    text = out.read_text()
    # The quotients are 3, 4, 2 and 6: not the quotient of the medians, 8/3.
    assert "| a \\| sort | 3.00 s | 8.00 s | theirs | **3.50** | 2.75 to 4.50 | 4 |" in text
    assert "| forward | 2,000 images/s | 4,000 images/s | PyTorch | **0.500** |  | 1 |" in text
    assert "**Not measured:** smooth ECE against relplot: No module named 'relplot'." in text
    assert "```sh\npython benchmarks/good.py --rounds 2\n```" in text
    assert "**`bad.py` did not finish:** ValueError: no \\| memory" in text
    assert "**`empty.py` did not finish:** it measured nothing" in text
    assert text.count("a \\| sort") == 2  # what a script had measured before it failed is shown
    assert "mean nothing" not in text
    assert re.search(r"Measured \d{4}-\d\d-\d\d on .*cores, JAX \d", text)
    assert "](images/page.png)" in text
    assert sorted(str(path.relative_to(out.parent)) for path in out.parent.rglob("*.*")) == [
        "images/page.png",
        "page.md",
    ]


def test_there_is_no_picture_of_nothing(page):
    area = page.Area("Speed", "", (page.Run("bad.py", "", ""),))
    assert page.draw({"speed": area}, {"speed": [(area.runs[0], page.Result([], "no memory"))]}) is None


def test_libraries_that_are_absent_are_named(page, monkeypatch):
    monkeypatch.setattr(page, "LIBRARIES", ("numpy", "no-such-library"))
    text = page.page({}, {}, quick=True)
    assert re.search(r"Compared with: numpy \d[^ ]*\. \*\*Not installed:\*\* no-such-library;", text)
    assert "these numbers mean nothing" in text


def test_a_line_says_how_to_repeat_it_and_where_it_was_measured(scripts):
    found = scripts / "lines.jsonl"
    done = subprocess.run([sys.executable, scripts / "good.py", "--json", found, "--rounds", "2"], capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    assert [line["command"] for line in lines] == ["python benchmarks/good.py --rounds 2"] * 3
    assert lines[0]["times_as_fast"] == [2.75, 3.5, 4.5]
    assert lines[0]["ours_quartiles"] == [1.75, 3.0, 4.25]


@pytest.mark.slow
def test_the_scripts_know_the_options_that_the_page_gives_them(page, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for each in {run.script: run for area in page.AREAS.values() for run in area.runs}.values():
        command = [sys.executable, BENCHMARKS / each.script, "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for option in re.findall(r"--[\w-]+", f"{each.arguments} {each.quick} --json"):
            assert f" {option}" in done.stdout, f"{each.script} has no {option}"


@pytest.mark.slow
def test_a_real_script_fills_the_page(page, monkeypatch, tmp_path):
    pytest.importorskip("scipy")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert page.main(["--out", str(tmp_path / "page.md"), "--areas", "corruptions", "--quick"]) == 0
    assert re.search(r"\| contrast, 32 pixels \| [\d,]+ images/s \|", (tmp_path / "page.md").read_text())
