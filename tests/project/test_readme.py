"""The Python of the README and of the notebooks runs as it stands."""

import importlib.util
import json
import os
import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
NOTEBOOK_TIMEOUT_S = 600
MAGIC = ("%", "!")  # how lines start that are for the notebook's front end, such as the installation


def readme_code():
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S))


@pytest.mark.slow
def test_the_readmes_python_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(readme_code(), "README.md", "exec"), names)
    rows = names["rows"]
    assert len(rows) == 2 * (1 + 2 * 5)
    assert {row["n"] for row in rows} == {400}
    assert abs(names["temperature"] - 1.6) < 0.1
    assert (tmp_path / "reliability.png").exists()


def test_the_readmes_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text())
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def code_of(cell):
    return "".join(line for line in cell["source"].splitlines(keepends=True) if not line.startswith(MAGIC))


def printed_by(notebook):
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs), [
        output for output in outputs if "image/png" in output.get("data", {})
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, monkeypatch, tmp_path):
    """In a kernel of its own, as for a reader without an accelerator."""
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'jaxprune[docs]'")
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = code_of(cell)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=NOTEBOOK_TIMEOUT_S, resources=where).execute()
    text, pictures = printed_by(notebook)
    assert "NO ACCELERATOR FOUND" in text
    assert pictures


@pytest.fixture
def tidy():
    specification = importlib.util.spec_from_file_location("tidy", ROOT / "colab" / "tidy.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_tidy_and_installs_first(path, tidy):
    line = tidy.first_line(path.name, tidy.repository())
    assert path.read_text() == tidy.tidied(path.read_text(), line), "run python colab/tidy.py colab/*.ipynb"
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["source"][0] == f"{line}\n"
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == '%pip install --quiet "jaxprune[study]"'
    assert sum("pip install" in cell for cell in code) == 1
    for cell in code[1:]:
        compile(cell, path.name, "exec")


def test_the_badge_opens_the_notebook_of_the_repository(tidy):
    badge = tidy.first_line("a.ipynb", "https://github.com/owner/name.git")
    assert badge.endswith("(https://colab.research.google.com/github/owner/name/blob/main/colab/a.ipynb)")
    assert tidy.first_line("a.ipynb", "") == tidy.BY_HAND
    dirty = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"], "metadata": {}, "id": "x"},
            {
                "cell_type": "code",
                "source": ["1"],
                "outputs": ["/home/me"],
                "execution_count": 3,
                "metadata": {"collapsed": True},
                "id": "y",
            },
        ],
        "metadata": {"kernelspec": {"name": "mine"}},
    }
    once = tidy.tidied(json.dumps(dirty), badge)
    cells = json.loads(once)["cells"]
    assert cells[0]["source"] == [f"{badge}\n", "\n", "# Title"]
    assert (cells[1]["outputs"], cells[1]["execution_count"], cells[1]["metadata"]) == ([], None, {})
    assert tidy.tidied(once, badge) == once
    assert json.loads(tidy.tidied(once, tidy.BY_HAND))["cells"][0]["source"][0] == f"{tidy.BY_HAND}\n"


class Accepted(Exception):
    """The command line was understood."""


def commands_of(page):
    """Returns the arguments of every jaxprune command in a page's shell blocks, placeholders filled in."""
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    lines = re.findall(r"(?:^|/bin/)jaxprune (.+)$", "\n".join(blocks).replace("\\\n", " "), flags=re.M)
    return [shlex.split(line.rstrip("'"), comments=True) for line in lines]


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if commands_of(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_line_understands_the_commands_of_a_page(page, monkeypatch):
    from jaxprune import cli
    from jaxprune.cli import installation, options

    parse = options.parse

    def only_parse(*arguments, **defaults):
        parse(*arguments, **defaults)
        raise Accepted

    def accept(**options):
        raise Accepted

    monkeypatch.setattr(options, "parse", only_parse)
    monkeypatch.setattr(installation, "examine", accept)
    for command, *arguments in commands_of(page):
        with pytest.raises(Accepted):
            cli.command(command)(arguments)


def test_the_readme_shows_every_command():
    from jaxprune import cli

    assert {command for command, *_ in commands_of(ROOT / "README.md")} == set(cli.COMMANDS)
