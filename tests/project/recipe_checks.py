"""Uses what the recipes of CONTRIBUTING.md add, in a copy of the package; prints what is wrong with each, as JSON."""

import contextlib
import io
import json
import pathlib
import tempfile
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxprune import checkpoints, cli, corruptions, data, evaluation, metrics, models, names, pruning, study


def a_corruption():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    worst = corruptions.corrupt(jax.random.key(0), images, name="posterize", severity=5)
    np.testing.assert_array_equal(worst, np.where(images > 127, 255, 0))
    levels = corruptions.corrupt(jax.random.key(0), images, name="posterize", severity=4)
    assert set(np.unique(levels)) == {0, 85, 170, 255}
    evaluation.check_corruptions(["posterize"], [1])


def a_metric():
    logits, labels = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 4
    probs = np.exp(logits.astype(float))
    probs /= probs.sum(axis=1, keepdims=True)
    expected = probs[np.arange(20), labels] / np.sqrt((probs**2).sum(axis=1))
    kept = np.arange(20) < 15
    assert abs(metrics.spherical_score(logits, labels, from_logits=True) - expected.mean()) < 1e-6
    probs = probs.astype(np.float32)
    assert abs(metrics.spherical_score(probs, labels, weights=kept) - expected[kept].mean()) < 1e-6
    assert "spherical_score" in metrics.__all__
    interval = metrics.bootstrap(
        jax.random.key(0), metrics.spherical_score, jnp.asarray(probs), jnp.asarray(labels), num_samples=8
    )
    assert interval.low <= interval.high


def a_pruning_method():
    from jaxprune.pruning.centered import centered

    # The mean is 5: 5 and 5 lie on it, 6 and 4 next to it, of which the first stays.
    params = {"conv": {"kernel": jnp.array([0.0, 5.0, 6.0, 10.0, 4.0, 5.0]).reshape(1, 1, 2, 3)}}
    masks = centered(params, 0.5, pruning.conv_kernels, None)
    assert masks["conv"]["kernel"].ravel().tolist() == [1, 0, 1, 1, 0, 0]
    net = models.create("resnet8", num_classes=2, key=jax.random.key(0), stage_widths=(4, 4, 4))
    sparse, masks = pruning.prune(net, method="centered", sparsity=0.5)
    kernel, mask = sparse.params["conv"]["kernel"], masks["conv"]["kernel"]
    assert mask.sum() == mask.size // 2
    assert (kernel[mask == 0] == 0).all()
    study.check(study.StudyConfig(methods=("centered",)))


def a_stage():
    from jaxprune.study.stages import STAGES, Making

    name = "fine_tuned+rounded"
    (unit,) = study.make_plan(study.StudyConfig(seeds=(0,), sparsities=(0.5,), methods=("weight",))).units
    assert sum(stage == name for _, stage in unit.evaluated) == len(unit.networks)
    net = models.create("resnet8", num_classes=2, key=jax.random.key(0), stage_widths=(4, 4, 4))
    made = STAGES[name].make(Making(None, net, lambda stage: checkpoints.Checkpoint(net, None, {}), None, None))
    weights, kernel = np.asarray(made.params["conv"]["kernel"]), np.asarray(net.params["conv"]["kernel"])
    levels = weights / (np.abs(kernel).max() / 127)
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)
    np.testing.assert_allclose(weights, kernel, atol=np.abs(kernel).max() / 127)
    assert names.stage_title(name) == "after fine-tuning, rounded"
    names.check_stage(name)


def a_figure():
    from jaxprune.report import figures

    class Arm:
        rows = pd.DataFrame({"seed": [0, 1], "sparsity": 0.5, "accuracy": [0.8, 0.9]}).assign(
            dataset="digits", arm="net", model="net", corruption="clean", severity=0, n=100
        )

    (plot,) = figures.FIGURES["seeds"](Arm, "arm-seeds")
    axes = matplotlib_axes()
    plot.panels[0].draw(axes)
    assert [line.get_ydata().tolist() for line in axes.lines] == [[80.0, 90.0]]
    assert next(iter(figures.FIGURES)) == "seeds"


def matplotlib_axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def a_command():
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        checkpoints.save(f"{folder}/net", net)
        assert cli.main(["size", f"{folder}/net"]) == 0
        assert "total" in printed.getvalue()
        assert cli.main(["--help"]) == 0
        assert "\n  size CHECKPOINT" in printed.getvalue()


def a_model():
    net = models.create("tinynet", num_classes=10, key=jax.random.key(0), widths={"conv": 5})
    assert net.params["conv"]["kernel"].shape == (3, 3, 3, 5)
    assert net.channel_groups()[0].width == 5
    assert net.with_widths({"conv": 2}).params["head"]["kernel"].shape == (2, 10)
    test = data.load("digits", split="test", limit=10)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(pathlib.Path(folder) / "tinynet", net)
        again = checkpoints.load(pathlib.Path(folder) / "tinynet").classifier
    np.testing.assert_array_equal(again.logits(test.images), net.logits(test.images))


CHECKS = {
    "Add a corruption": a_corruption,
    "Add a metric": a_metric,
    "Add a pruning method": a_pruning_method,
    "Add a stage": a_stage,
    "Add a figure": a_figure,
    "Add a command": a_command,
    "Add a model": a_model,
}


def main():
    """Runs all checks."""
    told = {}
    for title, check in CHECKS.items():
        try:
            check()
            told[title] = ""
        except Exception:  # whatever a recipe breaks is told of that recipe
            told[title] = traceback.format_exc()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
