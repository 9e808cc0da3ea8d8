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

from jaxprune import checkpoints, cli, corruptions, data, evaluation, study
from jaxprune.cli.configurations import load_configuration
from jaxprune.study import ArmConfig, DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig, provenance

ROOT = pathlib.Path(__file__).parent.parent.parent
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
def test_sigterm_in_training_saves_says_so_and_the_run_goes_on_from_there(tmp_path):
    config, out, epochs = tmp_path / "tiny.py", tmp_path / "run", 40
    config.write_text(CONFIG_FILE)
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out", str(out)]
    command += ["--study.pretrain.epochs", str(epochs), "--study.methods", "weight", "--study.finetune.epochs", "0"]
    command += ["--study.recalibration-images", "0", "--study.evaluation.severities", "1"]
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
    # One method is enough: what it gives does not depend on the others.
    command += ["--study.methods", "weight", "--coordinator", f"localhost:{port}", "--num-processes", "2"]
    command += ["--process-id"]
    pipes = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(index)], **pipes) for index in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    printed = [text for text, _ in said]  # the collectives' library prints there too
    assert f"report: {out / 'report.html'}" in printed[0].splitlines()
    assert "report" not in printed[1]
    alone = [row for row in table(finished[0]) if row["method"] in ("dense", "weight")]
    for row, other in zip(table(out), alone, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if name == "config_hash":
                assert value != other[name]
            elif name == "device":
                assert (value.split()[1], other[name].split()[1]) == ("x2", "x8")
            elif isinstance(value, float):
                # Processes of one device and of eight round differently, and a second training carries that on.
                tolerance = 2e-3 if row["stage"] == "fine_tuned" else 5e-5
                np.testing.assert_allclose(value, other[name], rtol=tolerance, atol=tolerance, err_msg=name)
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
        ({"temperature": True}, "temperature=True fits on validation images and data.validation_images is 0; give"),
        ({"data": DataConfig(validation_images=-1)}, "data.validation_images=-1; give a number >= 0"),
        ({"methods": ("weight", "weight")}, "has the methods weight, weight; give each once"),
        ({"sparsities": (0.5, 0.5)}, r"sparsities are \(0.5, 0.5\); give each once"),
        ({"finetune": TrainConfig(precision="int8")}, "finetune: unknown precision 'int8'; known: float32"),
        ({"evaluation": EvaluationConfig(precision="int8")}, "evaluation.precision='int8'; give one of float32"),
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
    config = load_configuration(str(path))
    assert config.name == path.stem
    checkpoint_files = [arm.model.checkpoint for arm in config.all_arms() if arm.model.checkpoint is not None]
    if all(pathlib.Path(file).exists() for file in checkpoint_files):
        study.check(config)


def test_rows_state_budget_device_versions_and_seconds(finished):
    for row in read_rows(finished[0]):
        assert (row["pretrain_epochs"], row["train_images"]) == (2, 64)
        assert row["finetune_epochs"] == (1 if row["stage"] == "fine_tuned" else 0)
        assert row["device"].startswith("cpu x8")
        assert row["versions"].startswith("jaxprune ")
        assert row["seconds"] > 0


def test_the_images_of_the_report_are_those_that_the_networks_saw(finished):
    test = data.load("digits", split="test", limit=40)
    with np.load(finished[0] / "images.npz") as images:
        assert images["class_names"].tolist() == list(test.class_names)
        np.testing.assert_array_equal(images["images"], test.images[images["index"]])
        assert len(images["index"]) > 0
        assert images["gallery_sets"].tolist() == ["clean-0", "contrast-5"]
        np.testing.assert_array_equal(images["gallery_images"][:, 0], test.images[images["gallery_index"]])
        key = evaluation.test_set_key(study.inputs.key_of(0, "corruptions"), "contrast", 5)
        whole = np.asarray(corruptions.corrupt(key, test.images, name="contrast", severity=5))
        np.testing.assert_array_equal(images["gallery_images"][:, 1], whole[images["gallery_index"]])


def test_the_plan_counts_what_a_run_does(finished, tmp_path):
    (arm,) = study.plan(TINY)
    rows = read_rows(finished[0])
    assert (arm.num_rows, arm.num_networks, arm.num_test_sets) == (len(rows), 4, 3)
    assert arm.classified_images == sum(row["n"] for row in rows)
    records = [path.read_text().splitlines() for path in (finished[0] / "training").glob("*/epochs.jsonl")]
    assert arm.num_trainings == len(records)
    assert arm.trained_images == 64 * sum(map(len, records))
    assert arm.left == 1
    assert study.plan(TINY, finished[0])[0].left == 0
    assert study.plan(TINY, tmp_path)[0].left == 1


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(tmp_path, capsys):
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG_FILE)
    arguments = ["run", str(config), "--out", str(tmp_path / "run"), "--dry-run"]
    assert cli.main([*arguments, "--study.data.train-limit", "64", "--study.methods", "weight"]) == 0
    said = capsys.readouterr().out
    assert "tiny: 1 seeds, 15 rows\n  resnet8 (resnet8; weight): 2 networks\n    3 trainings, 256 images" in said
    assert "3 test sets, 600 images through evaluation" in said
    assert "for one process on cpu x8 (training " in said
    assert "GiB of memory" in said
    assert not (tmp_path / "run").exists()


