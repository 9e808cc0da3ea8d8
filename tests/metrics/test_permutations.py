"""No metric depends on the order of the images, ties or not; nor do bins, curves, fits and estimates."""

import inspect

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import metrics

KEY = jax.random.key(0)
SIZE = 60
# What takes images has one of these among its parameters.
PER_IMAGE = {"outputs", "logits", "confidence", "correct", "predictions", "statistics", "arrays"}


def metric(name, **options):
    return name, lambda case, weights: getattr(metrics, name)(case.probs, case.labels, weights=weights, **options)


def accumulator(name, **options):
    def value(case, weights):
        empty = getattr(metrics, name).empty(**options)
        parts = [slice(0, 20), slice(20, SIZE)]
        parts = [
            empty.update(case.probs[part], case.labels[part], weights=None if weights is None else weights[part])
            for part in parts
        ]
        return parts[0].merge(parts[1]).compute()

    return name, value


def examples(case):
    return metrics.example_statistics(case.probs, case.labels)


def reference(case):
    return np.roll(case.probs, 1, axis=1)


EQUAL_MASS = {"binning": "equal_mass", "num_bins": 7}
CALLS = {
    "equal mass": metric("expected_calibration_error", **EQUAL_MASS),
    "equal mass, l2": metric("expected_calibration_error", **EQUAL_MASS, norm="l2"),
    "more equal masses than images": metric("expected_calibration_error", binning="equal_mass", num_bins=100),
    "equal width": metric("expected_calibration_error"),
    "largest of equal masses": metric("maximum_calibration_error", **EQUAL_MASS),
    "debiased": metric("debiased_calibration_error"),
    "overconfidence in equal masses": metric("overconfidence_error", **EQUAL_MASS),
    "average of equal masses": metric("average_calibration_error", **EQUAL_MASS),
    "class-wise in equal masses": metric("classwise_calibration_error", **EQUAL_MASS, norm="l2", threshold=0.1),
    "adaptive": metric("adaptive_calibration_error", num_bins=4),
    "debiased class-wise": metric("debiased_classwise_calibration_error", num_bins=4),
    "signed gap": metric("signed_calibration_gap"),
    "Kolmogorov-Smirnov": metric("kolmogorov_smirnov_calibration_error"),
    "smooth": metric("smooth_calibration_error"),
    "accuracy": metric("accuracy"),
    "top k": metric("top_k_accuracy", k=2),
    "likelihood": metric("negative_log_likelihood"),
    "Brier": metric("brier_score"),
    "top-label Brier": metric("top_label_brier_score"),
    "Brier's parts": metric("brier_decomposition"),
    "entropy": ("entropy", lambda case, weights: metrics.entropy(case.probs, weights=weights)),
    "risk-coverage": metric("area_under_risk_coverage"),
    "risk-coverage curve": metric("risk_coverage"),
    "diagram of equal masses": metric("reliability_diagram", **EQUAL_MASS),
    "report": metric("calibration_report", num_bins=(4,)),
    "bins": accumulator("CalibrationBins"),
    "class-wise bins": accumulator("ClasswiseCalibrationBins", num_classes=5),
    "smooth grid": accumulator("SmoothCalibrationGrid"),
    "sums": accumulator("ScoreSums"),
    "binned": (
        "binned_calibration_error",
        lambda case, weights: metrics.binned_calibration_error(
            case.probs[:, 0], case.labels == 0, weights=weights, **EQUAL_MASS
        ),
    ),
    "summary": (
        "summarize_examples",
        lambda case, weights: metrics.summarize_examples(examples(case), weights=weights),
    ),
    "noise floor": (
        "noise_floor",
        lambda case, weights: tuple(
            metrics.noise_floor(KEY, case.probs.max(axis=1), weights=weights, binning=binning, num_samples=8).samples
            for binning in ("equal_width", "equal_mass")
        ),
    ),
    "churn": (
        "prediction_churn",
        lambda case, weights: metrics.prediction_churn(
            case.probs.argmax(axis=1), reference(case).argmax(axis=1), weights=weights
        ),
    ),
    "accuracy per class": (
        "per_class_accuracy",
        lambda case, weights: metrics.per_class_accuracy(
            case.probs.argmax(axis=1), case.labels, num_classes=5, weights=weights
        ),
    ),
    "change per class": (
        "per_class_accuracy_change",
        lambda case, weights: metrics.per_class_accuracy_change(
            case.probs.argmax(axis=1), reference(case).argmax(axis=1), case.labels, num_classes=5, weights=weights
        ),
    ),
    "bootstrap": (
        "bootstrap",
        lambda case, weights: (
            metrics.bootstrap(KEY, metrics.debiased_calibration_error, case.probs, case.labels, num_samples=2).estimate
        ),
    ),
    "paired bootstrap": (
        "bootstrap_difference",
        lambda case, weights: (
            metrics.bootstrap_difference(
                KEY, metrics.debiased_calibration_error, case.probs, reference(case), case.labels, num_samples=2
            ).estimate
        ),
    ),
    "McNemar": (
        "mcnemar_test",
        lambda case, weights: metrics.mcnemar_test(
            case.probs.argmax(axis=1) == case.labels, reference(case).argmax(axis=1) == case.labels
        ),
    ),
    "sums of bins": (
        "calibration_bin_sums",
        lambda case, weights: metrics.calibration_bin_sums(
            case.probs.max(axis=1), case.probs.argmax(axis=1) == case.labels
        ),
    ),
    "temperature": (
        "fit_temperature",
        lambda case, weights: metrics.fit_temperature(np.log(case.probs), case.labels, weights=weights),
    ),
    "vector scaling": (
        "fit_vector_scaling",
        lambda case, weights: metrics.fit_vector_scaling(np.log(case.probs), case.labels, weights=weights),
    ),
}
ITERATIVE = {"temperature": 1e-3, "vector scaling": 2e-2}  # their last steps are of the size of float32's rounding
# One result per image, in the order of the images, and a check that returns nothing.
PER_IMAGE_RESULTS = {
    "check_inputs",
    "equal_width_bins",
    "example_statistics",
    "modal_prediction",
    "pruning_identified_exemplars",
}


