"""Straight-through estimators: the forward pass sees pruned weights, the optimiser trains the dense ones.

Bengio et al. 2013. The gradient at the pruned weights is taken as the gradient of the dense ones, so a weight that was
masked can grow back.
"""

import dataclasses
from typing import Any

import jax

from jaxprune.pruning._annotations import Masks, Params, Sparsities
from jaxprune.pruning.algorithms import pruners
from jaxprune.pruning.base_updater import SparseState, apply_aligned


@dataclasses.dataclass
class SteMixin:
    """Masks the parameters of every forward pass anew, at the sparsity that the schedule gives for the step."""

    def pre_forward_update(self, params: Params, opt_state: SparseState) -> Params:
        """Returns the masked parameters; differentiate at them and update the dense ones."""
        sparsities = self.scheduler.get_sparsity_at_step(opt_state.target_sparsities, opt_state.count)
        scores = self.calculate_scores(params, sparse_state=opt_state)
        return apply_aligned(params, self.create_masks(scores, sparsities))

    def get_initial_masks(self, params: Params, target_sparsities: Sparsities | None) -> Masks:
        """Returns a tree of None: there are no masks to keep."""
        return jax.tree.map(lambda _: None, params)

    def update_state(
        self, sparse_state: SparseState, params: Params, grads: Params | None, **kwargs: Any
    ) -> SparseState:
        """Returns the state as it is."""
        return sparse_state

    def post_gradient_update(self, params: Params, opt_state: Any) -> Params:
        """Returns the dense parameters."""
        return params


@dataclasses.dataclass
class SteMagnitudePruning(SteMixin, pruners.MagnitudePruning):
    """Forward passes without the small weights."""


@dataclasses.dataclass
class SteRandomPruning(SteMixin, pruners.RandomPruning):
    """Forward passes without random weights, others at every step."""
