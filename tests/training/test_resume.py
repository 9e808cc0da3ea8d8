"""Checkpoints of a training: killed, terminated, damaged, refused, out of space.

Run as a program, this file trains in processes that it kills; `test_killed_at_20_random_moments` starts it.
"""

import errno
import functools
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from flax import nnx

from tests.files import failpoints

EPOCHS, BATCH_SIZE, EVERY = 4, 16, 3  # of 100 images: six steps an epoch
KILLS, LONG_EPOCHS = 20, 30


class TinyNet(nnx.Module):
    """Convolution, BatchNorm, dropout with its own random stream, linear."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.bn(self.conv(x))).mean((1, 2))))


def tiny_net(seed=0):
    from jaxprune import models

    return models.from_nnx(TinyNet(nnx.Rngs(seed)), mean=(0.5,) * 3, std=(0.3,) * 3, name="tiny")


def tiny_data(count=100, seed=0):
    from jaxprune import data

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = rng.integers(0, 200, (count, 8, 8, 3)) + 25 * labels[:, None, None, None]
    return data.Dataset(images.astype(np.uint8), labels, ("a", "b", "c"), name="tiny", split="train")


@functools.cache
def sgd():
    from jaxprune import training

    return training.sgd(learning_rate=0.05, schedule="cosine", num_steps=24)


def fit(**changes):
    import jax

    from jaxprune import data, pruning, training

    net = changes.pop("net", None) or tiny_net()
    net, masks = pruning.prune(net, method="weight", sparsity=0.5)
    arguments = {
        "optimizer": sgd(),
        "epochs": EPOCHS,
        "key": jax.random.key(7),
        "masks": masks,
        "batch_size": BATCH_SIZE,
        "augment": data.random_crop_and_flip,
        "ema": 0.9,
    }
    return training.fit(net, changes.pop("dataset", None) or tiny_data(), **arguments | changes)


def weights(classifier):
    import jax

    from jaxprune.training import resume

    return jax.tree.leaves(jax.device_get(resume._raw((classifier.params, classifier.batch_stats))))


def assert_same_bits(one, other):
    for here, there in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(here, there)


def step_folders(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("step_"))


@pytest.fixture(scope="module")
def uninterrupted():
    return fit()


class Stop(Exception):
    pass


def stop_after(epoch):
    def on_epoch(record):
        if record.epoch == epoch:
            raise Stop

    return on_epoch


@pytest.fixture
def stopped(tmp_path):
    """A folder with the checkpoints of a training that was stopped after its second epoch."""
    with pytest.raises(Stop):
        fit(checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    return tmp_path / "run"


def test_saving_changes_no_bit_keeps_the_last_and_lists_the_epochs(uninterrupted, tmp_path):
    records = []
    saved = fit(checkpoint_dir=tmp_path, checkpoint_every=EVERY, checkpoints_kept=3, on_epoch=records.append)
    assert_same_bits(saved, uninterrupted)
    assert step_folders(tmp_path) == ["step_00000018", "step_00000021", "step_00000024"]
    lines = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(record._asdict())) for record in records]
    again = fit(checkpoint_dir=tmp_path, on_epoch=lambda record: pytest.fail("it had finished"))
    assert_same_bits(again, uninterrupted)


def test_a_stopped_training_continues_to_the_same_bits(uninterrupted, stopped):
    records = []
    assert_same_bits(fit(checkpoint_dir=stopped, on_epoch=records.append), uninterrupted)
    assert [record.epoch for record in records] == [3, 4]
    lines = (stopped / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_what_a_killed_process_left_unfinished_is_removed(stopped):
    (stopped / "step_00000099.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    fit(checkpoint_dir=stopped, epochs=2)
    assert step_folders(stopped) == ["step_00000006", "step_00000012"]


def test_more_epochs_continue_and_fewer_are_refused(stopped):
    with pytest.raises(ValueError, match=r"step_00000012 is in epoch 3, beyond epochs=1; give at least as many epochs"):
        fit(checkpoint_dir=stopped, epochs=1)
    assert_same_bits(fit(checkpoint_dir=stopped, epochs=5), fit(epochs=5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"batch_size": 20}, "batch_size: 16 there, 20 here"),
        (lambda: {"key": _key(8)}, r"key: \[0, 7\] there, \[0, 8\] here"),
        (lambda: {"dataset": tiny_data(seed=1)}, r"images and labels: \d+ there, \d+ here\); give another"),
        (lambda: {"dataset": tiny_data(count=99)}, r"data set: tiny \(train\), 100 images there, tiny \(train\), 99"),
        (lambda: {"net": tiny_net(1)}, r"masks: \d+ there, \d+ here; starting weights: \d+ there"),
        (lambda: {"augment": None}, "augment: random_crop_and_flip there, NoneType here"),
        (
            lambda: {"ema": None},
            r"ema: 0.9 there, None here; state: \.average\.weight is float32\[\] there, absent here",
        ),
        (lambda: {"optimizer": _adam()}, r"state: \.optimizer_state\.inner_state.* is absent there, .* here"),
    ],
    # The same names in every process.
    ids=["batch_size", "key", "images", "count", "weights", "augment", "ema", "optimizer"],
)
def test_another_run_is_refused_and_the_difference_named(stopped, change, message):
    with pytest.raises(ValueError, match=r"step_00000012 is of another training run \(.*give another checkpoint_dir"):
        fit(checkpoint_dir=stopped, **change())
    with pytest.raises(ValueError, match=message):
        fit(checkpoint_dir=stopped, **change())


def _key(seed):
    import jax

    return jax.random.key(seed)


@functools.cache
def _adam():
    import optax

    return optax.adam(0.1)


def flip_a_bit(path):
    """Damages the largest file of the arrays, whose bytes are compressed."""
    file = max((file for file in (path / "state").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_a_checksum(path):
    """Makes a description without a check sum of itself disagree with the arrays."""
    file = path / "description" / "metadata"
    description = json.loads(file.read_text())
    description.pop("checksum", None)
    description["checksums"][".params['bn']['bias']"] ^= 1
    file.write_text(json.dumps(description))


def forget_the_epoch(path):
    file = path / "description" / "metadata"
    description = json.loads(file.read_text())
    del description["epoch"]
    file.write_text(json.dumps(description))


def change_the_epoch(path):
    file = path / "description" / "metadata"
    file.write_text(file.read_text().replace('"epoch": 3, "step": 0', '"epoch": 4, "step": 0'))


DAMAGES = {
    "bit": (flip_a_bit, ""),
    "checksum": (change_a_checksum, r"the check sum of \.params\['bn'\]\['bias'\] is wrong"),
    "file": (lambda path: (path / "state" / "_METADATA").unlink(), "state/_METADATA is missing"),
    "json": (lambda path: (path / "description" / "metadata").write_text("{"), "its description cannot be read"),
    "epoch": (change_the_epoch, "the check sum of its description is wrong"),
    "key": (forget_the_epoch, "its description lacks epoch"),
    "foreign": (lambda path: (path / "description" / "metadata").write_text("[]"), "its description is no JSON object"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_the_previous_one_used(uninterrupted, stopped, damage):
    inflict, reason = DAMAGES[damage]
    inflict(stopped / "step_00000012")
    records = []
    with pytest.warns(UserWarning, match=rf"step_00000012 is refused: .*{reason}.*step_00000006 is tried"):
        resumed = fit(checkpoint_dir=stopped, on_epoch=records.append)
    assert [record.epoch for record in records] == [2, 3, 4]
    assert_same_bits(resumed, uninterrupted)


def test_a_folder_without_an_intact_checkpoint_is_refused(stopped):
    for name in step_folders(stopped):
        change_a_checksum(stopped / name)
    with (
        pytest.warns(UserWarning, match="step_0000.* is refused: the check sum"),
        pytest.raises(ValueError, match=r"no checkpoint in .* is intact; delete that folder to train from the start"),
    ):
        fit(checkpoint_dir=stopped)


@pytest.mark.parametrize("limit_bytes", [100, 3000])
def test_a_full_disk_stops_training_and_names_the_last_good_checkpoint(stopped, uninterrupted, limit_bytes, capsys):
    before = sorted(os.listdir(stopped))
    with (
        failpoints.small_files(limit_bytes),
        pytest.raises(OSError, match=r"step_00000018 could not be written .*last good .*step_00000012") as info,
    ):
        fit(checkpoint_dir=stopped)
    assert info.value.errno == errno.EFBIG
    assert capsys.readouterr().err == ""
    assert sorted(os.listdir(stopped)) == before
    assert_same_bits(fit(checkpoint_dir=stopped), uninterrupted)


def test_sigterm_saves_and_exits_with_its_own_code(tmp_path, uninterrupted):
    from jaxprune import training

    handled = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    try:
        with pytest.raises(SystemExit) as info:
            fit(checkpoint_dir=tmp_path, augment=None, on_epoch=lambda record: signal.raise_signal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is not before
        signal.raise_signal(signal.SIGTERM)
        assert handled == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(info.value, training.Interrupted)
    assert info.value.code == training.EXIT_TERMINATED == 143
    assert info.value.checkpoint.name == "step_00000006"
    assert "stopped by SIGTERM and saved to" in str(info.value)
    assert_same_bits(fit(checkpoint_dir=tmp_path, augment=None), fit(augment=None))


def test_sigterm_in_the_middle_of_an_epoch_continues_there(tmp_path, uninterrupted, monkeypatch):
    from jaxprune import training
    from jaxprune.training import loop

    real, calls = loop.train_steps, itertools.count(1)

    def train_steps(*args, **kwargs):
        if next(calls) == 9:
            signal.raise_signal(signal.SIGTERM)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_steps", train_steps)
        with pytest.raises(training.Interrupted) as info:
            fit(checkpoint_dir=tmp_path)
    assert info.value.checkpoint.name == "step_00000009"
    assert_same_bits(fit(checkpoint_dir=tmp_path), uninterrupted)


def test_another_thread_trains_and_leaves_signals_alone(tmp_path, uninterrupted):
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(checkpoint_dir=tmp_path)))
    thread.start()
    thread.join()
    assert_same_bits(results[0], uninterrupted)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    """The learning rate explodes in step 15: the loss of step 16, the fourth of epoch 3, is the first to suffer."""
    import optax

    exploding = optax.sgd(optax.piecewise_constant_schedule(0.01, {14: 1e38}))
    options = {"checkpoint_dir": tmp_path, "masks": None, "ema": None}
    message = (
        r"in epoch 3 of 4; lower the learning rate \(step [34] of 6 in that epoch\); the last good .*step_00000012"
    )
    with pytest.raises(FloatingPointError, match=message):
        fit(optimizer=exploding, **options)
    gentle = optax.sgd(optax.piecewise_constant_schedule(0.01, {14: 0.1}))
    records = []
    fit(optimizer=gentle, **options, on_epoch=records.append)
    assert [record.epoch for record in records] == [3, 4]


@pytest.mark.parametrize(("first", "second"), [(8, 1), (1, 8)])
def test_a_checkpoint_restores_on_another_number_of_devices(tmp_path, uninterrupted, first, second):
    import jax

    with pytest.raises(Stop):
        fit(checkpoint_dir=tmp_path, devices=jax.devices()[:first], on_epoch=stop_after(2))
    resumed = fit(checkpoint_dir=tmp_path, devices=jax.devices()[:second])
    for here, there in zip(weights(resumed), weights(uninterrupted), strict=True):
        np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.slow
def test_killed_at_20_random_moments(tmp_path):
    """SIGKILL, 20 times over; what survives continues to the bits of the uninterrupted run."""
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(pathlib.Path(__file__).parent.parent.parent)}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] == KILLS
    # The moments differ, and some checkpoints that were continued from lie within an epoch.
    assert len(set(report["newest"])) > KILLS // 4
    assert any(step % 6 for step in report["newest"])
    assert report["identical"]


def _kill_and_resume(folder: pathlib.Path) -> dict:
    """Trains in forked processes; this one imports everything and starts no backend, so forks are cheap and safe."""
    import jax
    import orbax.checkpoint  # noqa: F401

    from jaxprune import data, models, pruning  # noqa: F401
    from jaxprune.training import loop

    jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
    jax.config.update("jax_compilation_cache_max_size", -1)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    def life(run: str) -> tuple[int, int]:
        """Returns the id of a process that trains, and a pipe with one byte for the start and each step."""
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            return child, reading
        os.write(writing, b"!")
        real = loop.train_steps

        def train_steps(*args, **kwargs):
            os.write(writing, b".")
            return real(*args, **kwargs)

        loop.train_steps = train_steps
        trained = fit(epochs=LONG_EPOCHS, checkpoint_dir=folder / run, checkpoint_every=EVERY)
        np.savez(folder / f"{run}.npz", *weights(trained))
        os._exit(0)

    def finish(run: str) -> None:
        _, status = os.waitpid(life(run)[0], 0)
        assert status == 0, f"the process of {run} ended with status {status}"

    finish("uninterrupted")
    finish("uninterrupted")  # restores: nothing is left to be compiled below
    rng = np.random.default_rng(0)
    newest = []
    while len(newest) < KILLS:
        child, pipe = life("killed")
        for _ in range(rng.integers(1, 14)):  # the start, and up to a dozen steps
            os.read(pipe, 1)
        time.sleep(rng.uniform(0, 0.1))  # the time of a step and of writing a checkpoint
        os.kill(child, signal.SIGKILL)
        os.close(pipe)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run ended before it was killed often enough; make it longer"
        found = [re.fullmatch(r"step_(\d+)", path.name) for path in (folder / "killed").glob("step_*")]
        newest.append(max((int(match[1]) for match in found if match), default=0))
    finish("killed")
    one, other = (np.load(folder / f"{run}.npz") for run in ("uninterrupted", "killed"))
    identical = all(np.array_equal(one[name], other[name]) for name in one.files)
    return {"kills": len(newest), "newest": newest, "identical": identical}


if __name__ == "__main__":
    print(json.dumps(_kill_and_resume(pathlib.Path(sys.argv[1]))))
