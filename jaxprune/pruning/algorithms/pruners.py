"""Criteria that rank each parameter's weights on their own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning._annotations import Key, Params
from jaxprune.pruning.base_updater import BaseUpdater, SparseState


@dataclasses.dataclass
class MagnitudePruning(BaseUpdater):
    """Small weights go: the score is |w|."""

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: Params | None = None, **kwargs: Any
    ) -> Params:
        """Returns the absolute values."""
        return jax.tree.map(jnp.abs, params)


@dataclasses.dataclass
class SaliencyPruning(BaseUpdater):
    """Weights that the loss hardly feels go: the score is |w g|, which needs gradients."""

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: Params | None = None, **kwargs: Any
    ) -> Params:
        """Returns |parameter * gradient|."""
        if grads is None:
            raise ValueError("saliency needs gradients: call instant_sparsify(params, grads=grads)")
        return jax.tree.map(lambda param, grad: jnp.abs(param * grad), params, grads)


@dataclasses.dataclass
class RandomPruning(BaseUpdater):
    """Any weights go: the score is uniform noise; along a schedule, pruned weights stay pruned."""

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: Params | None = None, **kwargs: Any
    ) -> Params:
        """Returns noise from `rng_seed`, with a state from `fold_in(rng_seed, count)` and 0 at pruned weights."""
        if sparse_state is None:
            return generate_random_scores(params, self.rng_seed)
        scores = generate_random_scores(params, jax.random.fold_in(self.rng_seed, sparse_state.count))
        return self._apply_own(scores, sparse_state.masks)


def generate_random_scores(params: Params, rng_seed: Key) -> Params:
    """Returns a tree of uniform noise in [0, 1) like `params`, with one key per leaf from `split(rng_seed, leaves)`."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(rng_seed, len(leaves))
    scores = [
        # Drawn flat: the same numbers as in the leaf's shape, and a program that compiles in an eighth of the time.
        jax.random.uniform(
            key, (leaf.size,), leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else float
        ).reshape(leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, scores)
