"""`prune`: the study's methods on anything with `params` and `replace`."""

import dataclasses
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import pruning


@dataclasses.dataclass(frozen=True)
class Net:
    params: Any

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


@pytest.fixture
def net(rng):
    def array(*shape, scale=1.0):
        return jnp.asarray(scale * rng.normal(size=shape).astype(np.float32))

    return Net(
        {
            "conv1": {"kernel": array(3, 3, 3, 8), "bias": array(8)},
            "stage1_block0": {"conv1": {"kernel": array(3, 3, 8, 8, scale=0.1)}, "bn1": {"scale": jnp.ones(8)}},
            "linear": {"kernel": array(8, 10, scale=1e-3), "bias": array(10)},
        }
    )


def conv_kernels(tree):
    return [np.asarray(tree["conv1"]["kernel"]), np.asarray(tree["stage1_block0"]["conv1"]["kernel"])]


# Those that choose single weights, at any sparsity.
UNSTRUCTURED = ("lamp", "random", "weight", "weight_erk", "weight_per_layer")


@pytest.mark.parametrize("method", UNSTRUCTURED)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.7])
def test_the_sparsity_of_the_convolution_kernels_is_what_was_asked(method, sparsity, net):
    pruned, masks = pruning.prune(net, method=method, sparsity=sparsity, key=jax.random.key(0))
    kernels, kept = conv_kernels(pruned.params), conv_kernels(masks)
    size = sum(kernel.size for kernel in kernels)
    zeros = sum(int((mask == 0).sum()) for mask in kept)
    if method in ("random", "weight_per_layer"):
        assert zeros == sum(kernel.size - round(kernel.size * (1 - sparsity)) for kernel in kernels)
    elif method == "weight_erk":  # each layer rounds its own share
        assert abs(zeros - size * sparsity) <= 2
    else:
        assert zeros == size - round(size * (1 - sparsity))
    for kernel, mask, dense in zip(kernels, kept, conv_kernels(net.params), strict=True):
        np.testing.assert_array_equal(kernel, dense * mask)
    for path in (("conv1", "bias"), ("linear", "kernel"), ("linear", "bias")):
        assert masks[path[0]][path[1]] is None
        np.testing.assert_array_equal(pruned.params[path[0]][path[1]], net.params[path[0]][path[1]])


def test_weight_is_one_threshold_without_normalisation(net):
    _, masks = pruning.prune(net, method="weight", sparsity=0.7)
    dense, kept = conv_kernels(net.params), conv_kernels(masks)
    magnitudes = np.abs(np.concatenate([kernel.ravel() for kernel in dense]))
    threshold = np.sort(magnitudes)[-round(magnitudes.size * 0.3)]
    for kernel, mask in zip(dense, kept, strict=True):
        np.testing.assert_array_equal(mask, np.abs(kernel) >= threshold)
    # The small kernel of the block goes nearly whole: layers do not get a share of their own.
    assert kept[1].mean() < 0.1 < 0.8 < kept[0].mean()


def test_random_masks_come_from_their_key(net):
    first, again, other = (
        conv_kernels(pruning.prune(net, method="random", sparsity=0.5, key=jax.random.key(seed))[1])[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(ValueError, match=r"give key=jax.random.key\(seed\)"):
        pruning.prune(net, method="random", sparsity=0.5)


def test_wrong_requests_are_refused(net):
    with pytest.raises(ValueError, match=r"unknown pruning method 'magnitude'; choose one of weight, "):
        pruning.prune(net, method="magnitude", sparsity=0.5)
    for sparsity in (-0.1, 1.0, 70, float("nan")):
        with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
            pruning.prune(net, method="weight", sparsity=sparsity)
    for sparsity in (None, "0.5", [0.1, 0.5]):
        with pytest.raises(ValueError, match="sparsity must be (a|one) number"):
            pruning.prune(net, method="weight", sparsity=sparsity)
    for filter_fn, message in (
        (
            "convolutions",
            "unknown filter_fn 'convolutions'; give one of conv_kernels, kernels, more_than_one_axis, or a",
        ),
        (lambda names, array: False, "selects none of the 6 parameters"),
    ):
        with pytest.raises(ValueError, match=message):
            pruning.prune(net, method="weight", sparsity=0.5, filter_fn=filter_fn)


def test_summaries_count_zeros(net):
    pruned, _ = pruning.prune(net, method="weight", sparsity=0.5)
    summary = pruning.summarize_sparsity(pruned.params)
    kernels = conv_kernels(pruned.params)
    assert summary["conv1/kernel"] == pytest.approx((kernels[0] == 0).mean())
    total = sum(leaf.size for leaf in jax.tree.leaves(net.params))
    non_zero = sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(pruned.params))
    assert summary["_nparams"] == total
    assert summary["_nparams_nnz"] == non_zero
    assert summary["_total_sparsity"] == pytest.approx(1 - non_zero / total)
    only = pruning.summarize_sparsity(pruned.params, only_total_sparsity=True)
    assert sorted(only) == ["_nparams", "_nparams_nnz", "_total_sparsity"]
    jitted = jax.jit(pruning.summarize_sparsity)(pruned.params)
    assert jitted.keys() == summary.keys()
    for name, value in summary.items():
        np.testing.assert_allclose(jitted[name], value, rtol=1e-6)
    assert set(pruning.summarize_sparsity([jnp.ones(2), jnp.zeros(2)])) >= {"0", "1"}
    assert pruning.summarize_sparsity(jnp.zeros(2))["_total_sparsity"] == 1.0


class AttentionNet(nnx.Module):
    """As a vision transformer keeps its weights: nearly all of them in attention and linear layers."""

    def __init__(self, rngs, width=16):
        self.patches = nnx.Conv(3, width, (2, 2), rngs=rngs)
        self.position = nnx.Param(jnp.ones((1, 16, width)))
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.mlp = nnx.List([nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)])
        self.head = nnx.Linear(width, 10, rngs=rngs)


