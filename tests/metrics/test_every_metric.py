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
SMOOTH_TOLERANCE = 1e-5  # the smoothed residual is integrated on a grid
ECE = metrics.expected_calibration_error
ONLY_OUTPUTS = (metrics.entropy,)
METRICS = {
    "accuracy": (metrics.accuracy, {}),
    "top_k_accuracy": (metrics.top_k_accuracy, {"k": 2}),
    "negative_log_likelihood": (metrics.negative_log_likelihood, {}),
    "brier_score": (metrics.brier_score, {}),
    "entropy": (metrics.entropy, {}),
    "one bin": (ECE, {"num_bins": 1}),
    "equal width": (ECE, {}),
    "equal mass, l2": (ECE, {"binning": "equal_mass", "num_bins": 7, "norm": "l2"}),
    "more bins than examples": (ECE, {"num_bins": 100, "binning": "equal_mass"}),
    "many narrow bins": (ECE, {"num_bins": 100}),
    "maximum": (metrics.maximum_calibration_error, {"num_bins": 4}),
    "debiased": (metrics.debiased_calibration_error, {"num_bins": 5}),
    "overconfidence": (metrics.overconfidence_error, {"num_bins": 5}),
    "average": (metrics.average_calibration_error, {"num_bins": 6}),
    "average of equal masses": (metrics.average_calibration_error, {"num_bins": 6, "binning": "equal_mass"}),
    "debiased class-wise": (metrics.debiased_classwise_calibration_error, {"num_bins": 4}),
    "adaptive, l2": (metrics.adaptive_calibration_error, {"num_bins": 4, "norm": "l2"}),
    "top-label Brier": (metrics.top_label_brier_score, {}),
    "signed gap": (metrics.signed_calibration_gap, {}),
    "Kolmogorov-Smirnov": (metrics.kolmogorov_smirnov_calibration_error, {}),
    "class-wise": (metrics.classwise_calibration_error, {}),
    "class-wise above a threshold": (metrics.classwise_calibration_error, {"threshold": 0.2, "norm": "l2"}),
    "adaptive": (metrics.adaptive_calibration_error, {"num_bins": 4}),
    "smooth": (metrics.smooth_calibration_error, {}),
    "smooth at a bandwidth": (metrics.smooth_calibration_error, {"bandwidth": 0.05}),
    "risk-coverage": (metrics.area_under_risk_coverage, {}),
}


def metric_of(name):
    function, options = METRICS[name]
    if function in ONLY_OUTPUTS:
        return lambda outputs, labels, **more: function(outputs, **options, **more)
    return partial(function, **options)


def oracle_of(oracles, name):
    function, options = METRICS[name]
    return partial(getattr(oracles, function.__name__), **options)


def tolerance_of(name):
    return SMOOTH_TOLERANCE if name.startswith("smooth") else TOLERANCE


def close(actual, expected, tolerance=TOLERANCE):
    return actual == expected or abs(float(actual) - float(expected)) < tolerance


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=9, deadline=None)
@given(seed=st.integers(0, 10_000), form=st.sampled_from([(60, "weights"), (60, None), (2, None)]))
def test_matches_the_oracle(oracles, name, seed, form):
    size, weighting = form
    case = oracles.problem(seed, size)
    weights = None if weighting is None else getattr(case, weighting)
    actual = metric_of(name)(case.probs, case.labels, weights=weights)
    assert actual.dtype == jnp.float32
    assert actual.shape == ()
    assert close(actual, oracle_of(oracles, name)(case.probs, case.labels, weights=weights), tolerance_of(name))


@pytest.mark.parametrize("name", METRICS)
def test_logits_are_probabilities_after_softmax(oracles, name):
    case = oracles.problem(4)
    actual = metric_of(name)(case.logits, case.labels, from_logits=True)
    assert close(actual, oracle_of(oracles, name)(oracles.softmax(case.logits), case.labels), tolerance_of(name))
    case.logits[7] = np.nan
    assert np.isnan(metric_of(name)(case.logits, case.labels, from_logits=True))


@pytest.mark.parametrize(
    "name",
    ["top_k_accuracy", "negative_log_likelihood", "equal mass, l2", "Kolmogorov-Smirnov", "adaptive", "smooth"],
)
def test_vmap_equals_loop(oracles, name):
    metric, case = metric_of(name), oracles.problem(4)
    stack = np.stack([oracles.problem(seed).probs for seed in range(3)])
    mapped = jax.vmap(lambda probs: metric(probs, case.labels, weights=case.weights))(stack)
    looped = [metric(probs, case.labels, weights=case.weights) for probs in stack]
    np.testing.assert_allclose(mapped, looped, atol=3e-7)


@pytest.mark.parametrize("name", ["negative_log_likelihood", "equal mass, l2"])
def test_jit_equals_eager(oracles, name):
    case = oracles.problem(4, 9)
    with jax.disable_jit():
        eager = metric_of(name)(case.logits, case.labels, weights=case.weights, from_logits=True)
    assert close(eager, metric_of(name)(case.logits, case.labels, weights=case.weights, from_logits=True), 3e-7)


@pytest.mark.parametrize("name", METRICS)
def test_masked_rows_never_count_even_when_they_are_nan(oracles, name):
    case = oracles.problem(6)
    kept = case.mask > 0
    actual = metric_of(name)(
        np.where(kept[:, None], case.probs, np.nan), np.where(kept, case.labels, -1), weights=case.mask
    )
    assert close(actual, oracle_of(oracles, name)(case.probs[kept], case.labels[kept]), tolerance_of(name))


