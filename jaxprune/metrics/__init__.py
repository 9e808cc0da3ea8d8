"""Calibration, accuracy and robustness metrics: jitted, vmappable, mergeable, exact at the edges.

Every metric takes `outputs` (probabilities `[batch, classes]`, or logits with `from_logits=True`), then labels, and
optional `weights` (a mask, for instance), so that padding never counts. An eager call refuses values that mean
something else (percentages, logits as probabilities, labels outside of the classes); a traced one cannot see values:
`check_inputs` looks at them before.

The names are imported when first used: what runs on the host alone (intervals, corrections for many comparisons, paired
tests, modal predictions) starts no JAX.
"""

import importlib
from typing import Any

_HOMES = {
    "adapters": (
        "clu_metric",
        "nnx_metric",
    ),
    "agreement": (
        "per_class_accuracy",
        "per_class_accuracy_change",
        "prediction_churn",
    ),
    "binning": (
        "CalibrationBins",
        "binned_calibration_error",
    ),
    "calibration": (
        "average_calibration_error",
        "debiased_calibration_error",
        "expected_calibration_error",
        "kolmogorov_smirnov_calibration_error",
        "maximum_calibration_error",
        "overconfidence_error",
        "signed_calibration_gap",
    ),
    "checks": ("check_inputs",),
    "classification": (
        "accuracy",
        "brier_score",
        "entropy",
        "negative_log_likelihood",
        "top_k_accuracy",
        "top_label_brier_score",
    ),
    "classwise": (
        "BrierDecomposition",
        "ClasswiseCalibrationBins",
        "adaptive_calibration_error",
        "brier_decomposition",
        "classwise_calibration_error",
        "debiased_classwise_calibration_error",
    ),
    "edges": (
        "calibration_bin_sums",
        "equal_width_bins",
    ),
    "examples": (
        "ExampleStatistics",
        "example_statistics",
        "summarize_examples",
    ),
    "intervals": ("wilson_interval",),
    "multiplicity": (
        "adjust_p_values",
        "distinguishable",
    ),
    "paired": (
        "McNemarTest",
        "mcnemar_test",
    ),
    "populations": (
        "modal_prediction",
        "pruning_identified_exemplars",
    ),
    "recalibration": (
        "VectorScaling",
        "fit_temperature",
        "fit_vector_scaling",
    ),
    "reliability": (
        "ReliabilityDiagram",
        "reliability_diagram",
        "reliability_of",
    ),
    "report": ("calibration_report",),
    "resampling": (
        "Bootstrap",
        "NoiseFloor",
        "bootstrap",
        "bootstrap_difference",
        "noise_floor",
    ),
    "robustness": (
        "ALEXNET_IMAGENET_CLEAN_ERROR",
        "ALEXNET_IMAGENET_C_ERROR",
        "COMMON_CORRUPTIONS",
        "CORRUPTION_CATEGORIES",
        "EXTRA_CORRUPTIONS",
        "category_means",
        "corruption_error",
        "mean_corruption_error",
        "relative_mean_corruption_error",
        "rise_over_clean",
    ),
    "scores": ("ScoreSums",),
    "selective": (
        "RiskCoverage",
        "area_under_risk_coverage",
        "risk_coverage",
    ),
    "smooth": (
        "SmoothCalibrationGrid",
        "smooth_calibration_error",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'jaxprune.metrics' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"jaxprune.metrics.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
