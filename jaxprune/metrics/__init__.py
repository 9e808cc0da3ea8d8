"""Calibration, accuracy and robustness metrics: jitted, vmappable, mergeable, exact at the edges.

Every metric takes `outputs` (probabilities `[batch, classes]`, or logits with `from_logits=True`), then labels, and
optional `weights` (a mask, for instance), so that padding never counts.
"""

from jaxprune.metrics.binning import CalibrationBins, binned_calibration_error
from jaxprune.metrics.calibration import (
    debiased_calibration_error,
    expected_calibration_error,
    kolmogorov_smirnov_calibration_error,
    maximum_calibration_error,
    overconfidence_error,
    signed_calibration_gap,
)
from jaxprune.metrics.classification import accuracy, brier_score, entropy, negative_log_likelihood, top_k_accuracy
from jaxprune.metrics.classwise import (
    BrierDecomposition,
    ClasswiseCalibrationBins,
    adaptive_calibration_error,
    brier_decomposition,
    classwise_calibration_error,
)
from jaxprune.metrics.examples import ExampleStatistics, example_statistics, summarize_examples
from jaxprune.metrics.intervals import wilson_interval
from jaxprune.metrics.reliability import ReliabilityDiagram, reliability_diagram, reliability_of
from jaxprune.metrics.report import calibration_report
from jaxprune.metrics.scores import ScoreSums
from jaxprune.metrics.selective import RiskCoverage, area_under_risk_coverage, risk_coverage
from jaxprune.metrics.smooth import SmoothCalibrationGrid, smooth_calibration_error

__all__ = [
    "BrierDecomposition",
    "CalibrationBins",
    "ClasswiseCalibrationBins",
    "ExampleStatistics",
    "ReliabilityDiagram",
    "RiskCoverage",
    "ScoreSums",
    "SmoothCalibrationGrid",
    "accuracy",
    "adaptive_calibration_error",
    "area_under_risk_coverage",
    "binned_calibration_error",
    "brier_decomposition",
    "brier_score",
    "calibration_report",
    "classwise_calibration_error",
    "debiased_calibration_error",
    "entropy",
    "example_statistics",
    "expected_calibration_error",
    "kolmogorov_smirnov_calibration_error",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "overconfidence_error",
    "reliability_diagram",
    "reliability_of",
    "risk_coverage",
    "signed_calibration_gap",
    "smooth_calibration_error",
    "summarize_examples",
    "top_k_accuracy",
    "wilson_interval",
]