def test_an_unknown_field_is_refused_with_the_nearest_name(tmp_path, capsys):
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG_FILE)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", str(config), "--out", str(tmp_path / "run"), "--study.finetune.epoch", "3"])
    assert stopped.value.code == 2
    assert "--study.finetune.epochs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_controls_are_part_of_every_study_unless_left_out():
    config = dataclasses.replace(TINY, methods=("weight", "slimming", "lamp"), controls=True)
    assert config.all_arms()[0].methods == ("weight", "slimming", "lamp", "random", "channel_random")
    assert dataclasses.replace(config, methods=("random",)).all_arms()[0].methods == ("random",)
    assert StudyConfig().controls


def test_a_few_images_of_a_set_ordered_by_class_are_of_all_classes():
    train = data.load("digits", split="train")
    order = np.argsort(train.labels, kind="stable")
    by_class = dataclasses.replace(train, images=train.images[order], labels=train.labels[order])
    few = study.inputs.spread(by_class, 50)
    assert len(few) == 50
    assert np.bincount(few.labels).min() >= 4
    np.testing.assert_array_equal(study.inputs.spread(few, 1000).images, few.images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the temperature stopped")  # so little training leaves logits that say nothing
def test_random_channels_scratch_and_temperature(tmp_path):
    config = dataclasses.replace(
        TINY,
        data=DataConfig(name="digits", train_limit=96, test_limit=40, validation_images=32),
        methods=("filter_l1",),
        controls=True,
        scratch=True,
        temperature=True,
        recalibration_images=0,
        evaluation=EvaluationConfig(corruptions=(), batch_size=40),
    )
    study.run(config, tmp_path)
    rows = {(row["method"], row["stage"]): row for row in read_rows(tmp_path)}
    stages = ["pruned", "fine_tuned", "scratch", "temperature"]
    assert list(rows) == [("dense", stage) for stage in ("dense", "fine_tuned", "temperature")] + [
        (method, stage) for method in ("filter_l1", "channel_random") for stage in stages
    ]
    # The control loses channels of the same layers, so it is of the same size.
    assert rows["filter_l1", "pruned"]["num_parameters"] == rows["channel_random", "pruned"]["num_parameters"]
    for method in ("dense", "filter_l1", "channel_random"):
        before, after = rows[method, "fine_tuned"], rows[method, "temperature"]
        assert before["accuracy"] == after["accuracy"]
        assert after["temperature"] != 1
        assert before["negative_log_likelihood"] != after["negative_log_likelihood"]
        assert "temperature" not in before
    # What was fitted is the best temperature on the validation images, found here by trying.
    validation = data.load("digits", split="train", limit=96)
    validation = data.split_validation(validation, fraction=1 / 3, seed=0)[1]
    net = checkpoints.load(tmp_path / "checkpoints" / "seed0-resnet8-filter_l1-0.5").classifier
    logits = np.asarray(net.logits(validation.images), np.float64)
    grid = np.geomspace(0.05, 50, 4001)
    scaled = logits[None] / grid[:, None, None]
    log_sum = np.log(np.exp(scaled - scaled.max(-1, keepdims=True)).sum(-1)) + scaled.max(-1)
    losses = (log_sum - scaled[:, np.arange(32), validation.labels]).mean(-1)
    np.testing.assert_allclose(rows["filter_l1", "temperature"]["temperature"], grid[losses.argmin()], rtol=5e-3)
    # From scratch: as small, trained as long as the dense one, and another network.
    scratch, pruned = rows["filter_l1", "scratch"], rows["filter_l1", "fine_tuned"]
    assert scratch["num_parameters"] == pruned["num_parameters"] < rows["dense", "dense"]["num_parameters"]
    assert (scratch["pretrain_epochs"], scratch["finetune_epochs"]) == (2, 0)
    assert scratch["negative_log_likelihood"] != pruned["negative_log_likelihood"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-30], "line 11 is damaged .* delete that file, and the run measures it again"),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 3'),
            "line 1 has schema_version 3, newer than",
        ),
        (lambda text: text + "[]\n", "line 12 holds a list"),
    ],
    ids=["cut", "version", "list"],
)
def test_damaged_rows_are_refused_before_anything_is_computed(finished, tmp_path, damage, message):
    (tmp_path / "rows").mkdir()
    name = "seed0-resnet8-clean.jsonl"
    (tmp_path / "rows" / name).write_text(damage((finished[0] / "rows" / name).read_text()))
    with pytest.raises(ValueError, match=message):
        study.run(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_damaged_rows_and_images_follow_again_from_the_parts(finished):
    out, _, text = finished
    images = (out / "images.npz").read_bytes()
    (out / "rows.jsonl").write_text(text.replace('"num_correct": ', '"num_correct": 1', 1))
    (out / "images.npz").write_bytes(images[:-100])
    study.run(TINY, out)
    assert (out / "rows.jsonl").read_text() == text
    assert (out / "images.npz").read_bytes() == images
    (out / "rows.jsonl").write_text(text[:-30])
    study.run(TINY, out)
    assert (out / "rows.jsonl").read_text() == text


def test_more_validation_than_training_images_are_refused(tmp_path):
    config = dataclasses.replace(TINY, data=DataConfig(train_limit=64, test_limit=40, validation_images=64))
    with pytest.raises(ValueError, match="validation_images=64 leaves nothing of 64 training images"):
        study.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
