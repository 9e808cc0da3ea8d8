"""Whatever the optimiser, a pruned weight is exactly 0 after every step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxprune import pruning

LINKS = {
    "momentum": lambda: optax.trace(0.9),
    "nesterov": lambda: optax.trace(0.9, nesterov=True),
    "weight decay": lambda: optax.add_decayed_weights(0.1),
    "adam": lambda: optax.scale_by_adam(),
    "rms": lambda: optax.scale_by_rms(),
    "lion": lambda: optax.scale_by_lion(),
    "clip": lambda: optax.clip(0.5),
    "clip by norm": lambda: optax.clip_by_global_norm(1.0),
    "centralize": lambda: optax.centralize(),
    "ema": lambda: optax.ema(0.9),
    "noise": lambda: optax.add_noise(0.1, 0.55, key=0),
    "sign": lambda: optax.scale_by_sign(),
    "schedule": lambda: optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, 5)),
    "constant": lambda: optax.stateless(lambda updates, _: jax.tree.map(lambda leaf: leaf + 3.0, updates)),
}
OUTER = {
    "plain": lambda tx: tx,
    "multi-step": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "if finite": lambda tx: optax.apply_if_finite(tx, 2),
    "masked": lambda tx: optax.masked(tx, {"kernel": True, "bias": False}),
    "injected": lambda tx: optax.chain(tx, optax.inject_hyperparams(optax.scale)(step_size=0.5)),
}
EXACT = {"max_examples": 15, "deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(**EXACT)
@given(
    links=st.lists(st.sampled_from(sorted(LINKS)), min_size=1, max_size=4),
    outer=st.sampled_from(sorted(OUTER)),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    seed=st.integers(0, 2**16),
)
def test_pruned_weights_are_zero_after_any_chain(links, outer, dtype, seed):
    rng = np.random.default_rng(seed)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), dtype), "bias": jnp.asarray(rng.normal(size=4), dtype)}
    masks = {"kernel": jnp.asarray(rng.integers(0, 2, (3, 4)), jnp.uint8), "bias": None}
    chain = optax.chain(*(LINKS[link]() for link in links), optax.scale(-0.1))
    tx = pruning.masked_optimizer(OUTER[outer](chain), masks)
    state = tx.init(params)
    pruned = np.asarray(masks["kernel"]) == 0
    for _ in range(2):
        grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert params["kernel"].dtype == dtype
        assert not np.any(np.asarray(params["kernel"], np.float32)[pruned])


@pytest.mark.parametrize(
    "links", [("momentum", "weight decay"), ("adam", "weight decay", "ema"), ("clip by norm", "rms", "noise")]
)
def test_and_under_jit_where_operations_are_fused(links, rng):
    params = {"kernel": jnp.asarray(rng.normal(size=(8, 8)), jnp.float32), "bias": jnp.ones(8)}
    masks = {"kernel": jnp.asarray(rng.integers(0, 2, (8, 8)), jnp.uint8), "bias": None}
    tx = pruning.masked_optimizer(optax.chain(*(LINKS[link]() for link in links), optax.scale(-0.1)), masks)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda params: jnp.sum(jnp.sin(3 * params["kernel"])) + jnp.sum(params["bias"]))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(20):
        params, state = step(params, state)
        assert not np.any(np.asarray(params["kernel"])[np.asarray(masks["kernel"]) == 0])


def test_and_on_eight_devices_with_pmap(rng):
    masks = {"kernel": jnp.asarray(rng.integers(0, 2, (8, 4, 4)), jnp.uint8), "bias": None}
    params = {"kernel": jnp.asarray(rng.normal(size=(8, 4, 4)), jnp.float32), "bias": jnp.ones((8, 4))}

    def step(params, masks):
        tx = pruning.masked_optimizer(optax.sgd(0.1, momentum=0.9), masks)
        updates, _ = tx.update(params, tx.init(params), params)
        return optax.apply_updates(params, updates)

    spread, batched = jax.pmap(step)(params, masks), jax.vmap(step)(params, masks)
    np.testing.assert_allclose(spread["kernel"], batched["kernel"], rtol=1e-6)
    assert not np.any(np.asarray(spread["kernel"])[np.asarray(masks["kernel"]) == 0])


def test_pmap_gives_the_masks_of_vmap(rng):
    params = {"kernel": jnp.asarray(rng.normal(size=(8, 4, 6)), jnp.float32)}
    pruner = pruning.GlobalMagnitudePruning(sparsity=0.6)
    spread, batched = jax.pmap(pruner.instant_sparsify)(params), jax.vmap(pruner.instant_sparsify)(params)
    jax.tree.map(np.testing.assert_array_equal, spread, batched)
