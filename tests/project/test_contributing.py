"""The recipes of CONTRIBUTING.md work as they stand: what they add is found, checked and used."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import checkpoints, corruptions, data, evaluation, metrics, models, pruning, study

TEXT = (pathlib.Path(__file__).parent.parent.parent / "CONTRIBUTING.md").read_text()


def run_recipe(title):
    """Runs the Python under a heading of CONTRIBUTING.md and returns its names."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, flags=re.S | re.M)
    assert section, f"CONTRIBUTING.md has no section {title!r}"
    blocks = re.findall(r"^```python\n(.*?)^```", section[1], flags=re.S | re.M)
    names = {"__name__": title}
    exec(compile("\n".join(blocks), f"CONTRIBUTING.md, {title}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def tables():
    """Gives the tables back as they were."""
    kept = [
        (table, dict(table))
        for table in (corruptions.CORRUPTIONS, models.MODELS, pruning.ALGORITHM_REGISTRY, pruning.METHODS)
    ]
    yield
    for table, content in kept:
        table.clear()
        table.update(content)


def test_a_corruption():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="unknown corruption 'posterize'"):
        corruptions.corrupt(jax.random.key(0), images, name="posterize", severity=5)
    run_recipe("Add a corruption")
    worst = corruptions.corrupt(jax.random.key(0), images, name="posterize", severity=5)
    np.testing.assert_array_equal(worst, np.where(images > 127, 255, 0))
    levels = corruptions.corrupt(jax.random.key(0), images, name="posterize", severity=4)
    assert set(np.unique(levels)) == {0, 85, 170, 255}
    evaluation.check_corruptions(["posterize"], [1])
    with pytest.raises(ValueError, match="posterize"):
        corruptions.corrupt(jax.random.key(0), images, name="posterise", severity=1)


def test_a_metric():
    spherical_score = run_recipe("Add a metric")["spherical_score"]
    logits, labels = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 4
    probs = np.exp(logits.astype(float))
    probs /= probs.sum(axis=1, keepdims=True)
    expected = probs[np.arange(20), labels] / np.sqrt((probs**2).sum(axis=1))
    kept = np.arange(20) < 15
    assert abs(spherical_score(logits, labels, from_logits=True) - expected.mean()) < 1e-6
    assert abs(spherical_score(probs, labels, weights=kept) - expected[kept].mean()) < 1e-6
    with pytest.raises(TypeError, match="one-hot"):
        spherical_score(logits, labels / 1.0)
    interval = metrics.bootstrap(jax.random.key(0), spherical_score, jnp.asarray(probs), labels, num_samples=8)
    assert interval.low <= interval.high


def test_a_criterion():
    config = {"algorithm": "centered", "dist_type": "uniform", "sparsity": 0.5}
    with pytest.raises(ValueError, match="centered"):
        pruning.create_updater_from_config(config)
    centered = run_recipe("Add a pruning criterion")["CenteredMagnitudePruning"]
    pruner = pruning.create_updater_from_config(config | {"filter_fn": pruning.conv_kernels})
    assert type(pruner) is centered
    # The mean is 5: 5 and 5 lie on it, 6 and 4 next to it, of which the first stays.
    params = {"conv": {"kernel": jnp.array([0.0, 5.0, 6.0, 10.0, 4.0, 5.0]).reshape(1, 1, 2, 3)}}
    masks = pruner.instant_sparsify(params)[1]
    assert masks["conv"]["kernel"].ravel().tolist() == [1, 0, 1, 1, 0, 0]
    net = models.create("resnet8", num_classes=2, key=jax.random.key(0), stage_widths=(4, 4, 4))
    sparse, masks = pruning.prune(net, method="centered", sparsity=0.5)
    jax.tree.map(np.testing.assert_array_equal, masks, pruning.prune(net, method=pruner)[1])
    study.check(study.StudyConfig(methods=("centered",)))
    kernel, mask = sparse.params["conv"]["kernel"], masks["conv"]["kernel"]
    assert mask.sum() == mask.size // 2
    assert (kernel[mask == 0] == 0).all()


def test_a_model(tmp_path):
    run_recipe("Add a model")
    net = models.create("tinynet", num_classes=10, key=jax.random.key(0), widths={"conv": 5})
    assert net.params["conv"]["kernel"].shape == (3, 3, 3, 5)
    assert net.channel_groups()[0].width == 5
    assert net.with_widths({"conv": 2}).params["head"]["kernel"].shape == (2, 10)
    test = data.load("digits", split="test", limit=10)
    checkpoints.save(tmp_path / "tinynet", net)
    again = checkpoints.load(tmp_path / "tinynet").classifier
    np.testing.assert_array_equal(again.logits(test.images), net.logits(test.images))


def test_the_commands_exist():
    makefile = (pathlib.Path(__file__).parent.parent.parent / "Makefile").read_text()
    targets = set(re.findall(r"^make ([\w-]+)", TEXT, flags=re.M))
    assert {"test", "format"} <= targets
    missing = {target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.M)}
    assert not missing
