"""LAMP scores against the formula."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import pruning
from jaxprune.pruning.algorithms.lamp import lamp_scores


def lamp_oracle(weights):
    """Equation 4 of Lee et al. 2021 by its words: sorted by magnitude, ties by index, the squared weight over the
    squares of all weights that are not smaller."""
    flat = np.asarray(weights, np.float64).ravel()
    ascending = np.lexsort((-np.arange(flat.size), np.abs(flat)))
    scores = np.zeros(flat.size)
    for rank, index in enumerate(ascending):
        rest = (flat[ascending[rank:]] ** 2).sum()
        scores[index] = flat[index] ** 2 / rest if rest else 0.0
    return scores.reshape(np.shape(weights))


def test_scores_follow_the_formula_with_ties_and_zeros(rng):
    for weights in (rng.normal(size=(5, 7)), rng.integers(-2, 3, (5, 7)), np.zeros((5, 7))):
        weights = jnp.asarray(weights, jnp.float32)
        np.testing.assert_allclose(lamp_scores(weights), lamp_oracle(weights), rtol=1e-5)


def test_masks_rank_the_scores_of_all_layers(rng):
    params = {
        "a": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)},
        "b": {"kernel": jnp.asarray(1e-3 * rng.normal(size=(3, 3, 4, 2)), jnp.float32), "bias": jnp.ones(2)},
    }
    _, masks = pruning.LampPruning(sparsity=0.75).instant_sparsify(params)
    scores = [lamp_oracle(params[layer]["kernel"]) for layer in "ab"]
    threshold = np.sort(np.concatenate([score.ravel() for score in scores]))[-36]
    for layer, score in zip("ab", scores, strict=True):
        np.testing.assert_array_equal(masks[layer]["kernel"], score >= threshold)
        assert masks[layer]["kernel"].any()  # no layer is emptied, however small its weights
    assert masks["b"]["bias"] is None
    np.testing.assert_array_equal(
        jax.jit(pruning.LampPruning(sparsity=0.75).instant_sparsify)(params)[1]["a"]["kernel"], masks["a"]["kernel"]
    )
