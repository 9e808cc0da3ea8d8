"""The plan of a study: what is refused before anything is computed, and names that folders of earlier releases have."""

import dataclasses
import json

import pytest

from jaxprune import cli, study
from jaxprune.study import ArmConfig, DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig
from tests.study.study_rows import CONFIG

NAN = float("nan")


def replaced(part, **changes):
    return {part: dataclasses.replace(getattr(CONFIG, part), **changes)}


REFUSED = {
    "a sparsity that has another's name": (
        {"sparsities": (0.5000001, 0.5000002)},
        "weight at sparsity 0.5000001 .* and",
    ),
    "a pattern's own sparsity": (
        {"methods": ("nm_2_4", "weight"), "controls": True, "sparsities": (0.50000001,)},
        "random at sparsity 0.50000001 .* and random at sparsity 0.5 .* would both be kept as seed0-resnet8-random-0.5",
    ),
    "a sparsity that is no number": ({"sparsities": (NAN,)}, r"sparsity nan is outside \[0, 1\)"),
    "a seed below 0": ({"seeds": (-1,)}, r"seeds are \(-1,\); give one or more different integers in \[0, 2\^32\)"),
    "a seed that is another's": ({"seeds": (0, 2**32)}, r"seeds are \(0, 4294967296\); give"),
    "a huge seed": ({"seeds": (2**70,)}, r"seeds are .*; give"),
    "a seed that is no integer": ({"seeds": (0.5,)}, r"seeds are \(0\.5,\); give"),
    "one seed where several are meant": ({"seeds": 0}, r"seeds=0; give a tuple, also of one: \(0,\)"),
    "one method": ({"methods": "weight"}, r"methods='weight'; give a tuple, also of one: \('weight',\)"),
    "the images' seed": (
        replaced("evaluation", seed=2**32),
        r"evaluation\.seed=4294967296; give an integer in \[0, 2\^32",
    ),
    "half an epoch": ({"pretrain": TrainConfig(epochs=1.5)}, r"pretrain: epochs=1\.5; it must be a whole number"),
    "a rate of nan": ({"finetune": TrainConfig(learning_rate=NAN)}, "finetune: learning_rate=nan; it must be a finite"),
    "infinite decay": ({"finetune": TrainConfig(weight_decay=float("inf"))}, "finetune: weight_decay=inf; it must be"),
    "a batch of none": ({"pretrain": TrainConfig(batch_size=0)}, "pretrain: batch_size=0; it must be a whole number"),
    "std 0": (
        {"model": ModelConfig(std=(0.2, 0.0, 0.2))},
        r"model\.std=\(0\.2, 0\.0, 0\.2\); give finite numbers above 0",
    ),
    "a mean of nan": ({"model": ModelConfig(mean=(NAN, 0.0, 0.0))}, r"model\.mean=\(nan, .*; give finite numbers"),
    "one mean": (
        {"model": ModelConfig(mean=(0.5,), std=(0.2,))},
        r"model\.mean has 1 entries, and the images of 'digits'",
    ),
    "scales of 0": (
        {"model": ModelConfig(initial_scale=0.0)},
        r"model\.initial_scale=0\.0; give a finite number above 0",
    ),
    "no test images": ({"data": DataConfig(test_limit=0)}, r"data\.test_limit=0; give a whole number >= 1, or None"),
    "no training images": ({"data": DataConfig(train_limit=0)}, r"data\.train_limit=0; give a whole number >= 1"),
    "test batches of 0": (replaced("evaluation", batch_size=0), r"evaluation\.batch_size=0; give a whole number >= 1"),
    "no severities": (replaced("evaluation", severities=()), r"evaluation\.severities is empty; give some of 1\.\.5"),
    "a severity twice": (
        replaced("evaluation", severities=(1, 1)),
        r"evaluation\.severities are \(1, 1\); give each once",
    ),
    "an empty name": ({"name": " "}, "name=' '; give a text of printable characters, and not empty"),
    "yes": ({"scratch": "yes"}, "scratch='yes'; give True or False"),
    "a dictionary": ({"data": {"name": "digits"}}, r"data is a dict; give a study\.DataConfig"),
    "masks that never move": (
        {"methods": ("set",)},
        "the masks of 'set' change while the network trains, and pretrain.epo",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_run_is_refused_before_anything_is_computed(tmp_path, what):
    changes, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as caught:
        study.run(dataclasses.replace(CONFIG, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_largest_seeds_are_seeds():
    study.check(dataclasses.replace(CONFIG, seeds=(0, 2**32 - 1)))


def test_a_plan_lists_trainings_and_what_is_evaluated():
    trained = TrainConfig(epochs=2, batch_size=32)
    config = dataclasses.replace(CONFIG, methods=("weight", "set"), pretrain=trained, finetune=trained, scratch=True)
    (unit,) = study.make_plan(config).units
    assert [(each.name, each.stage) for each in unit.trainings] == [
        ("seed0-resnet8-trained", "dense"),
        ("seed0-resnet8-set-0.5-trained", "pruned"),
        ("seed0-resnet8-dense-0", "fine_tuned"),
        ("seed0-resnet8-weight-0.5", "fine_tuned"),
        ("seed0-resnet8-set-0.5", "fine_tuned"),
        ("seed0-resnet8-weight-0.5-scratch", "scratch"),
        ("seed0-resnet8-set-0.5-scratch", "scratch"),
    ]
    sparse = [("pruned", "fine_tuned", "scratch")] * 2
    assert [stage for _, stage in unit.evaluated] == ["dense", "fine_tuned", *sparse[0], *sparse[1]]
    (arm,) = study.plan(config)
    assert (arm.num_trainings, arm.num_networks, arm.trained_images) == (7, 3, 32 * 14)
    assert arm.num_rows == 3 * len(unit.evaluated)


# Of commit 4783a9c, for the same configurations with compute_dtype in place of precision.
HASHES = {
    "b6d1d2251261": StudyConfig(),
    "b76e9c11982b": StudyConfig(
        name="old",
        pretrain=TrainConfig(precision="bfloat16"),
        evaluation=EvaluationConfig(precision="bfloat16"),
        arms=(ArmConfig("a", ModelConfig(), ("weight",), finetune=TrainConfig(epochs=1, precision="bfloat16")),),
    ),
}


@pytest.mark.parametrize("expected", HASHES)
def test_hashes_are_those_of_earlier_releases(expected):
    assert study.config_hash(HASHES[expected]) == expected


def test_compute_dtype_is_precision_with_a_warning():
    for kind in (TrainConfig, EvaluationConfig):
        with pytest.warns(FutureWarning, match="compute_dtype is called precision now"):
            old = kind(compute_dtype="bfloat16")
        assert old == kind(precision="bfloat16")
        assert dataclasses.replace(old, batch_size=7).precision == "bfloat16"


def test_the_former_option_still_works(tmp_path, capsys):
    file = tmp_path / "small.py"
    file.write_text(f"from jaxprune.study import *\ndef get_config():\n    return {CONFIG!r}\n")
    arguments = ["run", str(file), "--out", str(tmp_path / "run"), "--study.evaluation.compute-dtype=int8"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "warning: --study.evaluation.compute-dtype is called --study.evaluation.precision now" in said
    assert "evaluation.precision='int8'; give one of float32, bfloat16" in said


def test_a_study_of_an_earlier_release_is_compared_by_the_present_names(tmp_path):
    stored = json.loads(json.dumps(dataclasses.asdict(CONFIG)).replace('"precision"', '"compute_dtype"'))
    record = {"study": CONFIG.name, "config": stored, "config_hash": study.config_hash(CONFIG)}
    (tmp_path / "study.json").write_text(json.dumps(record))
    other = dataclasses.replace(CONFIG, **replaced("evaluation", precision="bfloat16"))
    with pytest.raises(ValueError, match=r"\(evaluation\.precision: float32 there, bfloat16 here\)"):
        study.run(other, tmp_path)
