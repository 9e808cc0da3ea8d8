"""What is at a path where a network, its masks or the states of a training are to be written, and whose it is."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import checkpoints, files, models, pruning, training
from jaxprune.files import paths
from jaxprune.training import resume

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def net():
    return models.create("resnet8", num_classes=3, key=jax.random.key(0), stage_widths=(1, 1, 1))


@pytest.fixture(scope="module")
def masks(net):
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, jnp.uint8) if leaf.ndim == 4 else None, net.params)


WRITERS = {
    "checkpoint folder": lambda path, net, masks: checkpoints.save(path, net),
    "safetensors file": lambda path, net, masks: checkpoints.export_safetensors(path, net),
    "StableHLO export": lambda path, net, masks: models.export_stablehlo(path, net),
    "mask file": lambda path, net, masks: pruning.save_masks(path, masks),
}


def content(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def users_folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def users_archive(path):
    with path.open("wb") as file:
        np.savez(file, header=np.zeros(3), mask0=np.zeros(3))


def users_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def users_json(path):
    """Looks like a checkpoint folder, by names alone."""
    (path / "description").mkdir(parents=True)
    (path / "weights").mkdir()
    (path / "description" / "metadata").write_text(json.dumps({"name": "my photos", "format_version": 1}))
    (path / "weights" / "photo.png").write_bytes(b"mine")


THEIRS = {
    "folder": users_folder,
    "file": lambda path: path.write_text("mine"),
    "empty file": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text('{"jaxprune": "masks"}'),
    "safetensors": lambda path: safetensors.save_file({"w": np.zeros(3, np.float32)}, path, {"jaxprune": "[1]"}),
    "archive": users_archive,
    "array": users_array,
    "names of a checkpoint": users_json,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to a folder": lambda path: (users_folder(path.parent / "real"), path.symlink_to("real")),
}


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("what", WRITERS)
def test_what_jaxprune_did_not_write_is_not_replaced(what, theirs, net, masks, tmp_path):
    THEIRS[theirs](tmp_path / "it")
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match=f"it exists already and is no {what} that jaxprune wrote; give another"):
        WRITERS[what](tmp_path / "it", net, masks)
    assert content(tmp_path) == before


@pytest.mark.parametrize("path", ["", " ", "~", "~/it", "file/below"])
@pytest.mark.parametrize("what", WRITERS)
def test_a_path_that_nobody_means_is_refused(what, path, net, masks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    before = content(tmp_path)
    with pytest.raises((ValueError, NotADirectoryError), match=what):
        WRITERS[what](path, net, masks)
    assert content(tmp_path) == before


@pytest.mark.parametrize("what", WRITERS)
def test_another_kind_of_ours_is_not_replaced(what, net, masks, tmp_path):
    for other, write in WRITERS.items():
        if other != what:
            write(tmp_path / "it", net, masks)
            before = content(tmp_path)
            with pytest.raises(FileExistsError, match=f"is no {what} that jaxprune wrote"):
                WRITERS[what](tmp_path / "it", net, masks)
            assert content(tmp_path) == before
            shutil.rmtree(tmp_path / "it") if other == "checkpoint folder" else (tmp_path / "it").unlink()


@pytest.mark.parametrize("where", ["", "weights", "description", "weights/d", "deep/er"])
def test_a_file_of_the_users_in_a_checkpoint_is_named_and_kept(net, tmp_path, where):
    checkpoints.save(tmp_path / "it", net)
    (tmp_path / "it" / where).mkdir(parents=True, exist_ok=True)
    (tmp_path / "it" / where / "notes.txt").write_text("mine")
    before, name = content(tmp_path), os.path.join(where, "notes.txt")
    with pytest.raises(FileExistsError, match=f"it holds {name}, which jaxprune did not write and would delete; give"):
        checkpoints.save(tmp_path / "it", net)
    assert content(tmp_path) == before
    (tmp_path / "it" / where / "notes.txt").unlink()
    checkpoints.save(tmp_path / "it", net, metadata={"now": 1})
    assert checkpoints.load(tmp_path / "it").metadata == {"now": 1}


def test_an_empty_folder_and_a_link_to_a_checkpoint_give_way(net, tmp_path):
    (tmp_path / "it").mkdir()
    (tmp_path / "link").symlink_to("it")
    checkpoints.save(tmp_path / "it", net)
    checkpoints.save(tmp_path / "link", net, metadata={"now": 1})
    assert (tmp_path / "link").is_symlink()
    assert checkpoints.load(tmp_path / "it").metadata == {"now": 1}
    with pytest.raises(FileExistsError, match="exists already; give another path"):
        checkpoints.save(tmp_path / "it", net, replace=False)


def test_the_current_folder_is_not_replaced_though_it_is_a_checkpoint(net, tmp_path, monkeypatch):
    checkpoints.save(tmp_path / "it", net)
    monkeypatch.chdir(tmp_path / "it")
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="it is the current folder"):
        checkpoints.save(".", net)
    assert content(tmp_path) == before


def test_an_object_store_is_written_directly(net, masks, tmp_path, monkeypatch):
    """It has neither renames nor locks; a folder stands for one here."""
    write = files.write

    def write_anywhere(path, content, **options):
        path.parent.mkdir(parents=True, exist_ok=True)  # objects need no folders
        write(path, content, **options)

    for module in (files, paths):
        monkeypatch.setattr(module, "is_remote", lambda path: True)
    monkeypatch.setattr(files, "write", write_anywhere)
    for version in (1, 2):
        checkpoints.save(tmp_path / "it", net, masks=masks, metadata={"version": version})
        assert checkpoints.load(tmp_path / "it").metadata == {"version": version}
    (tmp_path / "it" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt"):
        checkpoints.save(tmp_path / "it", net)
    train(tmp_path / "training", 1, 2)
    train(tmp_path / "training", 3, 3)
    assert [path.name for path in (tmp_path / "training").glob("step_*")] == ["step_00000003"]
    training.delete_checkpoints(tmp_path / "training")
    assert os.listdir(tmp_path / "training") == ["epochs.jsonl"]


# ---- states of a training ----


def state(step):
    return {"weights": np.full(3, step, np.float32)}


def train(folder, first, last):
    running = resume.Checkpoints(folder, {"model": "tiny"}, steps_per_epoch=1, kept=1)
    try:
        running.restore(state(0))
        for epoch in range(first, last + 1):
            records = [{"epoch": each, "loss": 0.5} for each in range(1, epoch + 1)]
            running.save(state(epoch), resume.Position(epoch + 1, 0, records))
    finally:
        running.close()


@pytest.mark.parametrize("name", ["step_00000001", "step_00000007", "epochs.jsonl"])
@pytest.mark.parametrize("theirs", ["folder", "file", "text"])
def test_training_does_not_begin_beside_names_of_the_users(tmp_path, name, theirs):
    THEIRS[theirs](tmp_path / name)
    before = content(tmp_path)
    with pytest.raises(OSError, match=f"{name} .*; give another checkpoint_dir, or move it away"):
        train(tmp_path, 1, 2)
    training.delete_checkpoints(tmp_path)
    found = content(tmp_path)
    assert {path: found[path] for path in before} == before


@pytest.mark.parametrize("name", ["step_notes", "step_1", "step_00000001.orbax-checkpoint-tmp-7", "step_00000001.bak"])
def test_what_is_no_state_is_left_alone(tmp_path, name):
    users_folder(tmp_path / name)
    train(tmp_path, 1, 3)
    training.delete_checkpoints(tmp_path)
    assert (tmp_path / name / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == sorted([".locks", "epochs.jsonl", name])


def test_a_users_file_in_a_state_is_named_and_kept(tmp_path):
    train(tmp_path, 1, 1)
    (tmp_path / "step_00000001" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="step_00000001 holds notes.txt, which jaxprune did not write"):
        train(tmp_path, 2, 2)
    training.delete_checkpoints(tmp_path)
    assert (tmp_path / "step_00000001" / "notes.txt").read_text() == "mine"


def test_a_users_file_that_comes_during_training_is_kept_with_a_warning(tmp_path):
    running = resume.Checkpoints(tmp_path, {"model": "tiny"}, steps_per_epoch=1, kept=1)
    try:
        running.save(state(1), resume.Position(2, 0, []))
        running.wait()
        (tmp_path / "step_00000001" / "notes.txt").write_text("mine")
        running.save(state(2), resume.Position(3, 0, []))
        with pytest.warns(UserWarning, match=r"step_00000001 is kept: it holds notes\.txt"):
            running.wait()
    finally:
        running.close()
    assert (tmp_path / "step_00000001" / "notes.txt").read_text() == "mine"


def test_a_state_of_another_program_is_not_deleted(tmp_path):
    """Flax's users have orbax write folders of such names, with an item of such a name."""
    import orbax.checkpoint as ocp

    place = tmp_path / "step_00000001" / "state"
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(place, args=ocp.args.StandardSave(state(1)))
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="step_00000001 is no training state that jaxprune wrote"):
        train(tmp_path, 1, 2)
    training.delete_checkpoints(tmp_path)
    assert content(tmp_path).items() >= before.items()


def test_two_trainings_do_not_share_a_folder(tmp_path):
    first = resume.Checkpoints(tmp_path, {"model": "tiny"}, steps_per_epoch=1)
    try:
        with pytest.raises(ValueError, match="another process trains in .*; give another checkpoint_dir"):
            resume.Checkpoints(tmp_path, {"model": "tiny"}, steps_per_epoch=1)
    finally:
        first.close()
    train(tmp_path, 1, 1)


@pytest.mark.parametrize("folder", ["", "~"])
def test_a_checkpoint_dir_that_nobody_means_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for work in (lambda: train(folder, 1, 1), lambda: training.delete_checkpoints(folder)):
        with pytest.raises(ValueError, match="the path of the checkpoint_dir is"):
            work()
    assert not list(tmp_path.iterdir())
