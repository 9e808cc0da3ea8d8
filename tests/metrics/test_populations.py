"""What several models say together, against SciPy, on the host and in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprune import metrics


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("models", [1, 2, 5, 8])
def test_the_mode_is_scipys(rng, models, place):
    predictions = rng.integers(0, 4, (models, 200))
    expected = scipy.stats.mode(predictions, axis=0).mode
    np.testing.assert_array_equal(metrics.modal_prediction(place(predictions)), expected)
    np.testing.assert_array_equal(metrics.modal_prediction(place(predictions), num_classes=4), expected)
    assert metrics.modal_prediction(place(predictions)).dtype == np.int32
    traced = jax.jit(metrics.modal_prediction)(predictions)
    np.testing.assert_array_equal(traced, expected)


def test_the_order_of_the_models_does_not_matter(rng):
    predictions = rng.integers(0, 3, (6, 100)).astype(np.uint8)
    modes = metrics.modal_prediction(predictions)
    np.testing.assert_array_equal(metrics.modal_prediction(predictions[rng.permutation(6)]), modes)


def test_exemplars_are_where_the_modes_differ(rng):
    pruned, dense = rng.integers(0, 3, (7, 40)), rng.integers(0, 3, (5, 40))
    first, second = (scipy.stats.mode(each, axis=0).mode for each in (pruned, dense))
    np.testing.assert_array_equal(metrics.pruning_identified_exemplars(pruned, dense), first != second)
    actual = metrics.pruning_identified_exemplars(jnp.asarray(pruned), jnp.asarray(dense), num_classes=3)
    np.testing.assert_array_equal(actual, first != second)


def test_no_examples_have_no_mode():
    assert metrics.modal_prediction(np.zeros((3, 0), int)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.modal_prediction(np.zeros(3, int)),
            r"\[models, batch\], got int64 \[3\]; stack the predictions",
        ),
        (lambda: metrics.modal_prediction(np.zeros((2, 3))), r"integer class indices .*, got float64 \[2, 3\]"),
        (lambda: metrics.modal_prediction(np.zeros((0, 3), int)), r"got int64 \[0, 3\]"),
        (
            lambda: metrics.modal_prediction(np.zeros((1, 3), int), num_classes=0),
            "num_classes must be an integer of at",
        ),
        (
            lambda: metrics.pruning_identified_exemplars(np.zeros((2, 3), int), np.zeros((2, 4), int)),
            "the same examples, got 3 and 4",
        ),
    ],
)
def test_mistakes_are_named_with_their_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()
