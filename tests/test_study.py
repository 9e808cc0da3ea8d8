import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath

from jaxprune import checkpoints, study
from jaxprune.study import ArmConfig, DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig, provenance

ROOT = pathlib.Path(__file__).parent.parent
TINY = StudyConfig(
    name="tiny",
    data=DataConfig(name="digits", train_limit=64, test_limit=40),
    model=ModelConfig(stage_widths=(4, 6, 8)),
    pretrain=TrainConfig(epochs=2, batch_size=32, schedule="cosine", augment="crop"),
    finetune=TrainConfig(epochs=1, batch_size=32, learning_rate=0.01, schedule="constant", augment="none"),
    methods=("weight", "random", "slimming"),
    sparsities=(0.0, 0.5),
    seeds=(0,),
    recalibration_images=32,
    controls=False,
    evaluation=EvaluationConfig(corruptions=("contrast",), severities=(1, 5), batch_size=40),
)
LANDMARKS = (
    "checkpoints/seed0-resnet8-trained",
    "checkpoints/seed0-resnet8-slimming-0.5",
    "rows/seed0-resnet8-clean.jsonl",
)
CONFIG_FILE = f"""
from jaxprune.study import *
def get_config():
    return {TINY!r}
"""


def read_rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def table(folder):
    """Returns the rows without how long they took."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_rows(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder, its progress, and its rows' text."""
    out, progress = tmp_path_factory.mktemp("runs") / "tiny", []
    rows = study.run(TINY, out, command="test", on_progress=progress.append)
    return out, progress, rows.read_text()


def test_every_network_stage_and_test_set_has_one_row(finished):
    rows = read_rows(finished[0])
    networks = {(row["method"], row["sparsity"], row["stage"]) for row in rows}
    assert networks == {
        ("dense", 0.0, "dense"),
        ("dense", 0.0, "fine_tuned"),
    } | {
        (method, 0.5, stage)
        for method in ("weight", "random", "slimming")
        for stage in ("pruned", "recalibrated", "fine_tuned")
    }
    sets = {(row["corruption"], row["severity"]) for row in rows}
    assert sets == {("clean", 0), ("contrast", 1), ("contrast", 5)}
    assert len(rows) == len(networks) * len(sets)
    assert {row["n"] for row in rows} == {40}


def test_rows_state_the_sparsity_that_the_networks_have(finished):
    out, _, _ = finished
    for row in read_rows(out):
        if row["stage"] == "fine_tuned":
            restored = checkpoints.load(out / "checkpoints" / f"seed0-resnet8-{row['method']}-{row['sparsity']:g}")
            leaves = jax.tree.leaves(restored.classifier.params)
            assert row["num_parameters"] == sum(leaf.size for leaf in leaves)
            assert row["num_nonzero"] == sum(np.count_nonzero(leaf) for leaf in leaves)
        # A leaf of 108 weights cannot be pruned more exactly than this; slimming chooses from 18 channels.
        assert abs(row["sparsity_achieved"] - row["sparsity"]) < 1e-2
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]


def test_removed_channels_make_the_network_smaller_and_masks_do_not(finished):
    sizes = {}
    for row in read_rows(finished[0]):
        names = ("granularity", "num_parameters", "size_bytes", "multiply_accumulates", "multiply_accumulates_nonzero")
        sizes.setdefault(row["method"], set()).add(tuple(row[name] for name in names))
    ((_, dense_parameters, dense_bytes, dense_macs, _),) = sizes["dense"]
    for granularity, parameters, size_bytes, macs, nonzero in sizes["weight"]:
        assert (granularity, parameters, size_bytes, macs) == ("weights", dense_parameters, dense_bytes, dense_macs)
        assert nonzero < 0.8 * macs
    for granularity, parameters, size_bytes, macs, nonzero in sizes["slimming"]:
        assert granularity == "channels"
        assert nonzero == macs < dense_macs
        assert parameters < dense_parameters
        assert size_bytes < dense_bytes
    assert {sizes_of[0] for sizes_of in sizes["dense"]} == {"none"}


