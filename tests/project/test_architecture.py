"""The rooms import only what ARCHITECTURE allows, and importing the package is light."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent.parent / "jaxprune"

ALLOWED = {
    "metrics": set(),
    "corruptions": set(),
    "pruning": set(),
    "models": set(),
    "data": set(),
    "devices": set(),
    "checkpoints": {"models", "pruning"},
    "training": {"pruning", "data", "models", "devices", "checkpoints"},
    "results": set(),
    "evaluation": {"models", "corruptions", "metrics", "devices", "data", "results"},
    "report": {"metrics", "results"},
}
EVERYTHING = set(ALLOWED) | {"study"}
ALLOWED |= {"study": set(ALLOWED) - {"report"}, "cli": EVERYTHING, "__main__": {"cli"}}
# Leaves that know nothing of the rest; any room may import them.
SHARED = {"files", "names", "randomness"}
ALLOWED |= {room: set() for room in SHARED}


def rooms_imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            names = [node.module]
            if node.module == "jaxprune":
                names = [f"jaxprune.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "jaxprune" and len(parts) > 1:
                yield parts[1], node.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        assert not list(rooms_imported_by(path))
        return
    allowed = ALLOWED[room] | SHARED | {room, "__version__"}
    wrong = [
        f"{path}:{line}: {room} may not import {other}"
        for other, line in rooms_imported_by(path)
        if other not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_everything_starts_no_backend_and_no_other_framework():
    code = """
import sys, jaxprune
rooms = "checkpoints corruptions data devices evaluation metrics models pruning report results study training"
for room in rooms.split():
    getattr(jaxprune, room)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a JAX backend was started"
heavy = [name for name in ("tensorflow", "torch") if name in sys.modules]
assert not heavy, f"imported {heavy}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_itself_imports_nothing_heavy():
    code = "import sys, jaxprune; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_corruption_has_a_category():
    from jaxprune import corruptions, names

    assert {*names.COMMON_CORRUPTIONS, *names.EXTRA_CORRUPTIONS} == set(corruptions.CORRUPTIONS)


def test_what_has_an_underscore_stays_in_its_room():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxprune."):
                parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                private = [part for part in parts[1:] if part.startswith("_") and not part.startswith("__")]
                if private and parts[1] != room:
                    wrong.append(f"{path}:{node.lineno}: {room} imports {', '.join(private)} of {parts[1]}")
    assert not wrong, "\n".join(wrong)


def test_the_picture_of_the_rooms_shows_their_imports():
    drawing = importlib.util.spec_from_file_location("draw_rooms", PACKAGE.parent / "docs" / "draw_rooms.py")
    rooms = importlib.util.module_from_spec(drawing)
    drawing.loader.exec_module(rooms)
    picture = rooms.PICTURE.read_text()
    drawn = set(re.findall(r'id="([a-z]+)_imports_([a-z]+)"', picture))
    assert drawn == rooms.arrows(), "run python docs/draw_rooms.py"
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, flags=re.M)) == set(rooms.imports())


def test_no_files_import_in_a_circle():
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    # What is imported inside of a function is imported later, and closes no circle.
    imported = {name: set(modules_imported_by(path)) & modules.keys() for name, path in modules.items()}
    # A package is loaded before its files, and may import them.
    below = {name: {each for each in of if not name.startswith(f"{each}.")} for name, of in imported.items()}
    done = []
    while len(done) < len(below):
        free = [name for name, of in below.items() if name not in done and of <= {*done, name}]
        assert free, f"a circle among {', '.join(sorted(below.keys() - set(done)))}"
        done += free


def modules_imported_by(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
