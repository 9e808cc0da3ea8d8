"""`prune`: the study's methods on anything with `params` and `replace`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("method", sorted(set(pruning.METHODS) - set(pruning.STRUCTURED_METHODS)))
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
    for sparsity in (-0.1, 1.0, 70):
        with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
            pruning.prune(net, method="weight", sparsity=sparsity)
    with pytest.raises(ValueError, match="selects none of the 1 parameters"):
        pruning.prune(Net({"linear": {"kernel": jnp.ones((4, 4))}}), method="weight", sparsity=0.5)


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