def test_a_study_of_several_architectures_has_an_arm_for_each(tmp_path):
    fast = TrainConfig(epochs=1, batch_size=32, schedule="constant", augment="none")
    arms = (
        ArmConfig("plain", TINY.model, ("weight",)),
        ArmConfig("slim", TINY.model, ("slimming",), pretrain=dataclasses.replace(fast, scale_penalty=1e-3)),
    )
    config = dataclasses.replace(
        TINY,
        arms=arms,
        pretrain=fast,
        finetune=dataclasses.replace(fast, epochs=0),
        recalibration_images=0,
        evaluation=EvaluationConfig(corruptions=(), batch_size=40),
    )
    study.run(config, tmp_path)
    found = [(row["arm"], row["model"], row["method"], row["stage"]) for row in read_rows(tmp_path)]
    assert found == [
        ("plain", "resnet8", "dense", "dense"),
        ("plain", "resnet8", "weight", "pruned"),
        ("slim", "resnet8", "dense", "dense"),
        ("slim", "resnet8", "slimming", "pruned"),
    ]
    plain, slim = (
        checkpoints.load(tmp_path / "checkpoints" / f"seed0-{arm}-trained").classifier for arm in ("plain", "slim")
    )
    assert (plain.params["bn"]["scale"] != slim.params["bn"]["scale"]).any()


def test_provenance_is_written(finished):
    record = json.loads((finished[0] / "study.json").read_text())
    assert record["config_hash"] == study.config_hash(TINY) == read_rows(finished[0])[0]["config_hash"]
    assert record["command"] == "test"
    assert record["config"]["finetune"]["epochs"] == 1
    assert {"jaxprune", "jax", "flax"} <= record["versions"].keys()
    assert record["device"].startswith("cpu x8")
    assert record["seconds"].keys() == {"training", "fine-tuning", "evaluation"}
    assert min(record["seconds"].values()) > 0


def test_progress_rises_to_the_end(finished):
    fractions = [progress.fraction for progress in finished[1]]
    assert fractions == sorted(fractions)
    np.testing.assert_allclose(fractions[-1], 1.0)


def test_a_finished_run_computes_nothing_again(finished):
    out, _, text = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")}
    study.run(TINY, out)
    assert (out / "rows.jsonl").read_text() == text
    assert {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")} == before


@pytest.mark.slow
def test_a_run_killed_in_the_middle_ends_with_the_same_rows(finished, tmp_path):
    config, out = tmp_path / "tiny.py", tmp_path / "run"
    config.write_text(CONFIG_FILE)
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # Killed three times: after the dense network, after a pruned one, after the first rows.
    for landmark in LANDMARKS:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not (out / landmark).exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        assert not (out / "report.html").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert table(out) == table(finished[0])
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_sigterm_in_training_saves_says_so_and_the_run_goes_on_from_there(tmp_path):
    config, out, epochs = tmp_path / "tiny.py", tmp_path / "run", 40
    config.write_text(CONFIG_FILE)
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out", str(out)]
    command += ["--study.pretrain.epochs", str(epochs), "--study.methods", "weight"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    training = out / "training" / "seed0-resnet8-trained"
    deadline = time.monotonic() + 120
    while not (training / "epochs.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert said.splitlines()[-1].startswith("jaxprune: training was stopped by SIGTERM and saved to ")
    assert "Traceback" not in said
    finished_epochs = len((training / "epochs.jsonl").read_text().splitlines())
    assert 0 < finished_epochs < epochs
    assert list(training.glob("step_*"))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    records = [json.loads(line) for line in (training / "epochs.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, epochs + 1))
    assert not list((out / "training").rglob("step_*"))
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_shards_complete_a_study(tmp_path):
    config = dataclasses.replace(TINY, methods=("weight",), recalibration_images=0, seeds=(0, 1))
    whole, out = tmp_path / "whole", tmp_path / "shards"
    study.run(config, whole)
    study.run(config, out, shard="2/2")
    assert {row["seed"] for row in read_rows(out)} == {1}
    assert study.unfinished(config, out) == ["seed0-resnet8-clean.jsonl", "seed0-resnet8-contrast.jsonl"]
    study.run(config, out, shard="1/2")
    assert study.unfinished(config, out) == []
    assert table(out) == table(whole)


def test_a_malformed_shard_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="shard is '3/2'; give i/n"):
        study.run(TINY, tmp_path / "run", shard="3/2")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(finished, tmp_path):
    config, out = tmp_path / "tiny.py", tmp_path / "run"
    config.write_text(CONFIG_FILE)
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        port = sock.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out", str(out)]
    command += ["--coordinator", f"localhost:{port}", "--num-processes", "2", "--process-id"]
    pipes = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(index)], **pipes) for index in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    printed = [text for text, _ in said]  # the collectives' library prints there too
    assert f"report: {out / 'report.html'}" in printed[0].splitlines()
    assert "report" not in printed[1]
    for row, other in zip(table(out), table(finished[0]), strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if name == "device":
                assert (value.split()[1], other[name].split()[1]) == ("x2", "x8")
            elif isinstance(value, float):
                np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=1e-6, err_msg=name)
            else:
                assert value == other[name], name


def test_a_run_is_not_continued_with_another_checkpoint(tmp_path):
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"one")
    config = dataclasses.replace(TINY, model=ModelConfig(checkpoint=str(weights)))
    provenance.claim(epath.Path(tmp_path / "run"), config, "test")
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match="began with the weights of another checkpoint; choose another --out"):
        provenance.claim(epath.Path(tmp_path / "run"), config, "test")


