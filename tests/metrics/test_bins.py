"""Which bin a confidence falls in, and what the bins of a diagram and of the Brier score hold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import metrics
from jaxprune.metrics._segments import equal_mass_index


@pytest.mark.parametrize("num_bins", [1, 2, 3, 7, 10, 15, 30, 49, 64, 100, 1000])
def test_a_confidence_equal_to_an_edge_is_right_of_it(num_bins):
    k = np.arange(num_bins + 1)
    edges = (k / num_bins).astype(np.float32)
    below = np.nextafter(edges, np.float32(-1))
    for place in (jnp.asarray, np.asarray):
        index = partial(metrics.equal_width_bins, num_bins=num_bins)
        np.testing.assert_array_equal(index(place(edges)), np.minimum(k, num_bins - 1))
        np.testing.assert_array_equal(index(place(below)), np.maximum(k - 1, 0))
    np.testing.assert_array_equal(jax.jit(index)(edges), np.minimum(k, num_bins - 1))


def test_sums_on_the_host_are_those_of_the_device(oracles):
    case = oracles.problem(31)
    confidence, correct = case.probs.max(axis=1), case.probs.argmax(axis=1) == case.labels
    sums = metrics.calibration_bin_sums(confidence, correct, num_bins=6)
    assert sums.dtype == np.float64
    bins = metrics.CalibrationBins.empty(num_bins=6).update_examples(confidence, correct)
    for mine, theirs in zip(sums, (bins.count, bins.correct.value, bins.confidence.value), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    error = np.abs(sums[1] - sums[2]).sum() / sums[0].sum()
    assert abs(error - oracles.calibration_error(confidence, correct, num_bins=6)) < 1e-12
    with pytest.raises(ValueError, match=r"one shape \[batch\], got \[60\] and \[2\]"):
        metrics.calibration_bin_sums(confidence, correct[:2])
    with pytest.raises(ValueError, match="confidences outside"):
        metrics.calibration_bin_sums(2 * confidence, correct)
    with pytest.raises(TypeError, match="confidence must be floating point numbers, got dtype int64"):
        metrics.equal_width_bins(case.labels.astype(int))


@pytest.mark.parametrize("size", [0, 1, 4, 15, 16, 29, 31])
def test_equal_mass_bins_are_those_of_array_split(size):
    expected = np.concatenate([np.full(len(part), k) for k, part in enumerate(np.array_split(np.arange(size), 15))])
    np.testing.assert_array_equal(equal_mass_index(jnp.arange(size), jnp.asarray(size), 15), expected)


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_all_confidences_equal(oracles, binning):
    confidence, correct = np.full(20, 0.3, np.float32), np.arange(20) % 2
    actual = metrics.binned_calibration_error(confidence, correct, num_bins=6, binning=binning)
    assert abs(actual.item() - oracles.calibration_error(confidence, correct, num_bins=6, binning=binning)) < 1e-6


def test_a_million_equal_confidences_keep_their_digits():
    bins = metrics.CalibrationBins.empty().update_examples(np.full(1_000_000, 0.95, np.float32), np.ones(1_000_000))
    assert abs(bins.compute().item() - (1 - float(np.float32(0.95)))) < 1e-7
    assert bins.count[14] == 1_000_000


@pytest.mark.parametrize("weighting", [None, "weights"])
@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_the_diagram_holds_what_the_bins_hold(oracles, binning, weighting):
    case = oracles.problem(31)
    weights = None if weighting is None else case.weights
    diagram = metrics.reliability_diagram(case.probs, case.labels, weights=weights, num_bins=6, binning=binning)
    expected = list(oracles.per_bin(case.probs, case.labels, weights, 6, binning))
    occupied = np.asarray(diagram.count) > 0
    assert occupied.sum() == len(expected)
    _, count, confidence, accuracy = map(np.array, zip(*expected, strict=True))
    np.testing.assert_array_equal(diagram.count[occupied], count)
    np.testing.assert_allclose(diagram.confidence[occupied], confidence, atol=1e-6)
    np.testing.assert_allclose(diagram.accuracy[occupied], accuracy, atol=1e-6)
    np.testing.assert_allclose(diagram.signed_gap[occupied], confidence - accuracy, atol=1e-6)
    assert (diagram.lower[occupied] <= confidence + 1e-6).all()
    assert (diagram.upper[occupied] >= confidence - 1e-6).all()


def test_the_edges_of_equal_mass_bins_are_their_extremes(oracles):
    case = oracles.problem(32)
    confidence = np.sort(case.probs[case.mask > 0].max(axis=1))
    diagram = metrics.reliability_diagram(case.probs, case.labels, weights=case.mask, num_bins=4, binning="equal_mass")
    parts = np.array_split(confidence, 4)
    np.testing.assert_allclose(diagram.lower, [part[0] for part in parts], atol=1e-7)
    np.testing.assert_allclose(diagram.upper, [part[-1] for part in parts], atol=1e-7)


@pytest.mark.parametrize("seed", [33, 34])
def test_the_parts_of_the_brier_score_add_up(oracles, seed):
    case = oracles.problem(seed)
    parts = metrics.brier_decomposition(case.probs, case.labels, weights=case.weights, num_bins=16)
    assert abs(sum(parts).item() - oracles.brier_score(case.probs, case.labels, case.weights)) < 1e-6
    weights = case.weights.astype(np.float64) / case.weights.sum(dtype=np.float64)
    calibration = refinement = 0
    for k in range(5):
        for rows in oracles.bins(case.probs[:, k].astype(np.float64), 16, "equal_width"):
            if (mass := weights[rows].sum()) > 0:
                frequency = weights[rows] @ (case.labels[rows] == k) / mass
                calibration += mass * (frequency - weights[rows] @ case.probs[rows, k] / mass) ** 2
                refinement += mass * frequency * (1 - frequency)
    assert abs(parts.calibration - calibration) < 1e-6
    assert abs(parts.refinement - refinement) < 1e-6
    if seed % 2:
        assert abs(parts.within_bins) < 1e-6, "multiples of 1/16 are equal within 16 bins"
