"""Checkpoints, exports, masks and states of a training, stopped before and after everything that changes the disk."""

import functools
import os
import pathlib
import types

import jax
import numpy as np
import pytest

from jaxprune import checkpoints, files, models, pruning
from jaxprune.checkpoints import orbax_folder
from jaxprune.models import export
from jaxprune.training import resume
from tests.files import failpoints

VERSIONS = ("old", "new")


@functools.cache
def network(version):
    """A network of NumPy arrays, its masks, and what stands for its export: made before anything is stopped."""
    net = models.create("resnet8", num_classes=2, key=jax.random.key(len(version)), stage_widths=(1, 1, 1))
    weight = np.float32(VERSIONS.index(version))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, weight), net.params)
    masks = jax.tree.map(lambda leaf: np.full(leaf.shape, weight, np.uint8) if leaf.ndim == 4 else None, params)
    return jax.device_get(net.replace(params=params)), masks


def replace_libraries(patch):
    """Has one NumPy file stand for orbax's many, and a text for a traced program: neither is written through files.

    Nor is the disk waited for, a hundred times over: the moments before and after that stay.
    """

    def orbax_save(path, arrays):
        path.mkdir()
        leaves = jax.tree_util.tree_leaves_with_path(arrays)
        with (path / "arrays.npz").open("wb") as file:
            np.savez(file, **{"/".join(entry.key for entry in names): leaf for names, leaf in leaves})

    def read_arrays(path, item, targets=None):
        with np.load(pathlib.Path(path) / item / "arrays.npz") as file:
            return dict(file)

    patch(orbax_folder, "_orbax_save", orbax_save)
    patch(orbax_folder, "stored_arrays", read_arrays)
    patch(orbax_folder, "read_arrays", read_arrays)
    program = types.SimpleNamespace(serialize=lambda: f"the {exporting[-1]} program".encode())
    traced = types.SimpleNamespace(
        symbolic_shape=lambda name: (1,), export=lambda function, platforms: lambda images: program
    )
    patch(export, "jax_export", traced)
    patch(os, "fsync", lambda descriptor: None)


exporting = []


def save(place, version):
    net, masks = network(version)
    checkpoints.save(place / "checkpoint", net, masks=masks, metadata={"version": version})


def export_safetensors(place, version):
    net, masks = network(version)
    checkpoints.export_safetensors(place / "net.safetensors", net, masks=masks)


def save_masks(place, version):
    pruning.save_masks(place / "masks.npz", network(version)[1])


def export_stablehlo(place, version):
    exporting.append(version)
    models.export_stablehlo(place / "net.stablehlo", network(version)[0], image_size=32)