def attention_net():
    return Net(nnx.to_pure_dict(nnx.state(AttentionNet(nnx.Rngs(0)), nnx.Param)))


def removed_share(masks, params):
    zeros = sum(int((mask == 0).sum()) for mask in jax.tree.leaves(masks))
    return zeros / sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("method", ["weight", "weight_per_layer", "weight_erk", "lamp", "random", "block_4_4"])
def test_a_method_that_reaches_few_of_the_weights_says_so_and_what_to_do(method):
    net = attention_net()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, masks = pruning.prune(net, method=method, sparsity=0.75, key=jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(net.params))
    share = 192 / size
    assert removed_share(masks, net.params) == pytest.approx(0.75 * share)
    assert len(caught) == 1, "nothing is said"
    message = str(caught[0].message)
    assert f"selected {100 * share:.3g} % of all weights (1 of 19 parameters)" in message
    assert f"sparsity 0.75 removes {75 * share:.3g} %" in message
    advice = re.search(r'filter_fn="(\w+)" .*, which selects ([\d.]+) %', message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, masks = pruning.prune(net, method=method, sparsity=0.75, key=jax.random.key(0), filter_fn=advice[1])
    selected = sum(leaf.size for leaf in jax.tree.leaves(masks)) / size
    assert selected == pytest.approx(float(advice[2]) / 100, rel=1e-2)
    assert selected > 0.8
    assert removed_share(masks, net.params) == pytest.approx(0.75 * selected, rel=1e-2)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(masks)]
    assert len(names) == 8
    assert all(name.endswith("['kernel']") for name in names)


def test_where_nothing_can_be_selected_the_advice_can_be_followed():
    net = Net({"linear": {"kernel": jnp.arange(16.0).reshape(4, 4), "bias": jnp.ones(4)}})
    with pytest.raises(ValueError, match="selects none of the 2 parameters, such as linear/bias") as refused:
        pruning.prune(net, method="weight", sparsity=0.5)
    advice = re.search(r'filter_fn="(\w+)" .*, which selects 80 % of all weights', str(refused.value))
    assert advice, str(refused.value)
    _, masks = pruning.prune(net, method="weight", sparsity=0.5, filter_fn=advice[1])
    assert masks["linear"]["kernel"].ravel().tolist() == [0] * 8 + [1] * 8
    assert masks["linear"]["bias"] is None


def test_a_filter_is_a_name_or_a_function(net):
    _, by_name = pruning.prune(net, method="weight", sparsity=0.5, filter_fn="kernels")
    _, by_function = pruning.prune(net, method="weight", sparsity=0.5, filter_fn=pruning.kernels)
    jax.tree.map(np.testing.assert_array_equal, by_name, by_function)
    assert by_name["linear"]["kernel"] is not None
    _, masks = pruning.prune(net, method="lamp", sparsity=0.5, filter_fn=lambda names, _: names[0] == "linear")
    assert len(jax.tree.leaves(masks)) == 2
    assert pruning.selected_share(net.params, "conv_kernels") == pytest.approx(792 / 898)


def test_a_network_of_convolutions_is_pruned_without_a_word(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparse, masks = pruning.prune(net, method="weight", sparsity=0.5)
    assert str(pruning.summarize(sparse, masks)).endswith("Masks cover 88.2% of the weights.")
    assert pruning.summarize(sparse, masks).total.masked == 792


def equinox_like(rng):
    """Parameters in Equinox's names and shapes: outputs first, biases [channels, 1, 1]."""

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32))

    return {
        "conv": {"weight": array(8, 3, 3, 3), "bias": array(8, 1, 1)},
        "depthwise": {"weight": array(8, 1, 3, 3), "bias": array(8, 1, 1)},
        "norm": {"weight": array(8), "bias": array(8)},
        "gamma": {"weight": array(8, 1, 1)},
        "linear": {"weight": array(10, 8), "bias": array(10)},
    }


def test_biases_with_axes_of_length_one_are_no_kernels(rng):
    params = equinox_like(rng)
    _, masks = pruning.GlobalMagnitudePruning(sparsity=0.5).instant_sparsify(params)
    assert [masks[layer]["bias"] for layer in ("conv", "depthwise", "norm", "linear")] == [None] * 4
    for name, layers in {"conv_kernels": ["conv", "depthwise"], "kernels": ["conv", "depthwise", "linear"]}.items():
        net = Net(params)
        _, masks = pruning.prune(net, method="weight_per_layer", sparsity=0.5, filter_fn=name)
        assert [layer for layer in params if masks[layer]["weight"] is not None] == layers
        assert not any(masks[layer].get("bias") is not None for layer in params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, masks = pruning.prune(Net(params), method="weight", sparsity=0.5)
    assert int(masks["conv"]["weight"].sum() + masks["depthwise"]["weight"].sum()) == (216 + 72) // 2


def test_kernels_of_haiku_are_kernels_too(rng):
    params = {
        "conv": {"w": jnp.ones((3, 3, 3, 8)), "b": jnp.ones(8)},
        "linear": {"w": jnp.ones((8, 4)), "b": jnp.ones(4)},
    }
    _, masks = pruning.prune(Net(params), method="weight", sparsity=0.5)
    assert [layer for layer in params if masks[layer]["w"] is not None] == ["conv"]
    _, masks = pruning.prune(Net(params), method="weight", sparsity=0.5, filter_fn="kernels")
    assert [layer for layer in params if masks[layer]["w"] is not None] == ["conv", "linear"]