@pytest.mark.parametrize("name", METRICS)
def test_nan_in_gives_nan_out(oracles, name):
    case, metric = oracles.problem(6), metric_of(name)
    damaged = case.probs.copy()
    damaged[7, 2] = np.nan
    assert np.isnan(metric(damaged, case.labels))
    assert np.isnan(metric(damaged, case.labels, weights=np.ones(60, np.float32)))
    assert np.isnan(metric(case.probs, case.labels, weights=np.where(np.arange(60) == 7, np.nan, case.weights)))
    if name != "entropy":
        outside = np.where(np.arange(60) == 7, 5, case.labels).astype(np.int32)
        traced = jax.jit(lambda labels: metric(case.probs, labels))(outside)
        assert np.isnan(traced), "a label outside of the classes, which a traced call cannot refuse"


@pytest.mark.parametrize("name", METRICS)
def test_nothing_to_measure_is_nan(oracles, name):
    metric, case = metric_of(name), oracles.problem(6)
    assert np.isnan(metric(jnp.zeros((0, 5)), jnp.zeros(0, int)))
    assert np.isnan(metric(case.probs, case.labels, weights=np.zeros(60, np.float32)))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("negative_log_likelihood", jnp.float16),
        ("equal width", jnp.bfloat16),
        ("smooth", jnp.float16),
        ("class-wise", jnp.bfloat16),
    ],
)
def test_low_precision_is_computed_in_float32(oracles, name, dtype):
    case = oracles.problem(8)
    probs = jnp.asarray(case.probs, dtype)
    actual = metric_of(name)(probs, case.labels)
    assert actual.dtype == jnp.float32
    expected = oracle_of(oracles, name)(np.asarray(probs.astype(jnp.float32)), case.labels)
    assert close(actual, expected, tolerance_of(name))


@pytest.mark.parametrize("name", METRICS)
def test_the_second_call_does_not_compile(oracles, name):
    first, second = oracles.problem(10), oracles.problem(12)
    function, metric = METRICS[name][0], metric_of(name)
    metric(first.probs, first.labels)
    compiled = function._cache_size()
    metric(second.probs, second.labels)
    assert compiled > 0
    assert function._cache_size() == compiled


def test_one_example_is_measured():
    probs, labels = jnp.array([[0.75, 0.25]]), jnp.array([1])
    for name in ("one bin", "equal width", "many narrow bins", "more bins than examples", "maximum"):
        assert metric_of(name)(probs, labels) == 0.75
    assert metric_of("debiased")(probs, labels) == 0, "one example cannot be debiased"


def test_a_label_of_probability_zero_costs_infinity():
    assert metrics.negative_log_likelihood(jnp.array([[1.0, 0.0]]), jnp.array([1])) == jnp.inf
    assert metrics.negative_log_likelihood(jnp.array([[0.0, -jnp.inf]]), jnp.array([1]), from_logits=True) == jnp.inf


def test_large_logits_do_not_overflow():
    logits, labels = jnp.array([[1e4, 0.0], [-3e38, 3e38]]), jnp.array([0, 1])
    assert metrics.negative_log_likelihood(logits, labels, from_logits=True) == 0
    assert metrics.expected_calibration_error(logits, labels, from_logits=True) == 0


def test_gradients_flow_through_the_proper_scores(oracles):
    case = oracles.problem(10)
    gradient = jax.grad(metrics.negative_log_likelihood)(case.logits, case.labels, from_logits=True)
    expected = (oracles.softmax(case.logits) - np.eye(5)[case.labels]) / 60
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


PROBS, LABELS = jnp.full((4, 2), 0.5), jnp.zeros(4, int)
WRONG = {
    "one-dimensional outputs": (lambda m: m(PROBS[:, 0], LABELS), ValueError, r"jnp.stack\(\[1 - p, p\]"),
    "no classes": (lambda m: m(PROBS[:, :0], LABELS), ValueError, "at least two classes"),
    "one sigmoid column": (lambda m: m(PROBS[:, :1], LABELS), ValueError, r"two columns by jnp.stack\(\[1 - p, p\]"),
    "one column, traced": (lambda m: jax.jit(m)(PROBS[:, :1], LABELS), ValueError, "at least two classes"),
    "arguments swapped": (lambda m: m(jnp.stack([LABELS] * 2, 1), LABELS), TypeError, r"\(outputs, labels\)"),
    "one-hot labels": (lambda m: m(PROBS, jnp.eye(2, dtype=int)[LABELS]), ValueError, "argmax"),
    "float labels": (lambda m: m(PROBS, LABELS.astype(float)), TypeError, "integer class indices"),
    "too few labels": (lambda m: m(PROBS, LABELS[:3]), ValueError, r"\[batch\] = \[4\]"),
    "weights of another shape": (lambda m: m(PROBS, LABELS, weights=PROBS), ValueError, "one number for each example"),
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"entropy"}))
def test_mistakes_are_named_with_their_cure(name, mistake):
    call, error, message = WRONG[mistake]
    with pytest.raises(error, match=message):
        call(metric_of(name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 0}, "num_bins must be an integer of at least 1, got 0"),
        ({"binning": "quantile"}, "binning must be one of 'equal_width', 'equal_mass', got 'quantile'"),
        ({"norm": "l3"}, "norm must be one of 'l1', 'l2', 'max', 'average', got 'l3'"),
    ],
)
def test_unknown_options_are_named(options, message):
    for function in (ECE, metrics.classwise_calibration_error):
        with pytest.raises(ValueError, match=message):
            function(PROBS, LABELS, **options)
    with pytest.raises(ValueError, match=message):
        metrics.binned_calibration_error(PROBS[:, 0], LABELS, **options)


def test_top_k_needs_a_positive_k():
    with pytest.raises(ValueError, match="k must be an integer of at least 1, got 0"):
        metrics.top_k_accuracy(PROBS, LABELS, k=0)
