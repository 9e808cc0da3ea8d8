"""The updaters of the methods whose masks move in training, each `updater(sparsity, filter_fn, key, num_steps)`."""

from functools import partial
from typing import Any

import optax

from jaxprune.pruning import sparsity_distributions, sparsity_schedules
from jaxprune.pruning._annotations import FilterFn, Key, Sparsity
from jaxprune.pruning.algorithms import SET, RigL, SteMagnitudePruning
from jaxprune.pruning.algorithms.sparse_trainers import DEFAULT_DROP_FRACTION

# Evci et al. 2020: masks move every 100 steps, up to three quarters of the training.
UPDATE_STEPS, UPDATE_SHARE = 100, 0.75
# In a training of fewer steps they move so often, though never twice in a row: those steps train no weight.
_MOST_UPDATES, _LEAST_STEPS = 10, 2


def set_updater(sparsity: Sparsity, filter_fn: FilterFn, key: Key, num_steps: int) -> SET:
    """Returns SET: from random masks on, small weights go and random ones come (Mocanu et al. 2018)."""
    return SET(**_options(sparsity, filter_fn, key, num_steps))


def rigl_updater(sparsity: Sparsity, filter_fn: FilterFn, key: Key, num_steps: int) -> RigL:
    """Returns RigL: small weights go and those with the largest gradients come (Evci et al. 2020)."""
    return RigL(**_options(sparsity, filter_fn, key, num_steps))


def ste_updater(sparsity: Sparsity, filter_fn: FilterFn, key: Key, num_steps: int) -> SteMagnitudePruning:
    """Returns the straight-through estimator: small weights are left out of every forward pass and trained on."""
    return SteMagnitudePruning(sparsity_distribution_fn=_uniform(sparsity, filter_fn))


def _options(sparsity: Sparsity, filter_fn: FilterFn, key: Key, num_steps: int) -> dict[str, Any]:
    end = max(1, int(UPDATE_SHARE * num_steps))
    every = max(_LEAST_STEPS, min(UPDATE_STEPS, end // _MOST_UPDATES))
    return {
        "rng_seed": key,
        "sparsity_distribution_fn": _uniform(sparsity, filter_fn),
        "scheduler": sparsity_schedules.PeriodicSchedule(every, update_start_step=every, update_end_step=end),
        "drop_fraction_fn": optax.cosine_decay_schedule(DEFAULT_DROP_FRACTION, end),
    }


def _uniform(sparsity: Sparsity, filter_fn: FilterFn) -> partial:
    return partial(sparsity_distributions.uniform, sparsity=sparsity, filter_fn=filter_fn)