WRITERS = {
    "checkpoint": save,
    "net.safetensors": export_safetensors,
    "masks.npz": save_masks,
    "net.stablehlo": export_stablehlo,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    replace_libraries(monkeypatch.setattr)


def leftovers(folder):
    return [path.name for path in folder.rglob("*.tmp")]


def state(step):
    return {"weights": np.full(3, step, np.float32)}


def open_training(place):
    return resume.Checkpoints(place / "training", {"model": "tiny"}, steps_per_epoch=1, kept=2)


def train(place, first, last):
    """Goes through epochs of one step each, as training does, and ends."""
    running = open_training(place)
    try:
        running.restore(state(0))
        for epoch in range(first, last + 1):
            records = [{"epoch": each, "loss": 0.5} for each in range(1, epoch + 1)]
            running.save(state(epoch), resume.Position(epoch + 1, 0, records))
    finally:
        running.close()


def check_training(place, *, at_least, at_most, may_be_over=False):
    """Asserts that a training goes on where it was, and that no epoch is listed of which there is no state."""
    folder = place / "training"
    listed = len((folder / "epochs.jsonl").read_text().splitlines()) if (folder / "epochs.jsonl").exists() else 0
    running = open_training(place)
    try:
        restored = running.restore(state(0))
    finally:
        running.close()
    if restored is None:
        assert may_be_over or at_least == listed == 0
        return
    weights, position = restored
    epoch = position.epoch - 1
    assert at_least <= epoch <= at_most
    np.testing.assert_array_equal(weights["weights"], state(epoch)["weights"])
    assert listed <= epoch
    assert len((folder / "epochs.jsonl").read_text().splitlines()) == epoch
    assert not leftovers(place)


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_stop_at_any_moment_leaves_the_old_content_or_the_new(tmp_path, name, before):
    expected = {None: None}
    for version in VERSIONS:
        (tmp_path / version).mkdir()
        WRITERS[name](tmp_path / version, version)
        expected[version] = files.checksum_of(tmp_path / version / name)
    assert len(set(expected.values())) == 3
    count = len(failpoints.moments_of(lambda: WRITERS[name](tmp_path / "again", "new")))
    ends = []
    for number in range(1, count + 3):
        place = tmp_path / str(number)
        place.mkdir()
        if before:
            WRITERS[name](place, before)
        try:
            with failpoints.stop_at(number) as seen:
                WRITERS[name](place, "new")
        except failpoints.Stopped:
            is_renamed = ("after rename", str(place / name)) in seen
        else:
            is_renamed = True
        found = files.checksum_of(place / name) if (place / name).exists() else None
        assert found == expected["new" if is_renamed else before]
        assert not leftovers(place)
        ends.append(is_renamed)
    assert set(ends) == {True, False}


def test_a_training_that_stops_at_any_moment_goes_on_where_it_was(tmp_path):
    train(tmp_path / "whole", 1, 2)
    seen = failpoints.moments_of(lambda: train(tmp_path / "whole", 3, 3))
    assert sorted(path.name for path in (tmp_path / "whole" / "training").glob("step_*")) == [
        "step_00000002",
        "step_00000003",
    ]
    for number in range(1, len(seen) + 1):
        place = tmp_path / str(number)
        train(place, 1, 2)
        with pytest.raises(failpoints.Stopped), failpoints.stop_at(number):
            train(place, 3, 3)
        check_training(place, at_least=2, at_most=3)


def test_deleting_that_stops_at_any_moment_leaves_whole_states_and_is_done_by_the_next_call(tmp_path):
    count = 2 * len(["before rename", "after rename"])
    for number in range(1, count + 1):
        place = tmp_path / str(number)
        train(place, 1, 3)
        with pytest.raises(failpoints.Stopped), failpoints.stop_at(number):
            resume.delete_checkpoints(place / "training")
        for path in (place / "training").glob("step_*"):
            orbax_folder.check_seal(orbax_folder.read_description(path))
            assert orbax_folder.read_arrays(path, "state")["['weights']"].shape == (3,)
        resume.delete_checkpoints(place / "training")
        assert [path.name for path in (place / "training").iterdir() if path.name != ".locks"] == ["epochs.jsonl"]


def test_a_kill_at_any_moment_leaves_everything_whole_and_the_next_writer_tidies(tmp_path):
    """All writers one after another, first on nothing, in processes that die as by SIGKILL."""
    (tmp_path / "whole").mkdir()

    def work(place):
        for write in WRITERS.values():
            write(place, "new")
        train(place, 1, 2)

    is_over = len(failpoints.moments_of(lambda: work(tmp_path / "whole")))
    count = is_over + len(failpoints.moments_of(lambda: resume.delete_checkpoints(tmp_path / "whole" / "training")))
    expected = {name: files.checksum_of(tmp_path / "whole" / name) for name in WRITERS}
    before = f"""
        import pathlib
        from tests.files import test_network_writers as writers
        writers.replace_libraries(setattr)
        for write in writers.WRITERS.values():
            write(pathlib.Path({str(tmp_path / "before")!r}), "new")
    """
    code = """
        place = pathlib.Path.cwd()
        for write in writers.WRITERS.values():
            write(place, "new")
        writers.train(place, 1, 2)
        writers.resume.delete_checkpoints(place / "training")
    """
    ends = set()
    for number, place, exit_code in failpoints.killed_at_every_moment(tmp_path / "all", code, count, before=before):
        assert exit_code == (77 if number else 0)
        there = [name for name in WRITERS if (place / name).exists()]
        assert {name: files.checksum_of(place / name) for name in there} == {name: expected[name] for name in there}
        ends.add(len(there))
        if (place / "training").exists():
            check_training(place, at_least=0, at_most=2, may_be_over=number >= is_over or not number)
        if number % 20 == 1:
            work(place)
            assert not leftovers(place)
    assert ends == set(range(len(WRITERS) + 1))
