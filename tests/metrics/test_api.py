"""Every export is documented with an example, and the whole report compiles in seconds."""

import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxprune import metrics

TABLES = {
    "ALEXNET_IMAGENET_CLEAN_ERROR",
    "ALEXNET_IMAGENET_C_ERROR",
    "COMMON_CORRUPTIONS",
    "CORRUPTION_CATEGORIES",
    "EXTRA_CORRUPTIONS",
}
RESULTS = {
    "Bootstrap",
    "BrierDecomposition",
    "ExampleStatistics",
    "McNemarTest",
    "NoiseFloor",
    "ReliabilityDiagram",
    "RiskCoverage",
    "VectorScaling",
}


@pytest.mark.parametrize("name", sorted(set(metrics.__all__) - TABLES))
def test_every_export_is_documented_with_an_example(name):
    documentation = inspect.getdoc(getattr(metrics, name))
    assert documentation.splitlines()[0].endswith((".", ":", ","))
    assert name in RESULTS or ">>>" in documentation


def test_what_runs_on_the_host_starts_no_jax():
    code = """
import sys
from jaxprune import metrics
metrics.wilson_interval(5, 10), metrics.adjust_p_values([0.1]), metrics.modal_prediction([[0, 1]])
metrics.pruning_identified_exemplars([[0, 1]], [[1, 1]]), metrics.mcnemar_test([True], [False])
metrics.calibration_bin_sums([0.5], [True]), metrics.equal_width_bins([0.5])
assert not {"jax", "flax", "optax", "matplotlib"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_exports_are_what_the_package_offers():
    with pytest.raises(AttributeError, match="module 'jaxprune.metrics' has no attribute 'nothing'"):
        _ = metrics.nothing
    assert dir(metrics) == metrics.__all__
    assert len(metrics.__all__) == len(set(metrics.__all__))
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_the_report_agrees_with_the_oracles(oracles):
    case = oracles.problem(70)
    report = metrics.calibration_report(case.probs, case.labels, weights=case.weights, num_bins=(6,))
    arguments = case.probs, case.labels, case.weights
    confidence, _ = oracles.top_label(case.probs, case.labels)
    expected = {
        name: getattr(oracles, name)(*arguments)
        for name in (
            "accuracy",
            "area_under_risk_coverage",
            "brier_score",
            "entropy",
            "kolmogorov_smirnov_calibration_error",
            "negative_log_likelihood",
            "signed_calibration_gap",
            "smooth_calibration_error",
            "top_label_brier_score",
        )
    }
    expected |= {
        "adaptive_equal_mass_6": oracles.adaptive_calibration_error(*arguments, num_bins=6),
        "debiased_classwise_equal_mass_6": oracles.debiased_classwise_calibration_error(*arguments, num_bins=6),
        "classwise_equal_width_6": oracles.classwise_calibration_error(*arguments, num_bins=6),
        "mean_confidence": oracles.mean(confidence, case.weights),
    }
    for binning in ("equal_width", "equal_mass"):
        options = {"num_bins": 6, "binning": binning}
        expected |= {
            f"ece_{binning}_6": oracles.expected_calibration_error(*arguments, **options),
            f"ece_l2_{binning}_6": oracles.expected_calibration_error(*arguments, norm="l2", **options),
            f"ece_average_{binning}_6": oracles.average_calibration_error(*arguments, **options),
            f"ece_max_{binning}_6": oracles.maximum_calibration_error(*arguments, **options),
            f"debiased_{binning}_6": oracles.debiased_calibration_error(*arguments, **options),
            f"overconfidence_{binning}_6": oracles.overconfidence_error(*arguments, **options),
        }
    assert report.keys() == expected.keys() | {"brier_calibration_6", "brier_refinement_6"}
    for name, value in expected.items():
        assert abs(report[name] - value) < 2e-6, name


def test_the_report_holds_the_parts_of_the_brier_score(oracles):
    case = oracles.problem(70)
    report = metrics.calibration_report(case.probs, case.labels, weights=case.weights, num_bins=(6,))
    parts = metrics.brier_decomposition(case.probs, case.labels, weights=case.weights, num_bins=6)
    assert abs(report["brier_calibration_6"] - parts.calibration) < 3e-7
    assert abs(report["brier_refinement_6"] - parts.refinement) < 3e-7


@pytest.mark.slow
def test_the_report_is_a_vmap_over_models(oracles):
    cases = [oracles.problem(seed) for seed in (72, 74)]
    labels = cases[0].labels
    mapped = jax.vmap(lambda probs: metrics.calibration_report(probs, labels, num_bins=(6,)))(
        np.stack([case.probs for case in cases])
    )
    single = metrics.calibration_report(cases[1].probs, labels, num_bins=(6,))
    for name, value in single.items():
        assert abs(mapped[name][1] - value) < 3e-7, name


def test_the_report_names_a_wrong_number_of_bins(oracles):
    case = oracles.problem(70)
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1, got 0"):
        metrics.calibration_report(case.probs, case.labels, num_bins=(10, 0))
