"""Calibration, accuracy and robustness metrics: jitted, vmappable, mergeable, exact at the edges.

Every metric takes `outputs` (probabilities `[batch, classes]`, or logits with `from_logits=True`), then labels, and
optional `weights` (a mask, for instance), so that padding never counts. An eager call refuses values that mean
something else (percentages, logits as probabilities, labels outside of the classes); a traced one cannot see values:
`check_inputs` looks at them before.
"""

from jaxprune.metrics.adapters import clu_metric, nnx_metric
from jaxprune.metrics.agreement import (
    modal_prediction,
    per_class_accuracy,
    per_class_accuracy_change,
    prediction_churn,
    pruning_identified_exemplars,
)
from jaxprune.metrics.binning import CalibrationBins, binned_calibration_error
from jaxprune.metrics.calibration import (
    average_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    kolmogorov_smirnov_calibration_error,
    maximum_calibration_error,
    overconfidence_error,
    signed_calibration_gap,
)
from jaxprune.metrics.checks import check_inputs
from jaxprune.metrics.classification import (
    accuracy,
    brier_score,
    entropy,
    negative_log_likelihood,
    top_k_accuracy,
    top_label_brier_score,
)
from jaxprune.metrics.classwise import (
    BrierDecomposition,
    ClasswiseCalibrationBins,
    adaptive_calibration_error,
    brier_decomposition,
    classwise_calibration_error,
    debiased_classwise_calibration_error,
)
from jaxprune.metrics.examples import ExampleStatistics, example_statistics, summarize_examples
from jaxprune.metrics.intervals import wilson_interval
from jaxprune.metrics.multiplicity import adjust_p_values, distinguishable
from jaxprune.metrics.recalibration import VectorScaling, fit_temperature, fit_vector_scaling
from jaxprune.metrics.reliability import ReliabilityDiagram, reliability_diagram, reliability_of
from jaxprune.metrics.report import calibration_report
from jaxprune.metrics.resampling import Bootstrap, NoiseFloor, bootstrap, bootstrap_difference, noise_floor
from jaxprune.metrics.robustness import (
    ALEXNET_IMAGENET_C_ERROR,
    ALEXNET_IMAGENET_CLEAN_ERROR,
    COMMON_CORRUPTIONS,
    CORRUPTION_CATEGORIES,
    EXTRA_CORRUPTIONS,
    category_means,
    corruption_error,
    mean_corruption_error,
    relative_mean_corruption_error,
    rise_over_clean,
)
from jaxprune.metrics.scores import ScoreSums
from jaxprune.metrics.selective import RiskCoverage, area_under_risk_coverage, risk_coverage
from jaxprune.metrics.smooth import SmoothCalibrationGrid, smooth_calibration_error

__all__ = [
    "ALEXNET_IMAGENET_CLEAN_ERROR",
    "ALEXNET_IMAGENET_C_ERROR",
    "COMMON_CORRUPTIONS",
    "CORRUPTION_CATEGORIES",
    "EXTRA_CORRUPTIONS",
    "Bootstrap",
    "BrierDecomposition",
    "CalibrationBins",
    "ClasswiseCalibrationBins",
    "ExampleStatistics",
    "NoiseFloor",
    "ReliabilityDiagram",
    "RiskCoverage",
    "ScoreSums",
    "SmoothCalibrationGrid",
    "VectorScaling",
    "accuracy",
    "adaptive_calibration_error",
    "adjust_p_values",
    "area_under_risk_coverage",
    "average_calibration_error",
    "binned_calibration_error",
    "bootstrap",
    "bootstrap_difference",
    "brier_decomposition",
    "brier_score",
    "calibration_report",
    "category_means",
    "check_inputs",
    "classwise_calibration_error",
    "clu_metric",
    "corruption_error",
    "debiased_calibration_error",
    "debiased_classwise_calibration_error",
    "distinguishable",
    "entropy",
    "example_statistics",
    "expected_calibration_error",
    "fit_temperature",
    "fit_vector_scaling",
    "kolmogorov_smirnov_calibration_error",
    "maximum_calibration_error",
    "mean_corruption_error",
    "modal_prediction",
    "negative_log_likelihood",
    "nnx_metric",
    "noise_floor",
    "overconfidence_error",
    "per_class_accuracy",
    "per_class_accuracy_change",
    "prediction_churn",
    "pruning_identified_exemplars",
    "relative_mean_corruption_error",
    "reliability_diagram",
    "reliability_of",
    "rise_over_clean",
    "risk_coverage",
    "signed_calibration_gap",
    "smooth_calibration_error",
    "summarize_examples",
    "top_k_accuracy",
    "top_label_brier_score",
    "wilson_interval",
]
