"""The invariant: a pruned weight is exactly 0 after any optimiser step, and masks belong to their parameters."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions

STEPS = 50
OPTIMISERS = {
    "momentum and weight decay": lambda: optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9)),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.1),
}


@pytest.fixture
def params(rng):
    return {"kernel": jnp.asarray(rng.normal(size=(4, 6)).astype(np.float32)), "bias": jnp.ones(6)}


@pytest.fixture
def masks(rng):
    return {"kernel": jnp.asarray(rng.integers(0, 2, (4, 6)).astype(np.uint8)), "bias": None}


def loss(params):
    return jnp.sum((params["kernel"] - 1.7) ** 2) + jnp.sum(jnp.cos(params["bias"]))


def assert_held(params, mask):
    assert float(jnp.abs(params["kernel"] * (mask == 0)).max()) == 0.0
    assert bool(jnp.all(params["kernel"][mask == 1] != 0))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_pruned_weights_stay_zero_with_masked_optimizer(name, params, masks):
    tx = pruning.masked_optimizer(OPTIMISERS[name](), masks)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    start = params
    for _ in range(STEPS):
        params, state = step(params, state)
        assert_held(params, masks["kernel"])
    assert step._cache_size() == 1
    assert bool(jnp.all(params["bias"] != start["bias"]))
    # What stays trains as if the pruned weights had never been there.
    dense_tx = OPTIMISERS[name]()
    dense, dense_state = pruning.mask_params(start, masks), dense_tx.init(start)
    for _ in range(STEPS):
        grads = pruning.mask_params(jax.grad(loss)(dense), masks)
        updates, dense_state = dense_tx.update(grads, dense_state, dense)
        dense = pruning.mask_params(optax.apply_updates(dense, updates), masks)
    np.testing.assert_allclose(params["kernel"], dense["kernel"], rtol=1e-5)
    np.testing.assert_allclose(params["bias"], dense["bias"], rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("use_packed_masks", [False, True])
def test_pruned_weights_stay_zero_along_a_schedule(name, use_packed_masks, params):
    updater = pruning.MagnitudePruning(
        scheduler=pruning.PolynomialSchedule(update_freq=5, update_start_step=5, update_end_step=30),
        sparsity_distribution_fn=partial(sparsity_distributions.uniform, sparsity=0.75),
        use_packed_masks=use_packed_masks,
    )
    wrapped, forgetful = updater.wrap_optax(OPTIMISERS[name]()), pruning.pruned_optimizer(updater, OPTIMISERS[name]())
    state = forgetful_state = wrapped.init(params)
    assert jax.tree.structure(forgetful.init(params)) == jax.tree.structure(state)

    @jax.jit
    def by_hand(params, state):
        updates, state = wrapped.update(jax.grad(loss)(params), state, params)
        return updater.post_gradient_update(optax.apply_updates(params, updates), state), state

    @jax.jit
    def by_wrapper(params, state):
        updates, state = forgetful.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    forgetful_params = params
    for _ in range(STEPS):
        params, state = by_hand(params, state)
        forgetful_params, forgetful_state = by_wrapper(forgetful_params, forgetful_state)
        mask = updater._unpack(state.masks, params)["kernel"]
        assert_held(params, mask)
        assert_held(forgetful_params, mask)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3), forgetful_params, params)
    assert int((params["kernel"] == 0).sum()) == 18


def test_bfloat16_updates_of_float32_parameters_still_reach_zero(params, masks):
    to_bfloat16 = optax.stateless(lambda updates, _: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), updates))
    tx = pruning.masked_optimizer(optax.chain(optax.sgd(0.1), to_bfloat16), masks)
    updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
    assert_held(optax.apply_updates(params, updates), masks["kernel"])


def test_pruned_gradients_do_not_count_in_the_norm(params, masks):
    tx = pruning.masked_optimizer(optax.clip_by_global_norm(1.0), masks)
    grads = {"kernel": jnp.where(masks["kernel"] == 0, 1e6, 0.1), "bias": jnp.zeros(6)}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"][masks["kernel"] == 1], 0.1, rtol=1e-6)


def test_masks_are_data_of_the_state_and_survive_donation(params, masks):
    tx = pruning.masked_optimizer(optax.sgd(0.1), masks)
    state = tx.init(params)
    assert isinstance(state, pruning.MaskedOptimizerState)
    update = jax.jit(tx.update, donate_argnums=1)
    update(params, state, params)
    assert int(masks["kernel"].sum()) >= 0  # not deleted with the donated state
    flipped = {"kernel": 1 - masks["kernel"], "bias": None}
    other, _ = update(params, pruning.masked_optimizer(optax.sgd(0.1), flipped).init(params), params)
    assert update._cache_size() == 1
    assert_held(optax.apply_updates(params, other), flipped["kernel"])


def test_without_masks_it_is_the_optimiser_itself():
    optimiser = optax.sgd(0.1)
    assert pruning.masked_optimizer(optimiser, None) is optimiser


def test_many_models_at_once_equal_the_loop(params, masks):
    stacked_params = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    stacked_masks = {"kernel": jnp.stack([masks["kernel"], 1 - masks["kernel"]]), "bias": None}

    def train(params, masks):
        tx = pruning.masked_optimizer(optax.sgd(0.1, momentum=0.9), masks)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return params

    both = jax.vmap(train)(stacked_params, stacked_masks)
    for index in range(2):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], (stacked_params, stacked_masks))
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-6),
            jax.tree.map(lambda leaf, index=index: leaf[index], both),
            train(*own),
        )


def test_masks_fit_any_container_of_the_same_parameters(params, masks):
    expected = pruning.mask_params(params, masks)
    frozen = pruning.mask_params(flax.core.freeze(params), masks)
    assert isinstance(frozen, flax.core.FrozenDict)
    np.testing.assert_array_equal(frozen["kernel"], expected["kernel"])
    state = nnx.State({name: nnx.Param(leaf) for name, leaf in params.items()})
    masked = pruning.mask_params(state, masks)
    np.testing.assert_array_equal(masked["kernel"][...], expected["kernel"])
    own_masks = jax.tree.map(
        lambda leaf: leaf, nnx.State({"kernel": nnx.Param(masks["kernel"]), "bias": nnx.Param(None)})
    )
    np.testing.assert_array_equal(pruning.mask_params(state, own_masks)["kernel"][...], expected["kernel"])
    np.testing.assert_array_equal(pruning.mask_params(params, own_masks)["kernel"], expected["kernel"])
    assert pruning.mask_params(params, None)["kernel"] is params["kernel"]


def test_an_nnx_optimizer_holds_the_masks_too():
    model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    _, masks = pruning.GlobalMagnitudePruning(sparsity=0.5).instant_sparsify(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, pruning.masked_optimizer(optax.adamw(0.1), masks), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(model(jnp.ones((2, 4))) ** 2))(model))

    for _ in range(3):
        step(model, optimizer)
        np.testing.assert_array_equal(model.kernel[...] != 0, masks["kernel"][...])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"kernel": np.ones((4, 6))}, r"no entry for the parameter bias"),
        ({"kernel": np.ones((4, 6)), "bias": None, "scale": np.ones(2)}, r"an entry scale that is no parameter"),
        ({"kernel": np.ones((4, 5)), "bias": None}, r"mask of kernel has shape \(4, 5\), its parameter \(4, 6\)"),
    ],
)
def test_masks_of_another_model_are_refused(masks, message, params):
    with pytest.raises(ValueError, match=message + ".*prune these parameters"):
        pruning.mask_params(params, masks)
    with pytest.raises(ValueError, match=message):
        pruning.masked_optimizer(optax.sgd(0.1), masks).init(params)


def test_an_update_without_parameters_is_refused(params, masks):
    tx = pruning.masked_optimizer(optax.sgd(0.1), masks)
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        tx.update(params, tx.init(params))


def refusals(params, masks):
    """What each public function that applies masks, or counts what they keep, says of these; None if nothing."""
    updater = pruning.MagnitudePruning()
    functions = {
        "mask_params": lambda: pruning.mask_params(params, masks),
        "apply_masks": lambda: updater.apply_masks(params, masks),
        "apply_mask": lambda: pruning.apply_mask(params["kernel"], masks["kernel"]),
        "masked_optimizer": lambda: pruning.masked_optimizer(optax.sgd(0.1), masks).init(params),
        "summarize": lambda: pruning.summarize(params, masks),
        "mask_overlap": lambda: pruning.mask_overlap(masks, dict.fromkeys(masks)),
        "intersect_masks": lambda: pruning.intersect_masks(masks, {"kernel": np.ones((4, 6), np.uint8), "bias": None}),
    }
    said = {}
    for name, function in functions.items():
        try:
            function()
            said[name] = None
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 2), ("uint8", 255), ("float32", 0.5), ("float32", 1e-3), ("float32", np.nan), ("int32", -1)],
)
@pytest.mark.parametrize("container", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_masks_that_are_not_zero_and_one_are_refused(dtype, value, container, params):
    mask = np.ones((4, 6), dtype)
    mask[1, 2] = value
    for name, said in refusals(params, {"kernel": container(mask), "bias": None}).items():
        assert said is not None, f"{name} took a mask of {value}"
        assert said.startswith("ValueError: the mask"), f"{name}: {said}"
        assert "has other values than 0 and 1, such as" in said


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "bfloat16"])
def test_masks_of_zero_and_one_are_taken_in_any_type(dtype, params):
    mask = jnp.asarray(np.tile([0, 1], (4, 3)), dtype)
    assert not any(refusals(params, {"kernel": mask, "bias": None}).values())
    assert pruning.mask_params(params, {"kernel": mask, "bias": None})["kernel"][:, 0].tolist() == [0] * 4


@pytest.mark.parametrize("shape", [(1, 6), (4, 1), (6,), (), (6, 4)])
def test_masks_of_another_shape_are_not_stretched(shape, params):
    said = refusals(params, {"kernel": np.ones(shape, np.uint8), "bias": None})
    del said["mask_overlap"]  # nothing says there which shape is right
    for name, text in said.items():
        assert text is not None, f"{name} took a mask of shape {shape}"
        assert text.startswith("ValueError: "), f"{name}: {text}"
        assert "has shape" in text


def test_packed_masks_of_another_size_are_refused(params):
    updater = pruning.MagnitudePruning(use_packed_masks=True)
    short = {"kernel": np.packbits(np.ones(8, np.uint8)), "bias": None}
    for apply in (
        lambda: updater.apply_masks(params, short, is_packed=None),
        lambda: updater.post_gradient_update(params, pruning.SparseState(masks=short)),
        lambda: pruning.apply_mask(params["kernel"], short["kernel"], is_packed=True),
    ):
        with pytest.raises(ValueError, match=r"mask.* has shape \(1,\), its parameter \(3,\)"):
            apply()


def test_traced_masks_are_taken_as_they_come(params, masks):
    kernel = jax.jit(pruning.mask_params)(params, masks)["kernel"]
    np.testing.assert_array_equal(kernel, params["kernel"] * masks["kernel"])
