"""The recipes of CONTRIBUTING.md work as they stand: in a copy of the package, what they add is found and used."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = [
    (title, *re.match(r"# (\S+)\n(.*)", block, flags=re.S).groups())
    for title, section in re.findall(r"^## (Add an? .*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.S | re.M)
    for block in re.findall(r"^```python\n(.*?)^```", section, flags=re.S | re.M)
]
TITLES = list(dict.fromkeys(title for title, _, _ in BLOCKS))
CHECKS = pathlib.Path(__file__).parent / "recipe_checks.py"


def with_entry(source, block):
    """Returns a file with the imports of a block, and the entries that the block shows in a table first in that."""
    imports, head, entries = re.fullmatch(r"((?:from .*\n)*)\s*(\w+ = \{\n)(.*?)\}\n", block, flags=re.S).groups()
    table = re.escape(head.split()[0])
    source, found = re.subn(rf"^({table}(?:: .*?)? = \{{\n)", lambda line: line[0] + entries, source, flags=re.M)
    assert found, f"no table {table}"
    if imports:
        source, found = re.subn(r"^(?=from jaxprune)", imports, source, count=1, flags=re.M)
        assert found, "no import of the package"
    return source


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the checks say of each recipe, run in a process that has a copy of the package with all of them."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "jaxprune", folder / "jaxprune", ignore=shutil.ignore_patterns("__pycache__"))
    for _, path, block in BLOCKS:
        file = folder / path
        file.write_text(with_entry(file.read_text(), block) if file.exists() else block)
    environment = os.environ | {"PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(CHECKS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_a_recipe_adds_what_it_says(told, title):
    assert told[title] == ""


def test_a_recipe_is_a_file_and_an_entry():
    for title in TITLES:
        file, entry = [path for name, path, _ in BLOCKS if name == title]
        assert not (ROOT / file).exists(), title
        assert (ROOT / entry).exists(), title


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make ([\w-]+)", TEXT, flags=re.M))
    assert {"test", "format"} <= targets
    missing = {target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.M)}
    assert not missing
