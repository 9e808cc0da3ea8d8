"""Magnitude, saliency, random and global pruning; the optimiser wrapped by an updater."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions, sparsity_types
from jaxprune.pruning.algorithms.pruners import generate_random_scores


def tree_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def params_of(rng):
    return {
        "conv": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": np.ones(4, np.float32)},
        "linear": {"kernel": 10 * rng.normal(size=(4, 6)).astype(np.float32), "bias": np.ones(6, np.float32)},
    }


@pytest.fixture
def params(rng):
    return jax.tree.map(jnp.asarray, params_of(rng))


def uniform(sparsity, **kwargs):
    return partial(sparsity_distributions.uniform, sparsity=sparsity, **kwargs)


def test_magnitude_keeps_the_largest_of_each_parameter(params):
    pruned, masks = pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.75)).instant_sparsify(params)
    for layer in params:
        kernel, mask = np.abs(params[layer]["kernel"]), np.asarray(masks[layer]["kernel"])
        assert mask.dtype == np.uint8
        assert mask.sum() == kernel.size // 4
        assert kernel[mask == 1].min() > kernel[mask == 0].max()
        assert masks[layer]["bias"] is None
        np.testing.assert_array_equal(pruned[layer]["kernel"], np.where(mask, params[layer]["kernel"], 0))
        np.testing.assert_array_equal(pruned[layer]["bias"], params[layer]["bias"])


def test_saliency_needs_and_uses_gradients():
    updater = pruning.SaliencyPruning(sparsity_distribution_fn=uniform(0.5, filter_fn=lambda *_: True))
    params, grads = {"w": jnp.array([0.1, 0.9, -0.2, 0.5])}, {"w": jnp.array([5.0, -1.0, 3.0, 0.5])}
    np.testing.assert_allclose(updater.calculate_scores(params, grads=grads)["w"], [0.5, 0.9, 0.6, 0.25])
    np.testing.assert_array_equal(updater.instant_sparsify(params, grads=grads)[1]["w"], [0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"saliency needs gradients: call instant_sparsify\(params, grads=grads\)"):
        updater.instant_sparsify(params)


def test_random_scores_have_one_key_per_leaf(params):
    updater = pruning.RandomPruning(sparsity_distribution_fn=uniform(0.5))
    leaves = jax.tree.leaves(params)
    keys = jax.random.split(jax.random.PRNGKey(8), len(leaves))
    for score, key, leaf in zip(jax.tree.leaves(updater.calculate_scores(params)), keys, leaves, strict=True):
        np.testing.assert_array_equal(score, jax.random.uniform(key, leaf.shape))
    other = pruning.RandomPruning(sparsity_distribution_fn=uniform(0.5), rng_seed=jax.random.key(1))
    assert not np.array_equal(*(u.instant_sparsify(params)[1]["linear"]["kernel"] for u in (updater, other)))


@pytest.mark.parametrize("use_packed_masks", [False, True])
def test_random_scores_with_a_state_leave_pruned_weights_at_zero(params, use_packed_masks):
    updater = pruning.RandomPruning(
        scheduler=pruning.PolynomialSchedule(1, 0, 3),
        sparsity_distribution_fn=uniform(0.5),
        use_packed_masks=use_packed_masks,
    )
    state = updater.init_state(params)
    state = updater.update_state(state._replace(count=jnp.asarray(1)), params, params)
    scores = updater.calculate_scores(params, sparse_state=state._replace(count=jnp.asarray(2)))
    fresh = generate_random_scores(params, jax.random.fold_in(updater.rng_seed, 2))
    mask = updater._unpack(state.masks, params)["linear"]["kernel"]
    assert int(mask.sum()) == round(24 * (1 - 0.5 * (1 - (1 / 3) ** 3)))
    np.testing.assert_array_equal(scores["linear"]["kernel"], fresh["linear"]["kernel"] * mask)
    later = updater._unpack(updater.update_state(state._replace(count=jnp.asarray(2)), params, params).masks, params)[
        "linear"
    ]["kernel"]
    assert int(later.sum()) == 12
    assert int((later * (1 - mask)).sum()) == 0


def test_random_scores_of_integer_parameters_are_noise_too():
    scores = generate_random_scores({"w": jnp.arange(6)}, jax.random.key(0))
    assert jnp.issubdtype(scores["w"].dtype, jnp.floating)


@pytest.mark.parametrize("use_normalization", [True, False])
def test_global_magnitude_is_one_threshold(params, use_normalization):
    updater = pruning.GlobalMagnitudePruning(sparsity=0.6, use_normalization=use_normalization)
    pruned, masks = updater.instant_sparsify(params)
    scores = {layer: np.abs(np.asarray(params[layer]["kernel"], np.float64)) for layer in params}
    if use_normalization:
        scores = {layer: score / (np.sqrt((score**2).sum()) + 1e-8) for layer, score in scores.items()}
    ranked = np.concatenate([scores["conv"].ravel(), scores["linear"].ravel()])
    kept = round(ranked.size * 0.4)
    threshold = np.sort(ranked)[-kept]
    for layer, score in scores.items():
        np.testing.assert_array_equal(masks[layer]["kernel"], score >= threshold)
        np.testing.assert_array_equal(pruned[layer]["kernel"] != 0, score >= threshold)
        assert masks[layer]["bias"] is None
    shares = [float(masks[layer]["kernel"].mean()) for layer in scores]
    # The linear weights are ten times larger: without normalisation they stay.
    assert (shares[1] > 0.9) is (not use_normalization)


def test_global_ties_go_to_the_first_sorted_path():
    params = {"z": jnp.ones((2, 2)), "a": jnp.ones((2, 2)), "list": [jnp.ones((1, 2)) for _ in range(11)]}
    updater = pruning.GlobalMagnitudePruning(sparsity=0.8, use_normalization=False)
    masks = updater.instant_sparsify(params)[1]
    assert masks["a"].tolist() == [[1, 1], [1, 1]]
    # List positions sort as numbers: 2 comes before 10.
    assert [mask.tolist() for mask in masks["list"]] == [[[1, 1]]] + [[[0, 0]]] * 10
    assert int(masks["z"].sum()) == 0


def test_global_custom_sparsities_are_ranked_alone(params):
    custom = {("linear", "kernel"): 0.5, ("conv", "bias"): 0.25}
    masks = pruning.GlobalMagnitudePruning(sparsity=0.75, custom_sparsity_map=custom).instant_sparsify(params)[1]
    assert int(masks["linear"]["kernel"].sum()) == 12
    assert int(masks["conv"]["kernel"].sum()) == 18
    assert masks["conv"]["bias"].tolist() == [1, 1, 1, 0]


def test_global_create_masks_ranks_the_scores_it_gets():
    scores = {"w": jnp.array([0.1, 0.9, -0.2, 0.5]), "w2": jnp.array([0.7, 0.8])}
    for updater in (pruning.GlobalMagnitudePruning, pruning.GlobalSaliencyPruning):
        masks = updater(filter_fn=lambda *_: True).create_masks(scores, target_sparsity=0.5)
        assert {name: mask.tolist() for name, mask in masks.items()} == {"w": [0, 1, 0, 0], "w2": [1, 1]}


def test_global_pruning_refuses_what_it_cannot_do(params):
    block = pruning.GlobalMagnitudePruning(sparsity=0.5, sparsity_type=sparsity_types.Channel())
    for call in (block.init_state, block.instant_sparsify):
        with pytest.raises(ValueError, match=r"supports Unstructured\(\) only, got Channel"):
            call(params)
        with pytest.raises(AttributeError):
            call(params)
    with pytest.raises(ValueError, match="selects none of the 4 parameters"):
        pruning.GlobalMagnitudePruning(sparsity=0.5, filter_fn=lambda *_: False).instant_sparsify(params)
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        pruning.GlobalMagnitudePruning(sparsity=1.5).instant_sparsify(params)


def test_linen_nnx_and_stacked_parameters_give_the_same_masks(rng):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs)
            self.linear = nnx.Linear(4, 6, rngs=rngs)

    models = [Net(nnx.Rngs(seed)) for seed in (0, 1)]
    states = [nnx.state(model, nnx.Param) for model in models]
    dicts = [nnx.to_pure_dict(state) for state in states]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *dicts)
    for updater in (
        pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.6)),
        pruning.RandomPruning(sparsity_distribution_fn=partial(sparsity_distributions.erk, sparsity=0.6)),
        pruning.GlobalMagnitudePruning(sparsity=0.6, filter_fn=pruning.conv_kernels, use_normalization=False),
    ):
        expected = [updater.instant_sparsify(params) for params in dicts]
        tree_equal(
            updater.instant_sparsify(flax.core.freeze(dicts[0])),
            jax.tree.map(lambda x: x, (flax.core.freeze(expected[0][0]), flax.core.freeze(expected[0][1]))),
        )
        pruned, masks = updater.instant_sparsify(states[0])
        tree_equal(nnx.to_pure_dict(pruned), expected[0][0])
        assert isinstance(masks, nnx.State)
        for mask, wanted in zip(jax.tree.leaves(masks), jax.tree.leaves(expected[0][1]), strict=True):
            np.testing.assert_array_equal(mask, wanted)
        batched = jax.vmap(updater.instant_sparsify)(stacked)
        tree_equal(batched, jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected))


@pytest.mark.parametrize(
    "make",
    [
        lambda sparsity: pruning.MagnitudePruning(sparsity_distribution_fn=uniform(sparsity)),
        lambda sparsity: pruning.GlobalMagnitudePruning(sparsity=sparsity),
    ],
    ids=["per parameter", "global"],
)
def test_a_batch_of_sparsities_equals_the_loop_and_jit_equals_eager(make, params):
    sparsities = jnp.array([0.0, 0.1, 0.5, 0.97])
    batch = jax.vmap(lambda sparsity: make(sparsity).instant_sparsify(params))(sparsities)
    for index, sparsity in enumerate(sparsities):
        eager = make(float(sparsity)).instant_sparsify(params)
        tree_equal(jax.tree.map(lambda leaf, index=index: leaf[index], batch[1]), eager[1])
        tree_equal(jax.tree.map(lambda leaf, index=index: leaf[index], batch[0]), eager[0])
    tree_equal(jax.jit(make(0.5).instant_sparsify)(params), make(0.5).instant_sparsify(params))


def test_a_single_array_and_a_list_are_parameters(rng):
    kernel = jnp.asarray(rng.normal(size=(4, 4)).astype(np.float32))
    updater = pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    _, mask = updater.instant_sparsify(kernel)
    assert int(mask.sum()) == 8
    _, masks = updater.instant_sparsify([kernel, jnp.ones(3)])
    np.testing.assert_array_equal(masks[0], mask)
    assert masks[1] is None


def test_packed_masks_are_the_bits_of_the_masks(params):
    plain = pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    packed = pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.5), use_packed_masks=True)
    pruned, masks = plain.instant_sparsify(params)
    packed_pruned, bits = packed.instant_sparsify(params)
    tree_equal(packed_pruned, pruned)
    tree_equal(bits, jax.tree.map(jnp.packbits, masks))
    tree_equal(packed.apply_masks(params, bits, is_packed=None), pruned)
    tree_equal(packed.apply_masks(params, bits, is_packed=True), pruned)


def test_a_custom_topk_function_is_used(params):
    def keep_all(scores, sparsity):
        return jnp.ones_like(scores)

    updater = pruning.MagnitudePruning(topk_fn=keep_all, sparsity_distribution_fn=uniform(0.9))
    masks = updater.instant_sparsify(params)[1]
    assert updater.topk_fn is keep_all
    assert masks["conv"]["kernel"].dtype == jnp.uint8
    assert bool(masks["conv"]["kernel"].all())


def test_a_type_that_does_not_fit_names_the_parameter(params):
    updater = pruning.MagnitudePruning(sparsity_distribution_fn=uniform(0.5), sparsity_type=sparsity_types.NByM(2, 4))
    with pytest.raises(ValueError, match=r"parameter linear/kernel: the target axis 1 .* not divisible by M = 4"):
        updater.instant_sparsify(params)


def test_no_pruning_keeps_everything(params):
    pruned, masks = pruning.NoPruning().instant_sparsify(params)
    tree_equal(pruned, params)
    assert jax.tree.leaves(masks) == []
    tx = pruning.NoPruning().wrap_optax(optax.sgd(0.1))
    updates, state = tx.update(params, tx.init(params), params)
    assert jax.tree.leaves(state.masks) == []
    assert state.target_sparsities is None
    tree_equal(updates, jax.tree.map(lambda leaf: -0.1 * leaf, params))


def test_what_is_missing_is_said(params):
    with pytest.raises(NotImplementedError, match="define calculate_scores"):
        pruning.BaseUpdater().instant_sparsify(params)
    with pytest.raises(ValueError, match="sparsity_distribution_fn is None"):
        pruning.MagnitudePruning(sparsity_distribution_fn=None).instant_sparsify(params)
    tx = pruning.MagnitudePruning().wrap_optax(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        tx.update(params, tx.init(params))


def test_an_infinite_weight_is_pruned_to_zero_too():
    pruned = pruning.apply_mask(jnp.array([jnp.inf, jnp.nan, -2.0, 3.0]), jnp.array([0, 0, 0, 1], jnp.uint8))
    assert pruned.tolist() == [0.0, 0.0, 0.0, 3.0]
    assert not np.signbit(np.asarray(pruned)).any()
