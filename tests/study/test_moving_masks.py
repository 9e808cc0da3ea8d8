"""Whole small studies: masks that move, masks that come from checkpoints, rows that JAX's settings do not change."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxprune import checkpoints, pruning, study
from jaxprune.study import EvaluationConfig, TrainConfig
from tests.study.study_rows import CONFIG

SMALL = dataclasses.replace(
    CONFIG,
    methods=("random",),
    pretrain=TrainConfig(epochs=1, batch_size=8, learning_rate=0.05, schedule="constant", augment="crop"),
    evaluation=EvaluationConfig(corruptions=("contrast",), severities=(5,), batch_size=20, keep_examples=False),
)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def differ(tree, other):
    return any((one != two).any() for one, two in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    study.run(SMALL, out)
    return out


def test_rows_do_not_depend_on_jax_s_settings(finished, tmp_path):
    with contextlib.ExitStack() as settings:
        for each in (jax.enable_x64(True), jax.threefry_partitionable(False), jax.default_prng_impl("rbg")):
            settings.enter_context(each)
        study.run(SMALL, tmp_path)
    assert without_seconds(rows_of(tmp_path)) == without_seconds(rows_of(finished))


def test_the_masks_of_a_pruned_network_are_those_of_its_checkpoint(finished):
    path = finished / "checkpoints" / "seed0-resnet8-random-0.5"
    net, masks, _ = checkpoints.load(path)
    dense = checkpoints.load(finished / "checkpoints" / "seed0-resnet8-trained").classifier
    other = pruning.prune(dense, method="random", sparsity=0.25, key=jax.random.key(5))[1]
    checkpoints.save(path, net, masks=other)
    (finished / "rows" / "seed0-resnet8-clean.jsonl").unlink()
    try:
        study.run(SMALL, finished)
        achieved = [row["sparsity_achieved"] for row in rows_of(finished) if row["method"] == "random"]
        assert achieved == [pytest.approx(0.25, abs=5e-3), pytest.approx(0.5, abs=5e-3)]
    finally:
        checkpoints.save(path, net, masks=masks)


def test_a_method_whose_masks_move_is_a_kind_of_network(tmp_path):
    config = dataclasses.replace(SMALL, methods=("rigl",), finetune=SMALL.pretrain)
    study.run(config, tmp_path)
    rows = rows_of(tmp_path)
    assert [(row["method"], row["stage"]) for row in rows[:4]] == [
        ("dense", "dense"),
        ("dense", "fine_tuned"),
        ("rigl", "pruned"),
        ("rigl", "fine_tuned"),
    ]
    trained, masks, _ = checkpoints.load(tmp_path / "checkpoints" / "seed0-resnet8-rigl-0.5-trained")
    tuned, last, _ = checkpoints.load(tmp_path / "checkpoints" / "seed0-resnet8-rigl-0.5")
    kept = sum(int(np.sum(mask)) for mask in jax.tree.leaves(masks))
    size = sum(mask.size for mask in jax.tree.leaves(masks))
    for row in rows:
        if row["method"] == "rigl":
            assert row["granularity"] == "weights"
            assert row["sparsity_achieved"] == pytest.approx(1 - kept / size, abs=1e-6) == pytest.approx(0.5, abs=5e-3)
            assert row["num_nonzero"] == row["num_parameters"] - (size - kept)
    # Fine-tuning keeps the masks and moves the weights.
    jax.tree.map(np.testing.assert_array_equal, masks, last)
    for classifier in (trained, tuned):
        masked = pruning.mask_params(classifier.params, masks)
        jax.tree.map(np.testing.assert_array_equal, masked, classifier.params)
    assert differ(trained.params, tuned.params)
    # They are not the masks that it began with: random ones of the study's key.
    row, key = pruning.METHODS["rigl"], study.inputs.key_of(0, "masks")
    begun = row.updater(0.5, row.filter_fn, key, 4).init_state(trained.params).masks
    assert differ(begun, masks)
    # The plan counted this training.
    (arm,) = study.plan(config, tmp_path)
    assert (arm.num_trainings, arm.left) == (4, 0)