def test_every_export_that_takes_images_is_here():
    exports = {name: getattr(metrics, name) for name in metrics.__all__ if callable(getattr(metrics, name))}
    functions = {name for name, export in exports.items() if not inspect.isclass(export)}
    taking = {name for name in functions if PER_IMAGE & inspect.signature(exports[name]).parameters.keys()}
    taking |= {name for name, export in exports.items() if hasattr(export, "update")}
    assert taking == {name for name, _ in CALLS.values()} | PER_IMAGE_RESULTS


@pytest.mark.filterwarnings("ignore:the temperature stopped")
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    order=st.permutations(range(SIZE)),
    weighting=st.sampled_from([None, "mask", "weights"]),
)
def test_no_permutation_of_the_images_changes_a_metric(oracles, name, seed, order, weighting):
    case = oracles.problem(seed, SIZE)
    weights = None if weighting is None else getattr(case, weighting)
    _, value = CALLS[name]
    first = value(case, weights)
    case.probs, case.labels = case.probs[order], case.labels[order]
    second = value(case, None if weights is None else weights[order])
    for mine, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=ITERATIVE.get(name, 1e-6), atol=ITERATIVE.get(name, 3e-7))


def test_what_is_per_image_moves_with_the_images(oracles, rng):
    case, order = oracles.problem(9), rng.permutation(SIZE)
    moved = metrics.example_statistics(case.probs[order], case.labels[order])
    for mine, theirs in zip(examples(case), moved, strict=True):
        np.testing.assert_allclose(mine[order], theirs, rtol=1e-6)
    population = rng.integers(0, 3, (5, SIZE))
    votes = metrics.modal_prediction(population, num_classes=3)
    np.testing.assert_array_equal(metrics.modal_prediction(population[:, order], num_classes=3), votes[order])
