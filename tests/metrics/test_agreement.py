"""Churn and per-class change against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import metrics


def test_churn(rng):
    a, b = rng.integers(0, 3, (2, 50))
    mask = rng.random(50) < 0.7
    assert abs(metrics.prediction_churn(a, b) - (a != b).mean()) < 1e-6
    assert abs(metrics.prediction_churn(a, b, weights=mask) - (a != b)[mask].mean()) < 1e-6
    assert metrics.prediction_churn(a, a) == 0
    assert np.isnan(metrics.prediction_churn(a[:0], b[:0]))


def test_per_class_accuracy_and_its_change(rng):
    pruned, dense, labels = rng.integers(0, 4, (3, 60))
    mask = rng.random(60) < 0.7
    actual = metrics.per_class_accuracy(pruned, labels, num_classes=5, weights=mask)
    for k in range(4):
        assert abs(actual[k] - (pruned == labels)[mask & (labels == k)].mean()) < 1e-6
    assert np.isnan(actual[4])
    change = metrics.per_class_accuracy_change(pruned, dense, labels, num_classes=4)
    for k in range(4):
        rows = labels == k
        assert abs(change[k] - ((pruned == k)[rows].mean() - (dense == k)[rows].mean())) < 1e-6


def test_labels_outside_of_the_classes_fall_in_none_of_them():
    outside = jnp.array([-1, 0, 7])
    traced = jax.jit(lambda labels: metrics.per_class_accuracy(labels, labels, num_classes=2))(outside)
    assert traced[0] == 1
    assert np.isnan(traced[1])


def test_many_models_are_a_vmap(rng):
    models, dense = rng.integers(0, 3, (4, 30)), rng.integers(0, 3, 30)
    mapped = jax.vmap(metrics.prediction_churn, in_axes=(0, None))(models, dense)
    np.testing.assert_allclose(mapped, (models != dense).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.prediction_churn(jnp.zeros(3), jnp.zeros(3)), TypeError, "integer class indices"),
        (lambda: metrics.prediction_churn(jnp.zeros(3, int), jnp.zeros(4, int)), ValueError, r"\[batch\] = \[3\]"),
        (
            lambda: metrics.per_class_accuracy(jnp.zeros(3, int), jnp.zeros(3, int), num_classes=0),
            ValueError,
            "num_classes must be an integer of at least 1",
        ),
    ],
)
def test_mistakes_are_named_with_their_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()
