"""Uniform and Erdos-Renyi-Kernel sparsities, over every container of parameters."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune.pruning import filters, sparsity_distributions

TREE = {"a": np.zeros((2, 4)), "b": {"c": np.zeros((3, 6, 7)), "d": np.ones((7, 4))}, "e": np.ones(3)}


def test_uniform_gives_none_where_the_filter_is_false():
    expected = {"a": 0.5, "b": {"c": 0.5, "d": 0.5}, "e": None}
    assert sparsity_distributions.uniform(TREE, 0.5) == expected
    assert sparsity_distributions.uniform(flax.core.freeze(TREE), 0.5) == flax.core.freeze(expected)
    assert sparsity_distributions.uniform([np.zeros((2, 4)), np.ones(4)], 0.5) == [0.5, None]
    assert sparsity_distributions.uniform(np.zeros((2, 4)), 0.5) == 0.5


def test_filters_see_names_and_arrays():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Conv(2, 3, (3, 3), rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])

    state = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    seen = {}

    def record(names, array):
        seen[names] = array.shape
        return True

    for params in (state, nnx.to_pure_dict(state)):
        seen.clear()
        sparsity_distributions.uniform(params, 0.5, filter_fn=record)
        assert seen == {
            ("layers", "0", "bias"): (3,),
            ("layers", "0", "kernel"): (3, 3, 2, 3),
            ("layers", "1", "bias"): (2,),
            ("layers", "1", "kernel"): (3, 2),
        }
    seen.clear()
    sparsity_distributions.uniform(np.zeros(4), 0.5, filter_fn=record)
    assert seen == {("kernel",): (4,)}


@pytest.mark.parametrize(
    ("name", "selected"),
    [
        ("conv_kernels", {"conv"}),
        ("kernels", {"conv", "linear", "norm"}),
        ("more_than_one_axis", {"conv", "linear", "embedding"}),
    ],
)
def test_named_filters(name, selected):
    shapes = {"conv": (3, 3, 2, 4), "linear": (4, 2), "norm": (4,)}
    params = {layer: {"kernel": np.ones(shape), "bias": np.ones(2)} for layer, shape in shapes.items()}
    params["embedding"] = {"table": np.ones((5, 2)), "bias": np.ones(2)}
    sparsities = sparsity_distributions.uniform(params, 0.5, filter_fn=filters.FILTERS[name])
    assert {layer for layer in params if any(s is not None for s in sparsities[layer].values())} == selected


def test_a_custom_sparsity_goes_before_the_filter():
    custom = {("b", "d"): 0.1, ("e",): 0.2}
    result = sparsity_distributions.uniform(TREE, 0.5, custom_sparsity_map=custom)
    assert result == {"a": 0.5, "b": {"c": 0.5, "d": 0.1}, "e": 0.2}


@pytest.mark.parametrize(
    ("shapes", "sparsity", "include_kernel", "scale", "expected"),
    [
        ({"a": (2, 4)}, 0.5, True, 1.0, {"a": 0.5}),
        ({"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}, 0.5, True, 1.0, {"a": 0.0, "b": 1 - 29 / 42, "c": 1 - 29 / 84}),
        (
            {"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)},
            0.5,
            False,
            1.0,
            {"a": 1 - 27.75 / 35, "b": 1 - 18.5 / 35, "c": 1 - 37 / 84},
        ),
        ({"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}, 0.8, True, 1.0, {"a": 5 / 9, "b": 19 / 27, "c": 23 / 27}),
        ({"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}, 0.5, True, 2.0, {"a": 0.0, "b": 1 / 30, "c": 91 / 120}),
    ],
)
def test_erdos_renyi_densities(shapes, sparsity, include_kernel, scale, expected):
    result = sparsity_distributions.get_sparsities_erdos_renyi(shapes, sparsity, None, include_kernel, scale)
    assert result == pytest.approx(expected)
    sizes = {name: np.prod(shape) for name, shape in shapes.items()}
    kept = sum(sizes[name] * (1 - result[name]) for name in shapes)
    assert kept == pytest.approx(sum(size - np.floor(sparsity * size) for size in sizes.values()))


def test_erk_balances_what_the_filter_selects():
    result = sparsity_distributions.erk(TREE, 0.5)
    assert result["e"] is None
    assert (result["a"], result["b"]["d"]) == (0.0, 0.0)
    # 162 weights, of which 81 stay; the dense layers take 8 + 28.
    assert 1 - result["b"]["c"] == pytest.approx(45 / 126)
    custom = sparsity_distributions.erk(TREE, 0.5, custom_sparsity_map={("b", "d"): 0.1})
    assert custom["b"]["d"] == 0.1
    assert 1 - custom["b"]["c"] == pytest.approx((67 - 8) / 126)
    assert isinstance(sparsity_distributions.erk(flax.core.freeze(TREE), 0.5), flax.core.FrozenDict)


def test_layers_with_their_own_sparsity_need_no_balance():
    shapes = {"a": (2, 4), "b": (3, 7, 6)}
    own = {"a": 0.7, "b": 0.2}
    assert sparsity_distributions.get_sparsities_erdos_renyi(shapes, 0.1, own) == own
    assert "c" not in sparsity_distributions.get_sparsities_erdos_renyi(shapes, 0.1, {"c": 0.1})


@pytest.mark.parametrize("distribution", [sparsity_distributions.uniform, sparsity_distributions.erk])
@pytest.mark.parametrize("sparsity", [-0.1, 1.0, np.nan])
def test_a_sparsity_outside_the_range_is_refused(distribution, sparsity):
    with pytest.raises(ValueError, match=r"(?i)sparsity.* \[0, 1\)"):
        distribution(TREE, sparsity)
    with pytest.raises(ValueError, match=r"custom sparsity of b/d must lie in \[0, 1\)"):
        distribution(TREE, 0.5, custom_sparsity_map={("b", "d"): sparsity})


@pytest.mark.parametrize("distribution", [sparsity_distributions.uniform, sparsity_distributions.erk])
def test_a_filter_that_selects_nothing_is_refused(distribution):
    with pytest.raises(ValueError, match=r"selects none of the 4 parameters, such as a, b/c, b/d; give a filter_fn"):
        distribution(TREE, 0.5, filter_fn=filters.conv_kernels)
    with pytest.raises(ValueError, match=r"custom_sparsity_map names \('d',\), which is no parameter"):
        distribution(TREE, 0.5, custom_sparsity_map={("d",): 0.5})


def test_what_erk_cannot_do_is_said():
    with pytest.raises(ValueError, match="Single parameter is provided"):
        sparsity_distributions.erk(jnp.ones((2, 2)), 0.5)
    with pytest.raises(ValueError, match="Variable shape dictionary is empty"):
        sparsity_distributions.get_sparsities_erdos_renyi({}, 0.5)
    with pytest.raises(ValueError, match="may not be traced"):
        jax.vmap(lambda sparsity: sparsity_distributions.erk(TREE, sparsity))(jnp.array([0.1]))
    with pytest.raises(ValueError, match="one number, got an array of shape"):
        sparsity_distributions.uniform(TREE, jnp.array([0.1, 0.2]))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_densities_always_add_up(sparsity, rng):
    for _ in range(20):
        shapes = {name: tuple(rng.integers(1, 40, rng.integers(1, 5)).tolist()) for name in "abcdef"}
        result = sparsity_distributions.get_sparsities_erdos_renyi(shapes, sparsity)
        sizes = {name: np.prod(shape) for name, shape in shapes.items()}
        assert all(0 <= value < 1 for value in result.values())
        kept = sum(size - np.floor(sparsity * size) for size in sizes.values())
        assert sum(sizes[name] * (1 - result[name]) for name in shapes) == pytest.approx(kept)
