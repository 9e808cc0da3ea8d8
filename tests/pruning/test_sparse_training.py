"""Straight-through estimators, static random sparsity, SET and RigL."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions, sparsity_types
from jaxprune.pruning.algorithms.optimizer_restart import INNER_STATES, MEMORIES, restart_inner_state


def uniform(sparsity):
    return partial(sparsity_distributions.uniform, sparsity=sparsity, filter_fn=lambda names, _: names[-1] != "bias")


@pytest.fixture
def params(rng):
    return {"w": jnp.asarray(rng.normal(size=(6, 8)).astype(np.float32)), "bias": jnp.ones(8)}


@pytest.fixture
def grads(rng):
    return {"w": jnp.asarray(rng.normal(size=(6, 8)).astype(np.float32)), "bias": jnp.ones(8)}


def test_straight_through_gradients_train_the_dense_weights(params):
    updater = pruning.SteMagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(params)
    assert jax.tree.leaves(state.masks) == []
    target = jnp.ones((6, 8))

    def loss(params):
        return 0.5 * jnp.sum((params["w"] - target) ** 2)

    @jax.jit
    def step(params, state):
        forward = updater.pre_forward_update(params, state)
        updates, state = tx.update(jax.grad(loss)(forward), state, params)
        new = updater.post_gradient_update(optax.apply_updates(params, updates), state)
        return new, state, forward

    new, state, forward = step(params, state)
    mask = pruning.mask_calculator.topk_mask_calculator(jnp.abs(params["w"]), 0.5)
    np.testing.assert_array_equal(forward["w"], params["w"] * mask)
    np.testing.assert_array_equal(forward["bias"], params["bias"])
    # The gradient of the masked forward pass, applied to every dense weight.
    np.testing.assert_allclose(new["w"], params["w"] - 0.1 * (params["w"] * mask - target), rtol=1e-6)
    assert int(state.count) == 1
    assert bool(jnp.all(new["w"] != 0))


def test_straight_through_can_be_differentiated_through(params):
    updater = pruning.SteMagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    state = updater.init_state(params)
    grads = jax.jit(jax.grad(lambda params: jnp.sum(updater.pre_forward_update(params, state)["w"])))(params)
    np.testing.assert_array_equal(grads["w"], updater.pre_forward_update(params, state)["w"] != 0)


def test_straight_through_sparsity_follows_the_schedule(params):
    updater = pruning.SteRandomPruning(
        sparsity_distribution_fn=uniform(0.5), scheduler=pruning.PolynomialSchedule(1, 0, 4)
    )
    state = updater.init_state(params)
    zeros = []
    for step in (0, 1, 9, 10):
        forward = updater.pre_forward_update(params, state._replace(count=jnp.asarray(step)))
        zeros.append(int((forward["w"] == 0).sum()))
    assert zeros == [48 - round(48 * (1 - 0.5 * (1 - (1 - p) ** 3))) for p in (0.25, 0.5, 1.0, 1.0)]
    first, second = (updater.pre_forward_update(params, state._replace(count=jnp.asarray(step))) for step in (9, 10))
    assert not np.array_equal(first["w"] == 0, second["w"] == 0)
    assert int((updater.instant_sparsify(params)[0]["w"] == 0).sum()) == 24


def test_static_sparse_masks_are_random_and_fixed(params, grads):
    updater = pruning.StaticRandomSparse(
        sparsity_distribution_fn=uniform(0.75), scheduler=pruning.PeriodicSchedule(1, 0, None)
    )
    assert updater.is_sparse_gradients
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(params)
    assert int(state.masks["w"].sum()) == 12
    assert state.masks["bias"] is None
    updates, later = tx.update(grads, state, params)
    np.testing.assert_array_equal(later.masks["w"], state.masks["w"])
    np.testing.assert_array_equal(updates["w"] != 0, state.masks["w"] == 1)
    for kind in (pruning.StaticRandomSparse, pruning.SET, pruning.RigL):
        with pytest.raises(RuntimeError, match=f"not supported by {kind.__name__}.*use wrap_optax"):
            kind(sparsity_distribution_fn=uniform(0.5)).instant_sparsify(params)


def test_defaults_of_dynamic_sparse_training():
    for updater in (pruning.SET(), pruning.RigL()):
        assert (updater.is_sparse_gradients, updater.skip_gradients, updater.is_debug) == (True, True, False)
        assert updater.drop_fraction_fn(7) == 0.3
        assert updater.eps == 1e-5


@pytest.mark.parametrize(
    ("drop_fraction", "expected"),
    [
        (0.0, [0, 1, 0, 1, 0, 1, 1, 0]),
        (0.25, [1, 1, 0, 1, 0, 1, 0, 0]),
        (0.5, [1, 1, 0, 0, 1, 1, 0, 0]),
        (0.75, [1, 0, 1, 0, 1, 1, 0, 0]),
        (1.0, [1, 0, 1, 0, 1, 1, 0, 0]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_masks_drop_the_smallest_and_grow_the_best(drop_fraction, expected, scale):
    old = jnp.array([0, 1, 0, 1, 0, 1, 1, 0], jnp.uint8)
    weights = scale * jnp.array([-9.0, 1, 4, -1, 5, 8, -2, 3])
    updater = pruning.RigL(is_debug=True)
    new = updater._update_masks(old, weights, jnp.abs(weights), drop_fraction=drop_fraction)
    assert new.tolist() == expected


def test_debugging_finds_scores_that_cannot_be_ranked():
    updater = pruning.RigL(is_debug=True)
    old = jnp.array([0, 1, 1, 0], jnp.uint8)
    with pytest.raises(AssertionError, match="infinities and NaN"):
        updater._update_masks(old, jnp.array([1.0, jnp.nan, jnp.nan, 1.0]), jnp.ones(4), drop_fraction=0.0)


@pytest.mark.parametrize("kind", [pruning.SET, pruning.RigL])
@pytest.mark.parametrize("use_packed_masks", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_dynamic_masks_keep_their_sparsity(kind, use_packed_masks, sparsity, params, grads):
    updater = kind(
        sparsity_distribution_fn=uniform(sparsity),
        scheduler=pruning.PeriodicSchedule(2, 2, None),
        use_packed_masks=use_packed_masks,
    )
    tx = updater.wrap_optax(optax.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    params = updater.post_gradient_update(params, state)
    first = updater._unpack(state.masks, params)["w"]
    step = jax.jit(tx.update)
    for count in range(4):
        before = updater._unpack(state.masks, params)["w"]
        updates, state = step(grads, state, params)
        params = updater.post_gradient_update(optax.apply_updates(params, updates), state)
        mask = updater._unpack(state.masks, params)["w"]
        assert int(mask.sum()) == int(first.sum())
        if count != 2:
            np.testing.assert_array_equal(mask, before)
        else:
            assert bool(jnp.all(updates["w"] == 0))
            dropped = int(((before == 1) & (mask == 0)).sum())
            assert dropped <= round(0.3 * int(before.sum())) + 1
            assert (dropped == 0) is (sparsity == 0.0) or sparsity == 0.95
    assert not np.any(np.asarray(params["w"])[np.asarray(mask) == 0])


def test_rigl_grows_where_gradients_are_largest(params, grads):
    updater = pruning.RigL(sparsity_distribution_fn=uniform(0.5), drop_fraction_fn=lambda step: 0.25)
    tx = updater.wrap_optax(optax.sgd(0.1))
    state = tx.init(params)
    mask = np.asarray(state.masks["w"])
    new = np.asarray(updater.update_state(state, params, grads).masks["w"])
    weights, gradients = np.abs(np.asarray(params["w"])), np.abs(np.asarray(grads["w"]))
    dropped = np.argsort(np.where(mask == 1, weights, np.inf), axis=None)[:6]
    expected = mask.copy().ravel()
    expected[dropped] = 0
    grown = np.argsort(np.where(expected.reshape(mask.shape) == 0, -gradients, np.inf), axis=None)[:6]
    expected[grown] = 1
    np.testing.assert_array_equal(new.ravel(), expected)


def test_set_grows_at_random(params, grads):
    masks = []
    for seed in (0, 0, 1):
        updater = pruning.SET(sparsity_distribution_fn=uniform(0.5), rng_seed=jax.random.key(seed))
        state = (
            updater.wrap_optax(optax.sgd(0.1))
            .init(params)
            ._replace(masks={"w": (params["w"] > 0).astype(jnp.uint8), "bias": None})
        )
        masks.append(updater.update_state(state, params, grads).masks["w"])
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_structured_masks_move_in_one_piece(params, grads):
    updater = pruning.RigL(
        sparsity_distribution_fn=uniform(0.5), sparsity_type=sparsity_types.Channel(-1), drop_fraction_fn=lambda _: 0.5
    )
    state = updater.wrap_optax(optax.sgd(0.1)).init(params)
    new = updater.update_state(state, params, grads).masks["w"]
    assert new.sum(0).tolist().count(6) == 4
    assert new.sum(0).tolist().count(0) == 4
    assert not np.array_equal(new, state.masks["w"])


OPTIMISERS = {
    "sgd": lambda: optax.sgd(0.1, momentum=0.9),
    "sgd without memory": lambda: optax.sgd(0.1),
    "adam on a schedule": lambda: optax.adam(optax.cosine_decay_schedule(0.1, 10)),
    "adamw, clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
    "amsgrad": lambda: optax.amsgrad(0.1),
    "rmsprop, centred": lambda: optax.rmsprop(0.1, centered=True, momentum=0.5),
    "lion": lambda: optax.lion(0.1),
    "adabelief": lambda: optax.adabelief(0.1),
    "adagrad": lambda: optax.adagrad(0.1),
    "ema": lambda: optax.chain(optax.ema(0.9), optax.scale(0.1)),
    "masked": lambda: optax.masked(optax.sgd(0.1, momentum=0.9), {"w": True, "bias": False}),
    "partitioned": lambda: optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, {"w": "a", "bias": "b"}),
    "multi-step": lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "if finite": lambda: optax.apply_if_finite(optax.adam(0.1), 3),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_grown_weights_forget_their_past(name, params):
    tx = OPTIMISERS[name]()
    state = tx.init(params)
    # One memory of ones per weight, wherever the optimiser keeps any.
    full = jax.tree.map(lambda leaf: jnp.ones_like(leaf) if jnp.shape(leaf) == (6, 8) else leaf, state)
    activated = {"w": jnp.arange(48).reshape(6, 8) % 3 == 0, "bias": None}
    restarted = restart_inner_state(full, activated)
    assert jax.tree.structure(restarted) == jax.tree.structure(state)
    memories = [leaf for leaf in jax.tree.leaves(restarted) if jnp.shape(leaf) == (6, 8)]
    assert bool(memories) is (name != "sgd without memory")
    for memory in memories:
        np.testing.assert_array_equal(memory, ~activated["w"])
    jax.tree.map(
        lambda old, new: np.testing.assert_array_equal(old, new) if jnp.shape(old) != (6, 8) else None, full, restarted
    )


def test_an_unknown_optimiser_state_is_refused(params):
    with pytest.raises(
        ValueError, match=r"optimizer state of type FactoredState.*add it to .*MEMORIES.*ScaleByAdamState"
    ):
        restart_inner_state(optax.adafactor(0.1).init(params), {"w": jnp.ones((6, 8)), "bias": None})
    with pytest.raises(ValueError, match="of type dict"):
        restart_inner_state({"w": 1}, {"w": None})


def test_the_tables_name_fields_that_exist():
    for kind, fields in (*MEMORIES.items(), *INNER_STATES.items()):
        assert set(fields) <= set(kind._fields), kind
