"""Eager calls refuse values that mean something else, in one line; traced ones cannot see values and do not try."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import metrics

KEY = jax.random.key(0)
PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]], np.float32)
LOGITS = np.array([[2.0, -1.0, 0.5]] * 4, np.float32)
LABELS = np.array([0, 1, 2, 1])
CONFIDENCE, CORRECT = PROBS.max(axis=1), np.array([True, True, True, False])
P = np.array([0.3, 0.7], np.float32)
NAN = np.where(np.arange(4)[:, None] == 1, np.float32(np.nan), PROBS)


def with_value(array, position, value):
    array = np.array(array)
    array[position] = value
    return array


# Every function of outputs, labels and weights, and what streams or resamples them.
OF_OUTPUTS = {
    name: getattr(metrics, name)
    for name in (
        "accuracy", "adaptive_calibration_error", "area_under_risk_coverage", "average_calibration_error",
        "brier_decomposition", "brier_score", "calibration_report", "classwise_calibration_error",
        "debiased_calibration_error", "debiased_classwise_calibration_error", "expected_calibration_error",
        "kolmogorov_smirnov_calibration_error", "maximum_calibration_error", "negative_log_likelihood",
        "overconfidence_error", "reliability_diagram", "risk_coverage", "signed_calibration_gap",
        "smooth_calibration_error", "top_k_accuracy", "top_label_brier_score",
    )
    if hasattr(metrics, name)
}  # fmt: skip
OF_OUTPUTS |= {
    "CalibrationBins": lambda *a, **k: metrics.CalibrationBins.empty().update(*a, **k),
    "ClasswiseCalibrationBins": lambda *a, **k: metrics.ClasswiseCalibrationBins.empty(num_classes=3).update(*a, **k),
    "ScoreSums": lambda *a, **k: metrics.ScoreSums.empty().update(*a, **k),
    "SmoothCalibrationGrid": lambda *a, **k: metrics.SmoothCalibrationGrid.empty().update(*a, **k),
    "check_inputs": metrics.check_inputs,
}
WRONG_OUTPUTS = {
    "percentages": (
        lambda f: f(100 * PROBS, LABELS),
        r"4 of 4 rows .*outside \[0, 1\].*percentages divide them by 100",
    ),
    "logits": (
        lambda f: f(LOGITS, LABELS),
        r"outside \[0, 1\] \(first: row 0, \[2.0, -1.0, 0.5\]\); .*from_logits=True",
    ),
    "logarithms": (lambda f: f(np.log(PROBS), LABELS), "from_logits=True"),
    "sigmoids": (lambda f: f(np.full((4, 3), 0.9, np.float32), LABELS), "do not sum to 1"),
    "one bad row": (lambda f: f(with_value(PROBS, 2, 0.1), LABELS), r"1 of 4 rows .*do not sum to 1 \(first: row 2"),
    "a label of too many": (
        lambda f: f(PROBS, LABELS + 1),
        r"1 of 4 rows have labels outside 0 ... 2 \(first: row 2, la",
    ),
    "a negative label": (
        lambda f: f(PROBS, with_value(LABELS, 1, -1)),
        r"\(first: row 1, label -1\); count .*weight 0",
    ),
    "unsigned labels": (lambda f: f(PROBS, with_value(LABELS, 1, 255).astype(np.uint8)), "label 255"),
    "labels that wrap": (lambda f: f(PROBS, with_value(LABELS, 1, 2**32)), "1 of 4 rows have labels outside"),
    "negative weights": (
        lambda f: f(PROBS, LABELS, weights=np.array([1, 1, 1, -1.0])),
        r"negative weights \(first: row 3",
    ),
    "the same of logits": (lambda f: f(LOGITS, LABELS + 1, from_logits=True), "labels outside"),
}


@pytest.mark.parametrize("mistake", WRONG_OUTPUTS)
@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_every_metric_refuses_values_that_mean_something_else(name, mistake):
    call, message = WRONG_OUTPUTS[mistake]
    with pytest.raises(ValueError, match=message) as refusal:
        call(OF_OUTPUTS[name])
    assert "\n" not in str(refusal.value)


MISTAKES = {
    "confidence 1.5": (
        lambda: metrics.binned_calibration_error(with_value(CONFIDENCE, 2, 1.5), CORRECT),
        r"1 of 4 rows have confidences outside \[0, 1\] \(first: row 2, 1.5\); divide percentages by 100",
    ),
    "negative confidence": (lambda: metrics.noise_floor(KEY, -CONFIDENCE), "confidences outside"),
    "confidence of bins": (
        lambda: metrics.CalibrationBins.empty().update_examples(2 * CONFIDENCE, CORRECT),
        "confidences outside",
    ),
    "confidence of a grid": (
        lambda: metrics.SmoothCalibrationGrid.empty().update_examples(2 * CONFIDENCE, CORRECT),
        "confidences outside",
    ),
    "confidence of examples": (
        lambda: metrics.summarize_examples(
            metrics.example_statistics(PROBS, LABELS)._replace(confidence=jnp.asarray(100 * CONFIDENCE))
        ),
        "confidences outside",
    ),
    "outcomes of -1": (
        lambda: metrics.binned_calibration_error(CONFIDENCE, np.array([1, -1, 1, -1])),
        r"outcomes outside .*row 1, -1",
    ),
    "weights of a noise floor": (lambda: metrics.noise_floor(KEY, CONFIDENCE, weights=-CONFIDENCE), "negative weights"),
    "weights of entropies": (lambda: metrics.entropy(PROBS, weights=-CONFIDENCE), "negative weights"),
    "entropy of logits": (lambda: metrics.entropy(LOGITS), "from_logits=True"),
    "statistics of logits": (lambda: metrics.example_statistics(LOGITS, LABELS), "from_logits=True"),
    "bandwidth": (
        lambda: metrics.smooth_calibration_error(PROBS, LABELS, bandwidth=-1),
        r"1 of 1 bandwidths are not positive and finite \(first: -1\); give 0.05",
    ),
    "no bandwidth": (lambda: metrics.smooth_calibration_error(PROBS, LABELS, bandwidth=0.0), "not positive"),
    "bandwidth of a grid": (lambda: metrics.SmoothCalibrationGrid.empty().compute(bandwidth=np.inf), "not positive"),
    "threshold": (
        lambda: metrics.classwise_calibration_error(PROBS, LABELS, threshold=5.0),
        r"threshold must be a probability in \[0, 1\], got 5.0",
    ),
    "p-value": (
        lambda: metrics.adjust_p_values(np.array([0.1, 2.0, np.nan])),
        r"1 of 3 p-values are outside \[0, 1\] \(first: 2\)",
    ),
    "p-values of a grid": (lambda: metrics.distinguishable(np.array([[0.1, -0.2]])), r"1 of 2 p-values are outside"),
    "more correct than there are": (lambda: metrics.wilson_interval(11, 10), r"\(first: 11\); give counts"),
    "negative number correct": (lambda: metrics.wilson_interval(np.array([1, -1]), 10), "1 of 2 numbers of correct"),
    "predictions": (
        lambda: metrics.per_class_accuracy(np.array([0, 3]), np.array([0, 1]), num_classes=3),
        r"1 of 2 rows have predictions outside 0 ... 2 \(first: row 1, prediction 3\)",
    ),
    "labels of classes": (
        lambda: metrics.per_class_accuracy_change(*np.array([[0, 1], [0, 1], [0, 5]]), num_classes=2),
        "labels outside",
    ),
    "votes": (
        lambda: metrics.modal_prediction(np.array([[0, 2], [1, 1]]), num_classes=2),
        "1 of 4 rows have predictions",
    ),
    "votes of two populations": (
        lambda: metrics.pruning_identified_exemplars(np.zeros((2, 3), int), np.full((1, 3), -1), num_classes=2),
        "reference predictions outside",
    ),
    "errors in percent": (
        lambda: metrics.mean_corruption_error({"fog": np.full(5, 25.0)}, corruptions=("fog",)),
        r"errors of fog: 5 of 5 error rates are outside \[0, 1\] \(first: 25\); divide percentages by 100",
    ),
    "baseline in percent": (
        lambda: metrics.mean_corruption_error({"fog": P}, baseline={"fog": 100 * P}, corruptions=("fog",)),
        "baseline of fog",
    ),
    "clean error in percent": (
        lambda: metrics.relative_mean_corruption_error(
            {"fog": P}, 5.0, baseline={"fog": P}, baseline_clean_error=0.1, corruptions=("fog",)
        ),
        "clean errors of clean_error",
    ),
    "one error in percent": (lambda: metrics.corruption_error(P, 100 * P), "baseline errors are outside"),
    "temperature of labels outside": (lambda: metrics.fit_temperature(LOGITS, LABELS + 1), "labels outside"),
    "negative weights of a fit": (
        lambda: metrics.fit_vector_scaling(LOGITS, LABELS, weights=-CONFIDENCE),
        "negative weights",
    ),
    "bootstrap of percentages": (
        lambda: metrics.bootstrap(KEY, metrics.brier_score, 100 * PROBS, LABELS),
        "percentages",
    ),
    "bootstrap of a partial": (
        lambda: metrics.bootstrap(KEY, partial(metrics.brier_score, from_logits=True), LOGITS, LABELS + 1),
        "labels outside",
    ),
    "paired bootstrap": (
        lambda: metrics.bootstrap_difference(KEY, metrics.accuracy, PROBS, 100 * PROBS, LABELS),
        "percentages",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_other_mistakes_are_named_with_their_cure(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy(PROBS, ["a", "b", "c", "b"]), "labels must be an array, got list"),
        (
            lambda: metrics.accuracy(PROBS, np.array(["a", "b", "c", "b"])),
            r"labels must be numbers, .* np.unique\(names",
        ),
        (lambda: metrics.accuracy(PROBS, np.array([0, None, 1, 1], object)), "labels must be numbers"),
        (lambda: metrics.accuracy(PROBS.astype(str), LABELS), "outputs must be numbers, got an array of dtype <U32"),
        (lambda: metrics.accuracy(PROBS, LABELS, from_logits="no"), "from_logits must be True or False, got 'no'"),
        (lambda: metrics.accuracy(PROBS, LABELS > 0), "labels must be integer class indices, got dtype bool"),
    ],
)
def test_other_types_are_named_with_their_cure(call, message):
    with pytest.raises(TypeError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_rows_of_weight_zero_may_hold_anything():
    probs, labels, mask = with_value(PROBS, 3, 100), with_value(LABELS, 3, -1), np.array([True, True, True, False])
    expected = metrics.expected_calibration_error(PROBS[:3], LABELS[:3])
    assert metrics.expected_calibration_error(probs, labels, weights=mask) == expected
    assert metrics.expected_calibration_error(with_value(PROBS, 3, np.nan), labels, weights=mask) == expected


def test_a_nan_is_no_mistake():
    assert np.isnan(metrics.expected_calibration_error(NAN, LABELS))
    assert np.isnan(metrics.binned_calibration_error(NAN[:, 0], CORRECT))
    assert np.isnan(metrics.adjust_p_values(np.array([0.1, np.nan]))[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_rounded_probabilities_are_accepted(dtype, rng):
    probs = jax.nn.softmax(jnp.asarray(rng.normal(0, 2, (200, 100)), dtype))
    labels = rng.integers(0, 100, 200)
    assert metrics.accuracy(probs, labels) == metrics.accuracy(probs.astype(jnp.float32), labels)


@pytest.mark.parametrize("where", ["host", "device", "eight devices"])
def test_many_images_are_looked_at_on_the_device(where):
    size = 80_000
    probs, labels = np.tile(PROBS, (size // 4, 1)), np.tile(LABELS, size // 4)
    if where == "device":
        place = jnp.asarray
    elif where == "eight devices":
        mesh = Mesh(np.array(jax.devices()), ("batch",))
        place = partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec("batch")))
    else:
        place = np.asarray
    assert abs(metrics.accuracy(place(probs), place(labels)) - 1) < 1e-6
    with pytest.raises(ValueError, match=r"1 of 80000 rows have .*do not sum to 1 \(first: row 777"):
        metrics.accuracy(place(with_value(probs, 777, 0.1)), place(labels))
    with pytest.raises(ValueError, match=r"1 of 80000 rows have labels outside 0 ... 2 \(first: row 777"):
        metrics.accuracy(place(probs), place(with_value(labels, 777, 3)))
    if where == "host":
        with pytest.raises(ValueError, match=r"1 of 80000 rows have labels outside"):
            metrics.accuracy(probs, with_value(labels, 777, 2**32))


@pytest.mark.parametrize("name", sorted(OF_OUTPUTS.keys() - {"check_inputs"}))
def test_traced_calls_see_no_values(name):
    jax.eval_shape(OF_OUTPUTS[name], 100 * PROBS, LABELS + 1, weights=-CONFIDENCE)


def test_constants_inside_of_a_trace_are_looked_at():
    assert jax.jit(lambda: metrics.accuracy(PROBS, LABELS))() == 1
    with pytest.raises(ValueError, match="percentages"):
        jax.jit(lambda: metrics.accuracy(100 * PROBS, LABELS))()


def test_the_look_leaves_nothing_in_a_program():
    with_look, without = (jax.make_jaxpr(f)(PROBS, LABELS) for f in (metrics.accuracy, metrics.accuracy.__wrapped__))
    assert len(with_look.eqns) == len(without.eqns)


def test_arrays_of_other_libraries_are_arrays():
    class Foreign:
        """Has a shape and gives an array, as tensors of other libraries do."""

        shape = (4,)

        def __array__(self, dtype=None, copy=None):
            return LABELS

    assert metrics.accuracy(PROBS, Foreign()) == 1
