"""The golden numbers of the reference logits, computed elsewhere in float64."""

import numpy as np
import pytest

from jaxprune import metrics

TOLERANCE = 1e-6
CALIBRATION_ERRORS = {
    (10, "equal_width", "l1"): 0.0486645652,
    (15, "equal_width", "l1"): 0.0459806799,
    (10, "equal_mass", "l1"): 0.0463726568,
    (15, "equal_mass", "l1"): 0.0476839690,
    (10, "equal_width", "l2"): 0.0527554112,
    (15, "equal_width", "l2"): 0.0537123347,
    (10, "equal_width", "max"): 0.0831391980,
    (15, "equal_width", "max"): 0.1326971306,
}
SCORES = {"accuracy": 0.529780, "brier_score": 0.6327800365, "negative_log_likelihood": 1.3952464184}


@pytest.mark.parametrize(("num_bins", "binning", "norm"), CALIBRATION_ERRORS)
def test_expected_calibration_error(golden, num_bins, binning, norm):
    actual = metrics.expected_calibration_error(
        golden["logits"], golden["labels"], from_logits=True, num_bins=num_bins, binning=binning, norm=norm
    )
    assert abs(actual.item() - CALIBRATION_ERRORS[num_bins, binning, norm]) < TOLERANCE


@pytest.mark.parametrize("name", SCORES)
def test_scores(golden, name):
    actual = getattr(metrics, name)(golden["logits"], golden["labels"], from_logits=True)
    assert abs(actual.item() - SCORES[name]) < TOLERANCE


def test_confidences_on_the_edges_fall_right_of_them(golden):
    actual = metrics.expected_calibration_error(golden["edge_probs"], golden["edge_labels"], num_bins=10)
    assert abs(actual.item() - 0.0783333310) < TOLERANCE


def test_the_summary_of_examples(golden):
    summary = metrics.summarize_examples(
        metrics.example_statistics(golden["logits"], golden["labels"], from_logits=True)
    )
    expected = SCORES | {"mean_confidence": 0.5428560819, "signed_calibration_gap": 0.5428560819 - 0.529780}
    expected |= {f"ece_{binning}_{n}": x for (n, binning, norm), x in CALIBRATION_ERRORS.items() if norm == "l1"}
    assert summary.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(summary[name].item() - value) < TOLERANCE, name


def test_smooth_calibration_error(golden):
    smooth = metrics.smooth_calibration_error
    arguments = golden["logits"], golden["labels"]
    assert abs(smooth(*arguments, from_logits=True).item() - 0.0436180) < 1e-6
    assert abs(smooth(*arguments, from_logits=True, bandwidth=0.05).item() - 0.0425016) < 1e-6


def test_the_unweighted_mean_of_the_bins(golden):
    for num_bins, expected in ((10, 0.0389854027), (15, 0.0451901873)):
        diagram = metrics.reliability_diagram(golden["logits"], golden["labels"], from_logits=True, num_bins=num_bins)
        assert abs(np.nanmean(np.abs(diagram.signed_gap)) - expected) < TOLERANCE


@pytest.mark.slow
def test_the_report(golden):
    report = metrics.calibration_report(golden["logits"], golden["labels"], from_logits=True)
    for (num_bins, binning, norm), expected in CALIBRATION_ERRORS.items():
        name = f"ece_{binning}_{num_bins}" if norm == "l1" else f"ece_{norm}_{binning}_{num_bins}"
        assert abs(report[name].item() - expected) < TOLERANCE, name
    for name, expected in (SCORES | {"mean_confidence": 0.5428560819, "smooth_calibration_error": 0.0436180}).items():
        assert abs(report[name].item() - expected) < TOLERANCE, name


def test_streaming_in_batches_gives_the_golden_numbers(golden):
    bins = metrics.CalibrationBins.empty(num_bins=15)
    for start in range(0, 100_000, 20_000):
        rows = slice(start, start + 20_000)
        bins = bins.update(golden["logits"][rows], golden["labels"][rows], from_logits=True)
    for norm in ("l1", "l2", "max"):
        assert abs(bins.compute(norm=norm).item() - CALIBRATION_ERRORS[15, "equal_width", norm]) < TOLERANCE
    assert np.asarray(bins.count).sum() == 100_000
