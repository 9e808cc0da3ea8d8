import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import corruptions, data, evaluation, models
from jaxprune.evaluation import _programs

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


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 16}, {"batch_size": 1000, "devices": 1}, {"model_axis": "vmap"}, {"devices": 3}],
    ids=str,
)
def test_batches_devices_and_stacking_do_not_change_the_numbers(rows, networks, test_set, change):
    if "devices" in change:
        change = change | {"devices": jax.devices()[: change["devices"]]}
    arguments = {"corruptions": NAMES[:1], "severities": (5,), "batch_size": 64} | change
    again = evaluation.evaluate(networks, test_set, key=KEY, **arguments)
    for row in again:
        expected = index(rows)[row["classifier"], row["corruption"], row["severity"]]
        assert row["num_correct"] == expected["num_correct"]
        for metric in ("negative_log_likelihood", "brier_score", "ece_equal_width_15", "ece_equal_mass_10"):
            np.testing.assert_allclose(row[metric], expected[metric], atol=2e-5)


def test_severities_and_classifiers_share_compilations(networks, test_set):
    before = _programs.corrupt._cache_size(), _programs.classify._cache_size()
    for severity in (1, 2, 3):
        evaluation.evaluate(
            networks, test_set, key=KEY, corruptions=("brightness",), severities=(severity,), batch_size=64
        )
    after = _programs.corrupt._cache_size(), _programs.classify._cache_size()
    assert after[0] - before[0] == 1
    assert after[1] - before[1] <= 1


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
    ],
)
def test_bad_input_is_refused(networks, test_set, change, message):
    arguments = {"classifiers": networks, "corruptions": NAMES} | change
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(arguments.pop("classifiers"), test_set, key=KEY, **arguments)


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
