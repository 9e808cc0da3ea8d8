"""Every writer is stopped before and after each write, flush and rename: nothing wrong, lost or claimed too soon."""

import json
import pathlib

import pytest

from tests.files import failpoints
from tests.files.writers import WRITERS

# In the process that forks: each writer once, so that what it imports when it is needed is there in all forks.
WARM_UP = """
import pathlib, tempfile
from jax._src import xla_bridge
from tests.files import writers
with tempfile.TemporaryDirectory() as folder:
    for name, writer in writers.WRITERS.items():
        writer.write(pathlib.Path(folder) / name)
assert not xla_bridge.backends_are_initialized()
"""


def contents(folder):
    """Returns what lies in a folder, but for locks and for how long things took."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(".locks"):
            found[name] = path.read_bytes()
            if name == "study.json":
                found[name] = json.loads(found[name]) | {"seconds": None}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By writer, the moments that it goes through, and what it leaves."""
    found = {}
    for name, writer in WRITERS.items():
        folder = tmp_path_factory.mktemp(name)
        writer.prepare(folder)
        moments = failpoints.moments_of(lambda writer=writer, folder=folder: writer.write(folder))
        assert writer.check(folder)
        found[name] = len(moments), contents(folder)
    return found


@pytest.fixture(scope="module")
def killed(undisturbed, tmp_path_factory):
    """By writer, the folders in which it was killed, and at which moment."""
    root, found = tmp_path_factory.mktemp("killed"), {name: [] for name in WRITERS}
    for name, (count, _) in undisturbed.items():
        for number in range(count + 1):
            (root / name / str(number)).mkdir(parents=True)
            WRITERS[name].prepare(root / name / str(number))
    works = {
        name: (f"writers.WRITERS[{name!r}].write(pathlib.Path.cwd())", count)
        for name, (count, _) in undisturbed.items()
    }
    for place, number, exit_code in failpoints.killed_at_all(root, works, WARM_UP):
        assert exit_code == (77 if number else 0)
        found[place.parent.name].append((number, place))
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_flushes_before_each_rename(tmp_path, name):
    WRITERS[name].prepare(tmp_path)
    moments = failpoints.moments_of(lambda: WRITERS[name].write(tmp_path))
    renames = [place for place, (what, _) in enumerate(moments) if what == "before rename"]
    assert renames
    for place in renames:
        assert moments[place - 1][0] == "after fsync"
        assert moments[place + 2 : place + 4] == [
            (f"{when} fsync", moments[place + 2][1]) for when in ("before", "after")
        ]


@pytest.mark.parametrize("name", WRITERS)
def test_an_exception_at_any_moment_leaves_nothing_wrong_and_the_same_call_completes(tmp_path, name, undisturbed):
    writer, (count, whole) = WRITERS[name], undisturbed[name]
    claims = []
    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        writer.prepare(folder)
        with pytest.raises(failpoints.Stopped), failpoints.stop_at(number):
            writer.write(folder)
        assert not list(folder.rglob("*.tmp"))
        claims.append(writer.check(folder))
        writer.write(folder)
        assert writer.check(folder)
        assert contents(folder) == whole
    assert not claims[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_at_any_moment_leaves_nothing_wrong_and_the_same_call_completes(name, killed, undisturbed):
    writer, (count, whole) = WRITERS[name], undisturbed[name]
    assert [number for number, _ in killed[name]] == list(range(count + 1))
    for number, folder in killed[name]:
        claims = writer.check(folder)
        if number in (0, 1):
            assert claims == (number == 0)
        writer.write(folder)
        assert writer.check(folder)
        assert contents(folder) == whole
