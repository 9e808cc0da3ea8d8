"""Several processes on this machine, one CPU device each, against one process."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxprune.devices import processes

ROOT = pathlib.Path(__file__).parent.parent.parent
# Evaluates two tiny networks on 61 images, which neither 2 nor 4 divide, and keeps what this process corrupted.
WORKER = """
import json, os, signal, sys, time, warnings
number, count, port, out, behaviour = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
import jax
import numpy as np
from jaxprune import data, evaluation, models
from jaxprune.devices import processes
from jaxprune.evaluation import _programs
processes.HEARTBEAT_TIMEOUT_S = 10
if count > 1:
    processes.start(f"localhost:{port}", count, number)
assert (jax.process_count(), jax.process_index()) == (count, number)
options = dict(num_classes=10, stage_widths=(2, 2, 2), mean=(0.3,) * 3, std=(0.3,) * 3)
networks = {f"net{seed}": models.create("resnet8", key=jax.random.key(seed), **options) for seed in (0, 1)}
test = data.load("digits", split="test", limit=61)
corrupt, pixels = _programs.corrupt, {}

def recorded(words, images, first_index, severity, *, name, **place):
    images = corrupt(words, images, first_index, severity, name=name, **place)
    for shard in images.addressable_shards:
        start = int(first_index) + (shard.index[0].start or 0)
        pixels[f"{name}/{severity}/{start}"] = np.asarray(shard.data)
    return images

_programs.corrupt = recorded

def on_test_set(name, severity):
    if name == "clean" and number == count - 1 and behaviour == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "clean" and number == 0 and behaviour == "coordinator dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "clean" and number == count - 1 and behaviour == "hangs":
        os.kill(os.getpid(), signal.SIGSTOP)

batch_size = 17 if behaviour == "disagrees" and number == 1 else 24
names = ("gaussian_noise", "contrast") if behaviour == "works" else ("contrast",)
rows = evaluation.evaluate(networks, test, key=jax.random.key(3), corruptions=names, severities=(2, 5),
    batch_size=batch_size, keep_examples=f"{out}/examples{number}", on_test_set=on_test_set)
