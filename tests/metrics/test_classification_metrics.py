"""Every metric of outputs and labels against its float64 oracle, and under every harness."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import metrics

TOLERANCE = 2e-6  # rounding of float32 inputs to log and softmax; sums add nothing to it
ECE = metrics.expected_calibration_error
METRICS = {
    "accuracy": (metrics.accuracy, {}),
    "top_k_accuracy": (metrics.top_k_accuracy, {"k": 2}),
    "negative_log_likelihood": (metrics.negative_log_likelihood, {}),
    "brier_score": (metrics.brier_score, {}),
    "expected_calibration_error": (ECE, {}),
    "one bin": (ECE, {"num_bins": 1}),
    "equal mass": (ECE, {"binning": "equal_mass", "num_bins": 7}),
    "l2": (ECE, {"norm": "l2", "num_bins": 4}),
    "max, equal mass": (ECE, {"norm": "max", "binning": "equal_mass", "num_bins": 4}),
    "more bins than examples": (ECE, {"num_bins": 100, "binning": "equal_mass"}),
    "many narrow bins": (ECE, {"num_bins": 100}),
}
SIZES = st.sampled_from([2, 60])


def metric_of(name):
    function, options = METRICS[name]
    return partial(function, **options)


def oracle_of(oracles, name):
    function, options = METRICS[name]
    return partial(getattr(oracles, function.__name__), **options)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=SIZES, weighting=st.sampled_from([None, "weights"]))
def test_matches_the_oracle(oracles, name, seed, size, weighting):
    case = oracles.problem(seed, size)
    weights = None if weighting is None else getattr(case, weighting).astype(np.float32)
    if weights is not None and not weights.any():
        weights[0] = 1
    actual = metric_of(name)(case.probs, case.labels, weights=weights)
    assert actual.dtype == jnp.float32
    assert abs(actual.item() - oracle_of(oracles, name)(case.probs, case.labels, weights=weights)) < TOLERANCE


@pytest.mark.parametrize("name", METRICS)
def test_logits_are_probabilities_after_softmax(oracles, name):
    case = oracles.problem(3)
    actual = metric_of(name)(case.logits, case.labels, from_logits=True)
    assert abs(actual.item() - oracle_of(oracles, name)(oracles.softmax(case.logits), case.labels)) < TOLERANCE


@pytest.mark.parametrize("name", METRICS)
def test_vmap_equals_loop(oracles, name):
    metric, case = metric_of(name), oracles.problem(4, 40)
    stack = np.stack([oracles.problem(seed, 40).probs for seed in range(3)])
    mapped = jax.vmap(lambda probs: metric(probs, case.labels, weights=case.mask))(stack)
    looped = [metric(probs, case.labels, weights=case.mask) for probs in stack]
    np.testing.assert_allclose(mapped, looped, atol=2e-7)


@pytest.mark.parametrize("name", ["top_k_accuracy", "negative_log_likelihood", "max, equal mass"])
def test_jit_equals_eager(oracles, name):
    case = oracles.problem(4, 9)
    with jax.disable_jit():
        eager = metric_of(name)(case.logits, case.labels, weights=case.weights, from_logits=True)
    jitted = metric_of(name)(case.logits, case.labels, weights=case.weights, from_logits=True)
    assert abs(eager.item() - jitted.item()) < 2e-7


@pytest.mark.parametrize("name", METRICS)
def test_masked_rows_never_count_even_when_they_are_nan(oracles, name):
    case = oracles.problem(5)
    kept = case.mask > 0
    padded = np.where(kept[:, None], case.probs, np.nan)
    labels = np.where(kept, case.labels, -1)
    actual = metric_of(name)(padded, labels, weights=case.mask)
    dropped = metric_of(name)(case.probs[kept], case.labels[kept])
    assert abs(actual.item() - dropped.item()) < 1e-7


@pytest.mark.parametrize("name", METRICS)
def test_nan_in_gives_nan_out(oracles, name):
    case, metric = oracles.problem(6), metric_of(name)
    damaged = case.probs.copy()
    damaged[7, 2] = np.nan
    assert np.isnan(metric(damaged, case.labels))
    damaged[7] = np.nan
    assert np.isnan(metric(damaged, case.labels, from_logits=True))
    assert np.isnan(metric(case.probs, np.where(np.arange(60) == 7, 5, case.labels))), "a label outside of the classes"


@pytest.mark.parametrize("name", METRICS)
def test_nothing_to_measure_is_nan(oracles, name):
    metric, case = metric_of(name), oracles.problem(7)
    assert np.isnan(metric(jnp.zeros((0, 5)), jnp.zeros(0, int)))
    assert np.isnan(metric(case.probs, case.labels, weights=np.zeros(60)))


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_examples_does_not_matter(oracles, name, rng):
    case, order = oracles.problem(8), rng.permutation(60)
    assert metric_of(name)(case.probs, case.labels) == pytest.approx(
        metric_of(name)(case.probs[order], case.labels[order]).item(), abs=1e-7
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", METRICS)
def test_low_precision_is_computed_in_float32(oracles, name, dtype):
    case = oracles.problem(9)
    probs = jnp.asarray(case.probs, dtype)
    actual = metric_of(name)(probs, case.labels)
    assert actual.dtype == jnp.float32
    expected = oracle_of(oracles, name)(np.asarray(probs.astype(jnp.float32)), case.labels)
    assert abs(actual.item() - expected) < TOLERANCE


def test_one_class_is_always_right():
    probs, labels = jnp.ones((4, 1)), jnp.zeros(4, int)
    assert metrics.accuracy(probs, labels) == 1
    assert metrics.expected_calibration_error(probs, labels) == 0
    assert metrics.negative_log_likelihood(probs, labels) == 0
    assert metrics.brier_score(probs, labels) == 0


def test_a_label_of_probability_zero_costs_infinity():
    assert metrics.negative_log_likelihood(jnp.array([[1.0, 0.0]]), jnp.array([1])) == jnp.inf


def test_ties_go_to_the_first_class(oracles):
    for classes in (3, 64, 1000):
        rng = np.random.default_rng(classes)
        probs = rng.integers(0, 3, (50, classes)).astype(np.float32)
        statistics = metrics.example_statistics(probs, rng.integers(0, classes, 50))
        np.testing.assert_array_equal(statistics.prediction, probs.argmax(axis=1))


def test_gradients_flow_through_the_proper_scores(oracles):
    case = oracles.problem(10)
    gradient = jax.grad(metrics.negative_log_likelihood)(case.logits, case.labels, from_logits=True)
    expected = (oracles.softmax(case.logits) - np.eye(5)[case.labels]) / 60
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_the_second_call_does_not_compile(oracles, name):
    function, options = METRICS[name]
    first, second = oracles.problem(11, 33), oracles.problem(12, 33)
    function(first.probs, first.labels, **options)
    compiled = function._cache_size()
    function(second.probs, second.labels, **options)
    assert function._cache_size() == compiled


PROBS, LABELS = jnp.full((4, 2), 0.5), jnp.zeros(4, int)
WRONG = {
    "one-dimensional outputs": (lambda m: m(PROBS[:, 0], LABELS), ValueError, r"jnp.stack\(\[1 - p, p\]"),
    "no classes": (lambda m: m(PROBS[:, :0], LABELS), ValueError, "at least one class"),
    "arguments swapped": (lambda m: m(jnp.stack([LABELS] * 2, 1), LABELS), TypeError, r"\(outputs, labels\)"),
    "one-hot labels": (lambda m: m(PROBS, jnp.eye(2, dtype=int)[LABELS]), ValueError, "argmax"),
    "float labels": (lambda m: m(PROBS, LABELS.astype(float)), TypeError, "integer class indices"),
    "too few labels": (lambda m: m(PROBS, LABELS[:3]), ValueError, r"\[batch\] = \[4\]"),
    "weights of another shape": (lambda m: m(PROBS, LABELS, weights=PROBS), ValueError, "one number for each example"),
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("name", ["accuracy", "top_k_accuracy", "negative_log_likelihood", "brier_score", "l2"])
def test_mistakes_are_named_with_their_cure(name, mistake):
    call, error, message = WRONG[mistake]
    with pytest.raises(error, match=message):
        call(metric_of(name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 0}, "num_bins must be an integer of at least 1, got 0"),
        ({"binning": "quantile"}, "binning must be one of 'equal_width', 'equal_mass', got 'quantile'"),
        ({"norm": "l3"}, "norm must be one of 'l1', 'l2', 'max', got 'l3'"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ECE(PROBS, LABELS, **options)
    with pytest.raises(ValueError, match=message):
        metrics.binned_calibration_error(PROBS[:, 0], LABELS, **options)


def test_top_k_needs_a_positive_k():
    with pytest.raises(ValueError, match="k must be an integer of at least 1, got 0"):
        metrics.top_k_accuracy(PROBS, LABELS, k=0)