def test_another_study_is_not_overwritten(finished):
    out, _, text = finished
    other = dataclasses.replace(TINY, finetune=dataclasses.replace(TINY.finetune, epochs=3))
    with pytest.raises(ValueError, match=r"another configuration \(finetune.epochs: 1 there, 3 here\); choose another"):
        study.run(other, out)
    assert (out / "rows.jsonl").read_text() == text


def test_a_damaged_run_folder_is_refused(tmp_path):
    (tmp_path / "study.json").write_text('{"study": "ti')
    with pytest.raises(ValueError, match=r"study.json is damaged .*choose another --out"):
        study.run(TINY, tmp_path)


def test_where_files_lie_does_not_change_the_hash():
    moved = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, data_dir="/elsewhere"))
    also = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, data_dir="/there"))
    assert study.config_hash(moved) == study.config_hash(also)
    renamed = dataclasses.replace(TINY, model=ModelConfig(name="resnet20"))
    assert study.config_hash(renamed) != study.config_hash(TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DataConfig(name="cifar")}, "unknown data set 'cifar'; known: digits"),
        ({"model": ModelConfig(name="resnet21")}, "unknown model 'resnet21'; known: resnet8"),
        ({"model": ModelConfig(shortcut="none")}, "unknown shortcut 'none'"),
        ({"model": ModelConfig(head="linear")}, "resnet8 does not take all of the options head"),
        ({"recalibration_images": -1}, "recalibration_images=-1; give a number >= 0"),
        ({"pretrain": TrainConfig(scale_penalty=-1.0)}, "scale_penalty=-1.0"),
        ({"arms": (ArmConfig("a/b", ModelConfig(), ()),)}, "arms are named a/b; give each its own name of letters"),
        ({"arms": (ArmConfig("a", ModelConfig(), ()),) * 2}, "arms are named a, a; give each its own name"),
        ({"methods": ("weigth",)}, "unknown pruning method 'weigth'; known: .*weight"),
        ({"sparsities": (0.5, 1.0)}, r"sparsity 1.0 is outside \[0, 1\)"),
        ({"seeds": (1, 1)}, r"seeds are \(1, 1\); give one or more different integers"),
        ({"pretrain": TrainConfig(epochs=-1)}, "pretrain: epochs=-1"),
        ({"finetune": TrainConfig(schedule="linear")}, "finetune: unknown schedule 'linear'; known: constant"),
        ({"finetune": TrainConfig(augment="flip")}, "finetune: unknown augment 'flip'; known: none, crop"),
        ({"evaluation": EvaluationConfig(corruptions=("rain",))}, "unknown corruption 'rain'; known: "),
        ({"evaluation": EvaluationConfig(severities=(6,))}, "severity 6 is outside 1..5"),
        ({"evaluation": EvaluationConfig(frost_textures="ice")}, "no frost textures named 'ice'; give procedural"),
    ],
)
def test_an_impossible_study_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        study.run(dataclasses.replace(TINY, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_checkpoint_is_refused_before_anything_is_written(tmp_path):
    config = dataclasses.replace(TINY, model=ModelConfig(checkpoint=str(tmp_path / "absent.pt")))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent.pt"):
        study.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_the_configurations_can_be_loaded_and_are_possible(path):
    from jaxprune import cli

    config = cli._load_config(str(path))
    assert config.name == path.stem
    checkpoint_files = [arm.model.checkpoint for arm in config.all_arms() if arm.model.checkpoint is not None]
    if all(pathlib.Path(file).exists() for file in checkpoint_files):
        study.check(config)
