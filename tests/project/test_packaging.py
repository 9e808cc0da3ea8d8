"""The wheel and the sdist hold what they must, and nothing else."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import jaxprune

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGE = ROOT / "jaxprune"
DIST_INFO = f"jaxprune-{jaxprune.__version__}.dist-info"
IN_SDIST = (
    "jaxprune/cli/__init__.py",
    "configs/digits.py",
    "tests/project/test_packaging.py",
    "conftest.py",
    "Makefile",
    "LICENSE",
)


def test_the_oldest_versions_that_are_tested_are_those_that_are_admitted():
    """`make test-oldest` installs tests/oldest.txt."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = dict(re.fullmatch(r"([\w-]+).*>=([\d.]+)", line).groups() for line in wanted if ">=" in line)
    tested = dict(line.split("==") for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines() if "==" in line)
    assert tested.pop("jaxlib") == tested["jax"]
    assert tested.keys() == lowest.keys()
    for name, version in tested.items():
        assert re.fullmatch(rf"{re.escape(lowest[name])}(\.0)*", version), name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist, built without a network."""
    missing = [name for name in ("hatchling", "pip") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed, which building needs: pip install {' '.join(missing)}")
    out = tmp_path_factory.mktemp("dist")
    pip = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, ROOT]
    for arguments in (pip, ["hatchling", "build", "--target", "sdist", "--directory", out]):
        command = [sys.executable, "-m", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("jaxprune-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def files_of_the_package():
    return {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if not name.startswith(f"{DIST_INFO}/")}
    configs = {f"jaxprune/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert names == files_of_the_package() | configs
    assert {"jaxprune/py.typed", "jaxprune/cli/__init__.py"} <= names


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel):
    metadata = wheel.read(f"{DIST_INFO}/METADATA").decode()
    assert f"Version: {jaxprune.__version__}\n" in metadata
    assert "Provides-Extra: study\n" in metadata
    assert "file:" not in metadata
    assert wheel.read(f"{DIST_INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "jaxprune = jaxprune.cli:main" in wheel.read(f"{DIST_INFO}/entry_points.txt").decode()


@pytest.mark.slow
def test_the_wheel_runs_where_the_repository_is_not(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import jaxprune.report.page; from jaxprune.cli import configurations as c; "
        "print(c.__file__, c.load_configuration('configs/digits.py').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "jaxprune" / "cli" / "configurations.py"), "digits"]


@pytest.mark.slow
def test_the_sdist_holds_the_tests_and_the_configurations(built):
    (path,) = built.glob("jaxprune-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*IN_SDIST, *files_of_the_package()} <= names
    assert not [name for name in names if name.startswith(("shared", "runs", ".venv", "build/")) or ".pyc" in name]
