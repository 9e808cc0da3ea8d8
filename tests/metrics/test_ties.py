"""Equal confidences on the boundary of equal-mass bins: each bin gets its share, whatever the order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import metrics

# A run inside of a bin, one over a boundary, one over several bins.
TIED = {
    "one boundary": ([0.5, 0.6, 0.6, 0.6, 0.6, 0.9], 2),
    "several bins": ([0.3, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8], 4),
    "all equal": ([0.4] * 6, 4),
    "two runs on neighbouring boundaries": ([0.5, 0.6, 0.6, 0.7, 0.7, 0.8], 3),
    "inside of a bin": ([0.6, 0.6, 0.6, 0.7, 0.8, 0.9], 2),
    "more bins than examples": ([0.6, 0.6, 0.6], 5),
}


def mean_over_orders(confidence, correct, weights, num_bins):
    """Returns the sum of weighted residuals of each bin, averaged over all orders of the examples."""
    size = len(confidence)
    bin_of = np.concatenate([np.full(len(part), k) for k, part in enumerate(np.array_split(np.arange(size), num_bins))])
    orders = np.array(list(itertools.permutations(range(size))))
    rows = np.take_along_axis(orders, np.argsort(confidence[orders], axis=1, kind="stable"), axis=1)
    residual = (weights * (correct - confidence.astype(np.float64)))[rows].mean(axis=0)
    return np.bincount(bin_of, residual, num_bins)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", TIED)
def test_each_bin_holds_the_mean_over_all_orders(name, weighted):
    confidence, num_bins = np.asarray(TIED[name][0], np.float32), TIED[name][1]
    size = len(confidence)
    correct = np.array([1, 0, 0, 1, 1, 0, 1], bool)[:size]
    weights = np.array([1, 3, 0.5, 2, 1, 0.25, 2] if weighted else np.ones(7), np.float32)[:size]
    expected = np.abs(mean_over_orders(confidence, correct, weights, num_bins)).sum() / weights.sum()
    for order in (np.arange(size), np.arange(size)[::-1], np.roll(np.arange(size), 1)):
        given = weights[order] if weighted else None
        actual = metrics.binned_calibration_error(
            confidence[order], correct[order], weights=given, num_bins=num_bins, binning="equal_mass"
        )
        assert abs(actual - expected) < 1e-6


def test_the_bins_of_the_diagram_are_as_full_as_without_ties():
    confidence = np.array([0.6, 0.7, 0.7, 0.7, 0.7, 0.9, 0.9], np.float32)
    probs = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 0, 1, 0, 1])
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [2, 4, 1, 3, 0, 6, 5]):
        diagram = metrics.reliability_diagram(probs[order], labels[order], num_bins=3, binning="equal_mass")
        assert diagram.count.tolist() == [3, 2, 2]
        np.testing.assert_allclose(diagram.accuracy, [2 / 3, 0.5, 0.5], rtol=1e-6)
        np.testing.assert_allclose(diagram.confidence, [2 / 3, 0.7, 0.9], rtol=1e-6)
        np.testing.assert_allclose(diagram.lower, [0.6, 0.7, 0.9])
        np.testing.assert_allclose(diagram.upper, [0.7, 0.7, 0.9])


def test_a_million_ties_share_exactly(rng):
    confidence = rng.choice(np.array([0.55, 0.75, 0.95], np.float32), 300_000)
    correct = rng.random(300_000) < confidence - 0.1
    error = metrics.binned_calibration_error(confidence, correct, binning="equal_mass", num_bins=10)
    order = np.argsort(correct, kind="stable")
    assert (
        metrics.binned_calibration_error(confidence[order], correct[order], binning="equal_mass", num_bins=10) == error
    )
    assert abs(error - 0.1) < 0.005, "sorted by correctness, bins of one or the other would show 0.4"


def test_without_ties_nothing_is_shared(oracles):
    case = oracles.problem(8)
    confidence, correct = oracles.top_label(case.probs, case.labels)
    parts = np.array_split(np.argsort(confidence), 7)
    expected = sum(abs((correct - confidence)[part].sum()) for part in parts) / 60
    actual = metrics.expected_calibration_error(case.probs, case.labels, binning="equal_mass", num_bins=7)
    assert abs(actual - expected) < 1e-6


def test_gradients_of_equal_masses_reach_the_confidences(oracles):
    case = oracles.problem(8)

    def error(confidence):
        return metrics.binned_calibration_error(
            confidence, jnp.asarray(case.labels == 0), binning="equal_mass", num_bins=4
        )

    gradient = jax.grad(error)(jnp.asarray(case.probs[:, 0]))
    np.testing.assert_allclose(np.abs(gradient), 1 / 60, rtol=1e-5)


def test_classwise_l2_is_the_root_of_the_mean_of_squares(oracles):
    case = oracles.problem(10)
    squares = [oracles.calibration_error(case.probs[:, k], case.labels == k, norm="l2") ** 2 for k in range(5)]
    actual = metrics.classwise_calibration_error(case.probs, case.labels, norm="l2")
    assert abs(actual - np.mean(squares) ** 0.5) < 1e-6
    assert abs(actual - np.mean(np.sqrt(squares))) > 1e-3, "the mean of the roots is another number"
    bins = metrics.ClasswiseCalibrationBins.empty(num_classes=5).update(case.probs, case.labels)
    assert abs(bins.compute(norm="l2") - actual) < 1e-6
