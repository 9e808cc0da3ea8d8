"""Per-example statistics and the scalars made of them."""

import jax
import numpy as np
import pytest

from jaxprune import metrics


def test_statistics_match_the_oracle(oracles):
    case = oracles.problem(20)
    statistics = metrics.example_statistics(case.logits, case.labels, from_logits=True)
    probs = oracles.softmax(case.logits)
    confidence, correct = oracles.top_label(probs, case.labels)
    np.testing.assert_allclose(statistics.confidence, confidence, atol=1e-6)
    np.testing.assert_array_equal(statistics.correct, correct)
    np.testing.assert_array_equal(statistics.prediction, probs.argmax(axis=1))
    np.testing.assert_allclose(statistics.negative_log_likelihood, -np.log(probs[range(60), case.labels]), atol=2e-6)
    np.testing.assert_allclose(statistics.brier_score, ((probs - np.eye(5)[case.labels]) ** 2).sum(1), atol=1e-6)
    assert [str(x.dtype) for x in statistics] == ["float32", "int32", "bool", "float32", "float32"]


def test_a_stack_of_models_is_a_vmap(oracles):
    cases = [oracles.problem(seed, 20) for seed in range(3)]
    labels = cases[0].labels
    mapped = jax.vmap(lambda probs: metrics.example_statistics(probs, labels))(np.stack([c.probs for c in cases]))
    for position, case in enumerate(cases):
        single = metrics.example_statistics(case.probs, labels)
        for mine, theirs in zip(mapped, single, strict=True):
            np.testing.assert_allclose(mine[position], theirs, atol=1e-7)


@pytest.mark.parametrize("weighting", [None, "mask", "weights"])
def test_the_summary_is_what_the_metrics_say(oracles, weighting):
    case = oracles.problem(21)
    weights = None if weighting is None else getattr(case, weighting)
    summary = metrics.summarize_examples(metrics.example_statistics(case.probs, case.labels), weights=weights)
    confidence, correct = oracles.top_label(case.probs, case.labels)
    expected = {
        "accuracy": oracles.mean(correct, weights),
        "negative_log_likelihood": oracles.negative_log_likelihood(case.probs, case.labels, weights),
        "brier_score": oracles.brier_score(case.probs, case.labels, weights),
        "mean_confidence": oracles.mean(confidence, weights),
        "signed_calibration_gap": oracles.mean(confidence - correct, weights),
    }
    for binning in ("equal_width", "equal_mass"):
        for num_bins in (10, 15):
            expected[f"ece_{binning}_{num_bins}"] = oracles.calibration_error(
                confidence, correct, weights, num_bins=num_bins, binning=binning
            )
    assert summary.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(summary[name].item() - value) < 2e-6, name


def test_a_mask_equals_dropping_the_rows(oracles):
    case = oracles.problem(22)
    kept = case.mask > 0
    masked = metrics.summarize_examples(metrics.example_statistics(case.probs, case.labels), weights=case.mask)
    dropped = metrics.summarize_examples(metrics.example_statistics(case.probs[kept], case.labels[kept]))
    for name in masked:
        assert abs(masked[name] - dropped[name]) < 1e-7, name


def test_one_nan_row_makes_every_scalar_nan(oracles):
    case = oracles.problem(23)
    case.probs[4] = np.nan
    statistics = metrics.example_statistics(case.probs, case.labels)
    assert not statistics.correct[4]
    assert all(np.isnan(value) for value in metrics.summarize_examples(statistics).values())
