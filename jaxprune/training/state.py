"""What a training step changes, and how it starts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxprune import models, pruning


class Tally(NamedTuple):
    """Counts over the steps of one epoch.

    `first_bad_step` is the first step, counted from 1, whose loss was not finite; 0 while there is none.
    """

    step: Array
    loss_sum: Array
    num_correct: Array
    first_bad_step: Array


class Average(NamedTuple):
    """The exponential moving average of the weights; `weight` is the sum of the powers of the decay so far."""

    weight: Array
    params: PyTree
    batch_stats: PyTree


class TrainState(NamedTuple):
    """Everything that a step reads and changes; `average` is None unless asked for."""

    params: PyTree
    batch_stats: PyTree
    optimizer_state: PyTree
    average: Average | None
    tally: Tally


@functools.partial(jax.jit, static_argnames=("optimizer", "hold", "averaged", "stacked"))
def initial_state(params, batch_stats, masks, *, optimizer, hold, averaged: bool, stacked: bool) -> TrainState:
    """Returns the state before the first step; its arrays are copies, because a step donates them.

    `hold(params, optimizer_state)`, unless None, returns the parameters without what the optimizer's own masks remove.
    """

    def one(params, batch_stats, masks):
        if masks is not None:
            params = pruning.mask_params(params, masks)
        optimizer_state = pruning.masked_optimizer(optimizer, masks).init(params)
        if hold is not None:
            params = hold(params, optimizer_state)
        average = Average(jnp.zeros(()), params, batch_stats) if averaged else None
        return TrainState(params, batch_stats, optimizer_state, average, empty_tally())

    state = (jax.vmap(one) if stacked else one)(params, batch_stats, masks)
    return jax.tree.map(_strong_copy, state)


@jax.jit
def own_copy(state: TrainState) -> TrainState:
    """Returns a copy, which a step may donate whatever memory the original shares with NumPy."""
    return jax.tree.map(_strong_copy, state)


def empty_tally() -> Tally:
    """Returns the tally at the start of an epoch."""
    return Tally(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, donate_argnums=0)
def start_epoch(state: TrainState) -> TrainState:
    """Returns the state with an empty tally."""
    return state._replace(tally=jax.tree.map(jnp.zeros_like, state.tally))


def update_average(average: Average, params, batch_stats, decay: float) -> Average:
    r"""Returns the average with one more step in it, $\sum_i d^{t-i} w_i / \sum_i d^{t-i}$ over the steps i = 1..t.

    The initial weights have no part in it. What is no floating-point number (counters, random streams) is taken as it
    is now. A weight that is 0 in every step is exactly 0 in the average.
    """
    weight = decay * average.weight + 1

    def mix(old, new):
        return old + (new - old) / weight if jnp.issubdtype(new.dtype, jnp.floating) else new

    return Average(weight, *jax.tree.map(mix, (average.params, average.batch_stats), (params, batch_stats)))


def trained(classifier: models.Classifier, state: TrainState) -> models.Classifier:
    """Returns the classifier with the state's weights, the averaged ones if there are any."""
    source = state if state.average is None else state.average
    return classifier.replace(params=source.params, batch_stats=source.batch_stats)


@functools.partial(jax.jit, static_argnames="stacked")
def is_finite(state: TrainState, *, stacked: bool) -> tuple[Array, Array]:
    """Returns whether all parameters are finite, and all batch statistics, for each model of a stack."""

    def one(tree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])) if leaves else jnp.array(True)

    def both(params, batch_stats):
        return one(params), one(batch_stats)

    return (jax.vmap(both) if stacked else both)(state.params, state.batch_stats)


def _strong_copy(leaf: ArrayLike) -> Array:
    # A strong type too: an optimizer's weakly typed scalar would not survive saving, and resuming would compile again.
    leaf = jnp.array(leaf, copy=True)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.astype(leaf.dtype)
