"""The Python of the README and of the notebooks runs as it stands."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent


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


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "colab").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_code_runs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    names = {}
    for cell in cells:
        assert not cell["outputs"], "notebooks are kept without outputs"
        code = "".join(line for line in cell["source"] if not line.startswith(("%", "!")))
        exec(compile(code, path.name, "exec"), names)


def test_the_commands_of_the_readme_exist():
    from jaxprune import cli

    commands = set(re.findall(r"^jaxprune (\w+)", (ROOT / "README.md").read_text(), flags=re.M))
    assert commands
    assert commands <= set(cli.COMMANDS)
