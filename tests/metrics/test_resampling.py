"""Bootstrap intervals, paired differences and noise floors, against NumPy and against their own promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import metrics

KEY = jax.random.key(0)


def mean(values):
    return values.mean()


def test_the_interval_of_a_mean_is_the_known_one(rng):
    values = jnp.asarray(rng.normal(3, 2, 400), jnp.float32)
    result = metrics.bootstrap(KEY, mean, values, num_samples=2000, chunk_size=64)
    error = float(values.std()) / 20
    assert result.estimate == values.mean()
    assert abs(result.standard_error - error) < 0.1 * error
    assert abs(result.low - (result.estimate - 1.96 * error)) < 0.2 * error
    assert abs(result.high - (result.estimate + 1.96 * error)) < 0.2 * error
    assert result.samples.shape == (2000,)


def test_the_chunk_size_does_not_change_a_sample(rng):
    values = jnp.asarray(rng.random(30), jnp.float32)
    one, ten = (metrics.bootstrap(KEY, mean, values, num_samples=20, chunk_size=size).samples for size in (1, 10))
    np.testing.assert_allclose(one, ten, rtol=1e-6)


def means_of_examples(statistics):
    return {"accuracy": statistics.correct.mean(), "brier_score": statistics.brier_score.mean()}


def test_trees_go_in_and_out(oracles):
    case = oracles.problem(40, 30)
    statistics = metrics.example_statistics(case.probs, case.labels)
    result = metrics.bootstrap(KEY, means_of_examples, statistics, num_samples=25)
    assert result.estimate.keys() == result.low.keys() == result.p_value.keys() == {"accuracy", "brier_score"}
    for name in result.estimate:
        assert result.low[name] <= result.estimate[name] <= result.high[name]


def test_pairs_stay_paired(oracles):
    case, noise = oracles.problem(41, 200), oracles.problem(42, 200)
    dense, pruned = case.probs, case.probs * 0.98 + noise.probs * 0.02
    paired = metrics.bootstrap_difference(KEY, metrics.brier_score, pruned, dense, case.labels, num_samples=200)
    single = metrics.bootstrap(KEY, metrics.brier_score, pruned, case.labels, num_samples=200)
    expected = oracles.brier_score(pruned, case.labels) - oracles.brier_score(dense, case.labels)
    assert abs(paired.estimate - expected) < 1e-6
    assert paired.standard_error < 0.2 * single.standard_error
    assert paired.low < paired.estimate < paired.high


def test_equal_models_differ_by_exactly_nothing(oracles):
    case = oracles.problem(44, 30)
    result = metrics.bootstrap_difference(
        KEY, metrics.expected_calibration_error, case.probs, case.probs, case.labels, num_samples=20
    )
    assert result.estimate == 0
    assert (result.samples == 0).all()
    assert result.p_value == 1


def test_a_clear_difference_has_a_small_p_value():
    good, bad = (jnp.tile(jnp.array([[p, 1 - p]]), (50, 1)) for p in (0.9, 0.6))
    result = metrics.bootstrap_difference(KEY, metrics.brier_score, bad, good, jnp.zeros(50, int), num_samples=99)
    assert result.p_value == pytest.approx(2 / 100)


def test_results_of_many_samples_print_in_a_line(rng):
    values = jnp.asarray(rng.random(1000), jnp.float32)
    result = metrics.bootstrap(KEY, mean, values, num_samples=1000)
    assert repr(result).startswith(f"Bootstrap(estimate={result.estimate:.6g}, low={result.low:.6g}, high=")
    assert repr(result).endswith("samples=float32[1000])")
    floor = metrics.noise_floor(KEY, values, num_samples=20)
    assert repr(floor).endswith("samples=float32[20])")
    statistics = metrics.example_statistics(jnp.stack([values, 1 - values], axis=1), jnp.zeros(1000, int))
    assert repr(statistics).startswith("ExampleStatistics(confidence=float32[1000], prediction=int32[1000]")
    tree = metrics.bootstrap(KEY, means_of_examples, statistics, num_samples=4)
    assert "samples={'accuracy': float32[4], 'brier_score': float32[4]}" in repr(tree)
    for shown in (result, floor, tree, jax.eval_shape(lambda: result)):
        assert len(repr(shown)) < 500


def test_nan_stays_nan():
    result = metrics.bootstrap(KEY, mean, jnp.array([1.0, jnp.nan]), num_samples=50)
    assert np.isnan([result.estimate, result.low, result.p_value]).all()


def test_the_second_bootstrap_does_not_compile(oracles):
    from jaxprune.metrics import resampling

    for seed in (44, 46):
        case = oracles.problem(seed, 30)
        metrics.bootstrap_difference(KEY, metrics.brier_score, case.probs, case.probs, case.labels, num_samples=20)
        compiled = resampling._resample._cache_size() if seed == 44 else compiled
    assert resampling._resample._cache_size() == compiled


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_the_noise_floor_is_what_resampled_labels_show(oracles, rng, binning):
    confidence = rng.beta(6, 1, 500).astype(np.float32)
    floor = metrics.noise_floor(KEY, confidence, binning=binning, num_samples=400)
    expected = [
        oracles.calibration_error(confidence, rng.random(500) < confidence, binning=binning) for _ in range(400)
    ]
    assert abs(floor.mean - np.mean(expected)) < 4 * np.std(expected) / np.sqrt(200)
    assert abs(floor.standard_deviation - np.std(expected)) < 0.25 * np.std(expected)
    assert abs(floor.quantile_95 - np.quantile(expected, 0.95)) < 0.5 * np.std(expected)


def test_the_noise_floor_of_an_accurate_model(rng):
    confidence = rng.beta(19, 1, 10_000).astype(np.float32)
    floor = metrics.noise_floor(KEY, confidence, num_samples=200)
    assert abs(confidence.mean() - 0.95) < 0.002
    assert 0.003 < floor.mean < 0.007
    assert 0.0006 < floor.standard_deviation < 0.0018


def test_masked_confidences_leave_the_noise_floor_alone(rng):
    confidence = rng.beta(6, 1, 100).astype(np.float32)
    padded = np.concatenate([confidence, np.full(50, np.nan, np.float32)])
    floor = metrics.noise_floor(KEY, padded, weights=np.arange(150) < 100, num_samples=400)
    plain = metrics.noise_floor(KEY, confidence, num_samples=400)
    assert abs(floor.mean - plain.mean) < 4 * plain.standard_deviation / np.sqrt(200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.bootstrap(KEY, mean, jnp.zeros(3), jnp.zeros(4)), "share a leading axis"),
        (lambda: metrics.bootstrap(KEY, mean, jnp.zeros(0)), "at least one example"),
        (lambda: metrics.bootstrap(KEY, mean, jnp.zeros(3), level=95.0), "level must be strictly between 0 and 1"),
        (lambda: metrics.bootstrap(KEY, mean, jnp.zeros(3), num_samples=0), "num_samples must be an integer"),
        (lambda: metrics.bootstrap(KEY, mean, jnp.zeros(3), chunk_size=0), "chunk_size must be an integer"),
        (
            lambda: metrics.bootstrap_difference(
                KEY, metrics.accuracy, jnp.zeros((3, 2)), jnp.zeros((3, 4)), jnp.zeros(3, int)
            ),
            "outputs and reference_outputs must have one shape",
        ),
        (lambda: metrics.noise_floor(KEY, jnp.zeros((3, 2))), r"confidence must have the shape \[batch\]"),
        (lambda: metrics.noise_floor(KEY, jnp.zeros(3), num_bins=0), "num_bins must be an integer"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def per_example_statistics(key, size):
    """Returns confidences, correctness and two-class Brier scores of a model that is overconfident by 0.05."""
    first, second = jax.random.split(key)
    confidence = 0.5 + 0.5 * jax.random.beta(first, 2.0, 1.0, (size,))
    correct = jax.random.uniform(second, (size,)) < confidence - 0.05
    return confidence, correct, 2 * (confidence - correct) ** 2


def coverage(metric, truth, problems=500, size=300, num_samples=300):
    """Returns how often a 95 % interval holds the truth."""
    keys = jax.random.split(jax.random.key(1), (problems, 2))

    def covers(keys):
        arrays = per_example_statistics(keys[0], size)
        result = metrics.bootstrap(keys[1], metric, *arrays, num_samples=num_samples, chunk_size=num_samples)
        return (result.low <= truth) & (truth <= result.high)

    return float(jax.jit(lambda keys: jax.lax.map(covers, keys))(keys).mean())


def mean_correct(confidence, correct, squared):
    return correct.mean()


def mean_squared(confidence, correct, squared):
    return squared.mean()


def binned(confidence, correct, squared):
    return metrics.binned_calibration_error(confidence, correct, norm="l2", binning="equal_mass")


def debiased(confidence, correct, squared):
    probs = jnp.stack([confidence, 1 - confidence], axis=1)
    return metrics.debiased_calibration_error(probs, 1 - correct.astype(jnp.int32))


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    _, correct, squared = per_example_statistics(jax.random.key(2), 2_000_000)
    assert 0.93 <= coverage(mean_correct, float(correct.mean())) <= 0.97
    assert 0.93 <= coverage(mean_squared, float(squared.mean())) <= 0.97
    # The truth of both calibration errors is 0.05; the binned one is biased, and its bootstrap twice.
    assert coverage(binned, 0.05, problems=100) < 0.5
    assert coverage(debiased, 0.05, problems=250) > 0.85
