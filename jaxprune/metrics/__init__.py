"""Calibration, accuracy and robustness metrics: jitted, vmappable, mergeable, exact at the edges.

Every metric takes `outputs` (probabilities `[batch, classes]`, or logits with `from_logits=True`), then labels, and
optional `weights` (a mask, for instance), so that padding never counts.
"""

from jaxprune.metrics.binning import CalibrationBins, binned_calibration_error
from jaxprune.metrics.calibration import expected_calibration_error
from jaxprune.metrics.classification import accuracy, brier_score, negative_log_likelihood, top_k_accuracy
from jaxprune.metrics.examples import ExampleStatistics, example_statistics, summarize_examples
from jaxprune.metrics.intervals import wilson_interval

__all__ = [
    "CalibrationBins",
    "ExampleStatistics",
    "accuracy",
    "binned_calibration_error",
    "brier_score",
    "example_statistics",
    "expected_calibration_error",
    "negative_log_likelihood",
    "summarize_examples",
    "top_k_accuracy",
    "wilson_interval",
]