np.savez(f"{out}/pixels{number}.npz", **pixels)
with open(f"{out}/rows{number}.json", "w") as file:
    json.dump(rows, file)
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def run(count, out, behaviour="works", timeout=200):
    """Returns exit code, standard error and seconds until the end of each process; stopped ones are ended last."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        # A killed process must not leave half an entry to the other tests.
        "JAX_ENABLE_COMPILATION_CACHE": str(behaviour == "works").lower(),
    }
    arguments = [str(count), str(free_port()), str(out), behaviour]
    processes = []
    for number in range(count):
        with open(out / f"log{number}", "w") as log:
            command = [sys.executable, "-u", "-c", WORKER, str(number), *arguments]
            processes.append(subprocess.Popen(command, env=environment, cwd=out, stdout=log, stderr=log))
    ended, deadline = {}, time.monotonic() + timeout
    expected = count - (behaviour == "hangs")
    try:
        while len(ended) < expected and time.monotonic() < deadline:
            ended |= {
                number: time.monotonic()
                for number, process in enumerate(processes)
                if number not in ended and process.poll() is not None
            }
            time.sleep(0.1)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    return [process.returncode for process in processes], [(out / f"log{n}").read_text() for n in range(count)], ended


def corrupted(out, count):
    """Returns the images of each test set, put together from those of the processes."""
    parts = {}
    for number in range(count):
        with np.load(out / f"pixels{number}.npz") as archive:
            for name in archive.files:
                *test_set, start = name.split("/")
                parts.setdefault(tuple(test_set), {})[int(start)] = archive[name]
    return {test_set: np.concatenate([part[start] for start in sorted(part)])[:61] for test_set, part in parts.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    codes, logs, _ = run(1, out)
    assert codes == [0], logs
    return out


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_measure_what_one_does(alone, count, tmp_path):
    codes, logs, _ = run(count, tmp_path)
    assert codes == [0] * count, logs
    expected = json.loads((alone / "rows0.json").read_text())
    assert len(expected) == 10
    for number in range(count):
        rows = json.loads((tmp_path / f"rows{number}.json").read_text())
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            for name, value in other.items():
                if isinstance(value, float) and name != "accuracy":
                    assert abs(row[name] - value) < 1e-5, name
                else:
                    assert row[name] == value, name
    pixels, own = corrupted(alone, 1), corrupted(tmp_path, count)
    assert own.keys() == pixels.keys()
    for test_set, images in pixels.items():
        np.testing.assert_array_equal(own[test_set], images)
    shares = [sum(len(part) for part in np.load(tmp_path / f"pixels{n}.npz").values()) for n in range(count)]
    assert len(set(shares)) == 1  # each process corrupts its part only
    assert [(tmp_path / f"examples{n}").exists() for n in range(count)] == [True] + [False] * (count - 1)
    files = sorted(path.relative_to(tmp_path / "examples0") for path in (tmp_path / "examples0").rglob("*.npz"))
    assert files == sorted(path.relative_to(alone / "examples0") for path in (alone / "examples0").rglob("*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["dies", "hangs", "coordinator dies"])
def test_a_process_that_is_lost_stops_the_others_within_a_minute(behaviour, tmp_path):
    codes, logs, ended = run(2, tmp_path, behaviour)
    lost = 0 if behaviour == "coordinator dies" else 1
    other = 1 - lost
    assert codes[lost] == -signal.SIGKILL
    assert codes[other] not in (0, -signal.SIGKILL), logs[other]
    if behaviour != "hangs":
        assert ended[other] - ended[lost] < 60
    ours = "another process has died, hangs, or cannot be reached" in logs[other]
    # JAX's own watchdog, which ends the process, may come first.
    theirs = "This most likely indicates that another task died" in logs[other]
    assert ours or theirs, logs[other]
    assert not (tmp_path / f"rows{other}.json").exists()


@pytest.mark.slow
def test_processes_that_disagree_are_refused_at_the_start(tmp_path):
    codes, logs, _ = run(2, tmp_path, "disagrees")
    assert codes == [1, 1], logs
    for log in logs:
        assert "the processes disagree about the evaluation: batch_size is 24 in process 0, 17 in process 1" in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cray"}, "unknown kind of cluster 'cray'; known: auto, tpu"),
        ({"coordinator": "10.0.0.1:99"}, "kind 'address' needs num_processes, process_id too"),
        ({"kind": "kubernetes", "num_processes": 2}, "kind 'kubernetes' needs coordinator, process_id too"),
        ({"coordinator": "10.0.0.1", "num_processes": 2, "process_id": 0}, "coordinator '10.0.0.1' has no port"),
        ({"coordinator": "h:1", "num_processes": 2, "process_id": 2}, "process_id=2 of num_processes=2; give 0 to 1"),
        ({"coordinator": "h:1", "num_processes": 0, "process_id": 0}, "num_processes=0; give 1 or more"),
    ],
)
def test_impossible_starts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.start(**arguments)


def test_a_start_without_a_cluster_says_what_to_give(tmp_path):
    code = "from jaxprune import devices\ntry: devices.start()\nexcept ValueError as error: print(error)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | {"PYTHONPATH": str(ROOT)}
    )
    assert "no cluster of kind 'auto' was found" in done.stdout, done.stderr
    assert "give coordinator, num_processes and process_id, or run as one process" in done.stdout


def test_a_coordinator_that_is_not_there_is_named():
    with pytest.raises(processes.LostProcessError, match=r"process 1 found nobody at localhost:\d+ within 0 s"):
        processes.start(f"localhost:{free_port()}", 2, 1, timeout_s=0)


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    processes.agree("plan", {"a": "1"})
    processes.barrier("a step")
    with processes.lockstep("a step", 1):
        pass
    assert processes.is_main_process()


def test_errors_that_are_no_loss_pass_through_a_step(monkeypatch):
    monkeypatch.setattr(processes, "barrier", lambda step: None)
    with pytest.raises(ValueError, match="too small"), processes.lockstep("fog 1", 2):
        raise ValueError("too small")
    loss = pytest.raises(processes.LostProcessError, match="stops at fog 1: another process")
    with loss, processes.lockstep("fog 1", 2):
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_the_shards_of_a_grid_are_disjoint_and_complete(count):
    grid = list(range(7))
    shares = [processes.shard(grid, f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == grid
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("part", ["0/4", "5/4", "1", "a/b", "-1/3", "1/0", ""])
def test_a_shard_that_is_none_is_refused(part):
    with pytest.raises(ValueError, match="give i/n with i from 1 to n, such as 1/4"):
        processes.shard([1, 2], part)
