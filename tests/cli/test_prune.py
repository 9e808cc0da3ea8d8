"""What `jaxprune prune` replaces, keeps and refuses; how a command ends on a full disk and by SIGTERM."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import checkpoints, cli, data, models
from tests.files import failpoints


@pytest.fixture(scope="module")
def net():
    return models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))


@pytest.fixture
def here(net, tmp_path, monkeypatch):
    """The current folder, which holds a checkpoint, a file and a folder of the user's, and a link to that folder."""
    monkeypatch.chdir(tmp_path)
    checkpoints.save("net", net)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    return tmp_path


def content(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def prune(*options, sparsity="0.5"):
    return cli.main(["prune", "net", "--sparsity", sparsity, *options])


OUTPUTS = {
    "": "--out",
    " ": "--out",
    ".": "exists already",
    "..": "exists already",
    "~": "home folder",
    "~/net": "home folder",
    "net": "exists already",
    "net/../net": "exists already",
    "net/weights/new": "lies in the checkpoint that is read",
    "mine": "exists already",
    "link": "exists already",
    "empty": "exists already",
    "file": "exists already",
    "file/below": "is a file",
}


@pytest.mark.parametrize("out", OUTPUTS)
def test_out_replaces_nothing(here, out, capsys):
    before = content(here)
    assert prune(f"--out={out}") == 2
    assert content(here) == before
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert OUTPUTS[out].replace("--out", "the path of the checkpoint folder is") in told.err


EXPORTS = {
    "": "the path of the StableHLO export is ''",
    ".": "exists already",
    "~": "home folder",
    "net": "exists already",
    "net/small.stablehlo": "lies in the checkpoint that is read",
    "mine": "exists already",
    "file": "exists already and is no StableHLO export that jaxprune wrote",
    "file/below": "is a file",
    "new": "--export new lies in --out",
    "new/small.stablehlo": "lies in --out",
}


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_is_refused_before_anything_is_pruned_or_saved(here, export, capsys):
    before = content(here)
    assert prune("--out", "new", f"--export={export}") == 2
    assert content(here) == before
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert EXPORTS[export] in told.err


def test_the_file_that_is_read_is_no_place_for_the_export(here, net, capsys):
    checkpoints.export_safetensors("net.safetensors", net)
    before = content(here)
    arguments = ["prune", "net.safetensors", "--sparsity", "0.5", "--out", "new"]
    assert cli.main([*arguments, "--export", "net.safetensors"]) == 2
    assert content(here) == before
    assert "exists already" in capsys.readouterr().err


def test_an_out_below_the_export_is_refused(here, capsys):
    assert prune("--out", "new/net", "--export", "new") == 2
    assert "--out new/net lies in --export, new" in capsys.readouterr().err
    assert not (here / "new").exists()


def test_an_export_of_ours_is_replaced(here):
    assert prune("--out", "first", "--export", "small.stablehlo") == 0
    assert prune("--out", "second", "--export", "small.stablehlo", sparsity="0.9") == 0
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    expected = checkpoints.load("second").classifier.logits(images)
    np.testing.assert_allclose(models.load_stablehlo("small.stablehlo")(images), expected, atol=1e-4)


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
def test_what_was_pruned_stays_pruned(here, suffix):
    assert prune("--out", "half") == 0
    half = checkpoints.load("half")
    source = f"half{suffix}"
    if suffix:
        checkpoints.export_safetensors(source, half.classifier, masks=half.masks)
    # Random masks know nothing of the zeros that are there.
    assert cli.main(["prune", source, "--sparsity", "0.5", "--method", "random", "--out", "quarter"]) == 0
    quarter = checkpoints.load("quarter")
    assert jax.tree.structure(quarter.masks) == jax.tree.structure(half.masks)
    jax.tree.map(lambda now, before: np.testing.assert_array_less(now, before + 1), quarter.masks, half.masks)
    kept, size = (sum(np.sum(f(leaf)) for leaf in jax.tree.leaves(quarter.masks)) for f in (np.asarray, np.ones_like))
    assert 0.2 < kept / size < 0.3
    kernels = [leaf for leaf in jax.tree.leaves(quarter.classifier.params) if leaf.ndim == 4]
    for kernel, mask in zip(kernels, jax.tree.leaves(quarter.masks), strict=True):
        assert not np.any(np.asarray(kernel)[np.asarray(mask) == 0])


def test_channels_are_not_taken_out_from_under_masks_of_single_weights(here, capsys):
    assert prune("--out", "half") == 0
    assert cli.main(["prune", "half", "--sparsity", "0.5", "--method", "filter_l1", "--out", "small"]) == 2
    assert "single weights cannot be taken out" in capsys.readouterr().err
    assert not (here / "small").exists()


def test_another_process_that_writes_to_out_meanwhile_keeps_it(here, net, capsys, monkeypatch):

    def write_first(name, path):
        if name == "before rename" and path == here / "new":
            monkeypatch.undo()
            checkpoints.save(here / "new", net, metadata={"whose": "the other's"})

    from jaxprune.files import disk

    monkeypatch.chdir(here)
    monkeypatch.setattr(disk, "moment", write_first)
    assert cli.main(["prune", str(here / "net"), "--sparsity", "0.5", "--out", str(here / "new")]) == 2
    assert "exists already; another process may have written it" in capsys.readouterr().err
    assert checkpoints.load(here / "new").metadata == {"whose": "the other's"}
    assert not list(here.glob(".*"))


@pytest.mark.parametrize("limit_bytes", [100, 3_000, 17_500])
def test_a_full_disk_is_one_line(here, limit_bytes, capsys):
    """Too small for what orbax writes first, for its arrays, and for the export."""
    # Compiled before: JAX keeps what it compiles in files too.
    assert prune("--out", "roomy", "--export", "roomy.stablehlo") == 0
    capsys.readouterr()
    with failpoints.small_files(limit_bytes):
        assert prune("--out", "new", "--export", "new.stablehlo") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    name = "new.stablehlo" if limit_bytes == 17_500 else "new"
    assert f"{here / name} could not be written (File too large)" in told
    assert (here / "new").exists() == (name == "new.stablehlo")
    assert not (here / "new.stablehlo").exists()
    assert not list(here.glob(".*"))


@pytest.mark.parametrize("out", ["/proc/self/new", "/proc/self/new/below"])
def test_a_folder_that_cannot_be_written_is_one_line(here, out, capsys):
    assert prune("--out", out) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert out in told


def test_a_full_disk_in_training_is_one_line(here, net, capsys, monkeypatch):
    """As `run` ends: its checkpoints are written in the background."""
    import optax

    from jaxprune import training
    from jaxprune.cli import run

    images = np.zeros((8, 32, 32, 3), np.uint8)
    few = data.Dataset(images, np.arange(8, dtype=np.int32), tuple("abcdefghij"), name="few", split="train")

    how = {"optimizer": optax.sgd(0.1), "epochs": 2, "key": jax.random.key(0), "batch_size": 4}

    def fit(arguments):
        training.fit(net, few, checkpoint_dir="training", **how)

    training.fit(net, few, **how)
    monkeypatch.setattr(run, "main", fit)
    with failpoints.small_files(1_000):
        assert cli.main(["run"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "training stopped: " in told
    assert "there is no checkpoint yet" in told
    assert [path.name for path in (here / "training").iterdir()] == [".locks"]


@pytest.mark.parametrize("moment", ["before write", "before fsync", "before rename"])
def test_sigterm_is_one_line_and_leaves_nothing_unfinished(here, moment, capsys, monkeypatch):
    from jaxprune.files import disk

    sent = []

    def send(name, path):
        if name == moment and not sent:
            sent.append(name)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(disk, "moment", send)
    before, handler = content(here), signal.getsignal(signal.SIGTERM)
    # What has a handler of its own is not ended by a fault of ours.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert prune("--out", "new") == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, handler)
    told = capsys.readouterr().err
    assert told == "jaxprune: terminated; finished parts are kept, the same command continues\n"
    assert content(here) == before


@pytest.mark.slow
def test_sigterm_ends_the_process_with_one_line(here):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(failpoints.ROOT)!r})
from jaxprune import checkpoints, cli
checkpoints.save = lambda *args, **options: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(cli.main(["prune", "net", "--sparsity", "0.5", "--out", "new"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True)
    told = "jaxprune: terminated; finished parts are kept, the same command continues\n"
    assert (done.returncode, done.stderr) == (143, told)


def test_sigterm_in_a_callback_of_the_garbage_collector_ends_the_command_too(here, monkeypatch, capsys):
    import gc
    import time

    from jaxprune.cli import doctor

    sent = []

    def callback(phase, info):
        if not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    def collect(arguments):
        gc.callbacks.append(callback)
        try:
            gc.collect()
            time.sleep(60)
        finally:
            gc.callbacks.remove(callback)

    monkeypatch.setattr(doctor, "main", collect)
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert cli.main(["doctor"]) == 143
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert capsys.readouterr().err == "jaxprune: terminated; finished parts are kept, the same command continues\n"


def test_masks_are_kept_in_types_of_their_own(here, net):
    """Masks of bool or of floats are masks."""
    masks = jax.tree.map(lambda leaf: jnp.asarray(leaf > 0) if leaf.ndim == 4 else None, net.params)
    checkpoints.save("bool", net, masks=masks)
    loaded = checkpoints.load("bool").masks
    jax.tree.map(np.testing.assert_array_equal, loaded, masks)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("uint8")}
