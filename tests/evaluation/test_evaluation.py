import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import corruptions, data, evaluation, models
from jaxprune.evaluation import _run

KEY = jax.random.key(3)
NAMES = ("gaussian_noise", "contrast")


@pytest.fixture(scope="module")
def networks():
    options = {"num_classes": 10, "stage_widths": (4, 4, 4), "mean": (0.3,) * 3, "std": (0.3,) * 3}
    return {f"net{seed}": models.create("resnet8", key=jax.random.key(seed), **options) for seed in (0, 1)}


@pytest.fixture(scope="module")
def test_set():
    return data.load("digits", split="test", limit=50)


@pytest.fixture(scope="module")
def rows(networks, test_set):
    return evaluation.evaluate(networks, test_set, key=KEY, corruptions=NAMES, severities=(1, 5), batch_size=64)


def index(rows):
    return {(row["classifier"], row["corruption"], row["severity"]): row for row in rows}


def test_there_is_a_row_for_every_test_set_and_classifier(rows):
    sets = [("clean", 0), *((name, severity) for name in NAMES for severity in (1, 5))]
    assert list(index(rows)) == [(net, name, severity) for name, severity in sets for net in ("net0", "net1")]
    assert {row["n"] for row in rows} == {50}


@pytest.mark.parametrize(("name", "severity"), [("clean", 0), ("gaussian_noise", 5)])
def test_rows_equal_numpy_on_the_same_pixels(rows, networks, test_set, name, severity):
    images = test_set.images
    if name != "clean":
        key = evaluation.test_set_key(KEY, name, severity)
        images = corruptions.corrupt(key, images, name=name, severity=severity)
    for label, net in networks.items():
        logits = np.asarray(net.logits(images), np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        correct = logits.argmax(1) == test_set.labels
        row = index(rows)[label, name, severity]
        assert row["num_correct"] == correct.sum()
        np.testing.assert_allclose(row["accuracy"], correct.mean(), atol=1e-6)
        nll = -log_probs[np.arange(50), test_set.labels].mean()
        np.testing.assert_allclose(row["negative_log_likelihood"], nll, rtol=1e-4)
        confidence = np.exp(log_probs.max(1))
        gaps = np.bincount(np.minimum((confidence * 10).astype(int), 9), correct - confidence)
        np.testing.assert_allclose(row["ece_equal_width_10"], np.abs(gaps).sum() / 50, atol=1e-4)


def test_progress_is_reported_for_every_test_set(networks, test_set):
    seen = []
    evaluation.evaluate(
        networks["net0"],
        test_set,
        key=KEY,
        corruptions=NAMES[:1],
        severities=(1, 5),
        batch_size=64,
        on_test_set=lambda name, severity: seen.append((name, severity)),
    )
    assert seen == [("clean", 0), ("gaussian_noise", 1), ("gaussian_noise", 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifiers": {}}, "no classifier was given"),
        ({"corruptions": ("fogg",)}, "unknown corruption 'fogg'; known: "),
        ({"severities": (0,)}, "severity 0 is outside 1..5"),
        ({"model_axis": "pmap"}, "unknown model_axis 'pmap'; known: 'loop', 'vmap'"),
        ({"precision": "float64"}, "unknown precision 'float64'; known: float32, bfloat16"),
        ({"batch_size": 0}, "batch_size=0; give a number of images of 1 or more"),
        ({"corruptions": (), "clean": False}, "no test set is selected; give a corruption and a severity"),
        ({"corruptions": ("fog", "fog")}, "test set fog 1 is named twice"),
        ({"key": None}, "key is missing; pass jax.random.key"),
    ],
)
def test_bad_input_is_refused(networks, test_set, change, message):
    arguments = {"classifiers": networks, "corruptions": NAMES, "key": KEY} | change
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(arguments.pop("classifiers"), test_set, **arguments)


def test_classifiers_of_other_classes_and_empty_sets_are_refused(networks, test_set):
    other = models.create("resnet8", num_classes=3, key=jax.random.key(0), stage_widths=(4, 4, 4))
    with pytest.raises(ValueError, match="classifier 'other' has 3 classes, data set 'digits' has 10"):
        evaluation.evaluate({"other": other}, test_set, key=KEY)
    with pytest.raises(ValueError, match=r"data set 'digits' \(test\) has no images"):
        evaluation.evaluate(networks, test_set.take(0), key=KEY)


def test_the_accuracys_interval_contains_it(rows):
    for row in rows:
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
        assert jnp.isfinite(row["brier_score"])


class Fixed(nnx.Module):
    """A linear layer on the flattened images, so that only one size fits."""

    image_size = 32

    def __init__(self, side=32, num_classes=10):
        self.image_size = side
        self.head = nnx.Linear(side * side * 3, num_classes, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(x.reshape(len(x), -1))


def fixed(**options):
    return models.from_nnx(Fixed(**options), mean=(0.0,) * 3, std=(1.0,) * 3)


def test_architectures_and_widths_may_be_mixed_in_any_order(networks, test_set):
    thin = models.create(
        "resnet8", num_classes=10, key=jax.random.key(4), stage_widths=(2, 2, 2), mean=(0.3,) * 3, std=(0.3,) * 3
    )
    mixed = {"a": networks["net0"], "thin": thin, "b": networks["net1"], "linear": fixed()}
    together = evaluation.evaluate(mixed, test_set, corruptions=(), model_axis="vmap")
    assert [row["classifier"] for row in together] == list(mixed)
    for row in together:
        (alone,) = evaluation.evaluate(mixed[row["classifier"]], test_set, corruptions=(), model_axis="loop")
        assert row["num_correct"] == alone["num_correct"]
        np.testing.assert_allclose(row["negative_log_likelihood"], alone["negative_log_likelihood"], rtol=1e-5)


def test_classifiers_that_do_not_belong_together_are_refused(networks, test_set):
    options = {"key": jax.random.key(0), "stage_widths": (4, 4, 4)}
    three = models.create("resnet8", num_classes=3, **options)
    grey = models.create("resnet8", num_classes=10, mean=(0.5,), std=(0.5,), **options)
    for other, message in (
        (three, "different numbers of classes in one call: 'net' 10, 'other' 3"),
        (grey, "different numbers of channels in one call: 'net' 3, 'other' 1"),
        (fixed(side=16), "different image sizes in one call: 'net' 32, 'other' 16"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.evaluate({"net": networks["net0"], "other": other}, test_set, corruptions=())
    with pytest.raises(ValueError, match="takes images of 1 channels, those of 'digits' have 3"):
        evaluation.evaluate({"grey": grey}, test_set, corruptions=())


def test_images_of_another_size_are_refused_only_by_classifiers_that_cannot_take_them(networks, test_set):
    small = dataclasses.replace(test_set, images=test_set.images[:, ::2, ::2])
    (row,) = evaluation.evaluate(networks["net0"], small, corruptions=())
    assert row["finite"]
    with pytest.raises(
        ValueError, match="'linear' was made for images of 32 pixels and does not take those of 'digits'"
    ):
        evaluation.evaluate({"linear": fixed()}, small, corruptions=())


def test_labels_outside_the_classes_are_refused(networks, test_set):
    # A Dataset refuses them itself; what only looks like one, or was changed afterwards, does not.
    changed = dataclasses.replace(test_set, labels=test_set.labels.copy())
    changed.labels[3] = 10
    with pytest.raises(ValueError, match=r"labels of 'digits' run from 0 to 10, outside 0\.\.9"):
        evaluation.evaluate(networks, changed, corruptions=())


@pytest.mark.parametrize("model_axis", ["loop", "vmap"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_classifier_is_named_and_the_others_go_on(networks, test_set, rows, value, model_axis):
    params = networks["net0"].params
    broken = networks["net0"].replace(params=params | {"head": params["head"] | {"bias": jnp.full(10, value)}})
    with pytest.warns(
        RuntimeWarning, match="classifier 'broken' returned NaN or infinite logits on 1 of the test sets"
    ):
        marked, good = evaluation.evaluate(
            {"broken": broken, "net1": networks["net1"]},
            test_set,
            corruptions=(),
            model_axis=model_axis,
            non_finite="mark",
        )
    assert marked["finite"] is False
    assert marked["n"] == 50
    assert {name for name, value in marked.items() if value is None} >= {"accuracy", "brier_score", "num_correct"}
    assert json.loads(json.dumps(marked, allow_nan=False)) == marked
    assert marked.keys() == good.keys()
    assert good["finite"] is True
    assert good["num_correct"] == index(rows)["net1", "clean", 0]["num_correct"]


def test_a_stack_that_does_not_fit_in_memory_is_looped_over(networks, test_set, rows, monkeypatch):
    calls, measure = [], _run._programs.classify

    def classify(stack, images, labels, **options):
        calls.append(stack.mean.ndim)
        if stack.mean.ndim > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1099511627776 bytes.")
        return measure(stack, images, labels, **options)

    monkeypatch.setattr(_run._programs, "classify", classify)
    with pytest.warns(RuntimeWarning, match="2 stacked classifiers and 56 images do not fit in the memory of"):
        again = evaluation.evaluate(
            networks, test_set, key=KEY, corruptions=NAMES[:1], severities=(1, 5), batch_size=64, model_axis="vmap"
        )
    assert calls == [2, 1, 1, 1, 1, 1, 1]  # tried once, then never again
    assert again == rows[: len(again)]


def test_other_errors_of_the_device_are_not_taken_for_lack_of_memory(networks, test_set, monkeypatch):
    def classify(*args, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(_run._programs, "classify", classify)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        evaluation.evaluate(networks, test_set, corruptions=(), model_axis="vmap")


def test_bfloat16_is_recorded_and_close(networks, test_set, rows):
    half = evaluation.evaluate(networks, test_set, corruptions=(), precision="bfloat16")
    for row in half:
        full = index(rows)[row["classifier"], "clean", 0]
        assert (row["precision"], full["precision"]) == ("bfloat16", "float32")
        assert row["negative_log_likelihood"] != full["negative_log_likelihood"]
        np.testing.assert_allclose(row["negative_log_likelihood"], full["negative_log_likelihood"], rtol=2e-2)


def test_float32_means_it_whatever_the_default_precision(networks, test_set, rows):
    with jax.default_matmul_precision("bfloat16"):
        again = evaluation.evaluate(networks, test_set, corruptions=(), batch_size=64)
    assert again == rows[:2]


def test_rows_are_json_and_say_how_they_were_made(rows):
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {(row["precision"], row["finite"]) for row in rows} == {("float32", True)}
