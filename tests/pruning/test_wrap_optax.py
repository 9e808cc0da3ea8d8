"""The optimiser that an updater wraps: when masks change, what the inner optimiser sees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions

UNIFORM_HALF = partial(sparsity_distributions.uniform, sparsity=0.5, filter_fn=lambda names, _: names[-1] == "kernel")


@pytest.fixture
def params(rng):
    return {"kernel": jnp.asarray(rng.normal(size=(4, 6)).astype(np.float32)), "bias": jnp.ones(6)}


@pytest.fixture
def grads(rng):
    return {"kernel": jnp.asarray(rng.normal(size=(4, 6)).astype(np.float32)), "bias": jnp.full(6, 2.0)}


def zeros(mask):
    return int((mask == 0).sum())


def test_masks_start_at_one_and_change_on_schedule(params, grads):
    updater = pruning.MagnitudePruning(
        scheduler=pruning.PolynomialSchedule(update_freq=2, update_start_step=2, update_end_step=6),
        sparsity_distribution_fn=UNIFORM_HALF,
    )
    tx = updater.wrap_optax(optax.sgd(0.0))
    state = tx.init(params)
    assert isinstance(state, pruning.SparseState)
    assert state.target_sparsities == {"kernel": 0.5, "bias": None}
    assert state.masks["bias"] is None
    step = jax.jit(tx.update)
    counts = []
    for _ in range(8):
        counts.append((int(state.count), zeros(state.masks["kernel"])))
        _, state = step(grads, state, params)
    grown = {t: round(24 * 0.5 * (1 - (1 - (t + 1 - 2) / 4) ** 3)) for t in (2, 4)}
    expected = [0, 0, 0, grown[2], grown[2], grown[4], grown[4], 12]
    assert counts == list(enumerate(expected))


def test_jit_equals_eager(params, grads):
    updater = pruning.MagnitudePruning(
        scheduler=pruning.OneShotSchedule(0), sparsity_distribution_fn=UNIFORM_HALF, is_sparse_gradients=True
    )
    tx = updater.wrap_optax(optax.adam(0.1))
    results = [update(grads, tx.init(params), params) for update in (tx.update, jax.jit(tx.update))]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), *results)


@pytest.mark.parametrize("use_packed_masks", [False, True])
def test_sparse_gradients_never_reach_the_optimiser(params, grads, use_packed_masks):
    updater = pruning.MagnitudePruning(
        scheduler=pruning.OneShotSchedule(0),
        sparsity_distribution_fn=UNIFORM_HALF,
        is_sparse_gradients=True,
        use_packed_masks=use_packed_masks,
    )
    tx = updater.wrap_optax(optax.trace(0.9))
    _, state = tx.update(grads, tx.init(params), params)
    mask = updater._unpack(state.masks, params)["kernel"]
    assert zeros(mask) == 12
    np.testing.assert_array_equal(state.inner_state.trace["kernel"], grads["kernel"] * mask)
    np.testing.assert_array_equal(state.inner_state.trace["bias"], grads["bias"])


def test_skipped_gradients_leave_optimiser_and_parameters_alone(params, grads):
    updater = pruning.MagnitudePruning(
        scheduler=pruning.PeriodicSchedule(update_freq=2, update_start_step=0, update_end_step=None),
        sparsity_distribution_fn=UNIFORM_HALF,
        skip_gradients=True,
    )
    tx = updater.wrap_optax(optax.adam(0.1))
    state = tx.init(params)
    inner_counts, moved = [], []
    for _ in range(4):
        updates, state = tx.update(grads, state, params)
        inner_counts.append(int(state.inner_state[0].count))
        moved.append(bool(jnp.any(updates["bias"] != 0)))
    assert inner_counts == [0, 1, 1, 2]
    assert moved == [False, True, False, True]
    assert int(state.count) == 4


def test_extra_arguments_reach_the_scores_and_the_inner_optimiser(params, grads):
    class Weighted(pruning.MagnitudePruning):
        def calculate_scores(self, params, sparse_state=None, grads=None, *, importance, **kwargs):
            return jax.tree.map(jnp.multiply, super().calculate_scores(params), importance)

    seen = []

    def inner_update(updates, state, params=None, *, value, **kwargs):
        seen.append(value)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), inner_update)
    updater = Weighted(scheduler=pruning.OneShotSchedule(0), sparsity_distribution_fn=UNIFORM_HALF)
    tx = updater.wrap_optax(inner)
    importance = {"kernel": jnp.arange(24.0).reshape(4, 6) ** 9, "bias": jnp.ones(6)}
    _, state = tx.update(grads, tx.init(params), params, importance=importance, value=3.0)
    np.testing.assert_array_equal(
        state.masks["kernel"],
        pruning.mask_calculator.topk_mask_calculator(jnp.abs(params["kernel"]) * importance["kernel"], 0.5),
    )
    assert seen == [3.0]


def test_a_global_pruner_in_an_optimiser(params, grads):
    updater = pruning.GlobalMagnitudePruning(
        scheduler=pruning.PolynomialSchedule(1, 0, 2), sparsity=0.5, use_packed_masks=True
    )
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(params)
    assert state.target_sparsities == 0.5
    step = jax.jit(tx.update)
    for _ in range(3):
        updates, state = step(grads, state, params)
    assert zeros(updater._unpack(state.masks, params)["kernel"]) == 12
    pruned = updater.post_gradient_update(optax.apply_updates(params, updates), state)
    assert int((pruned["kernel"] == 0).sum()) == 12


def test_the_forward_pass_sees_the_parameters(params):
    updater = pruning.MagnitudePruning(sparsity_distribution_fn=UNIFORM_HALF)
    assert updater.pre_forward_update(params, updater.init_state(params)) is params
