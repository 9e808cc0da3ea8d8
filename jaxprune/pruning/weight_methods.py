"""The masks of the methods that remove single weights, each `method(params, sparsity, filter_fn, key)`."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxprune.pruning import mask_calculator, sparsity_distributions, sparsity_types
from jaxprune.pruning._annotations import FilterFn, Key, Leaf, Masks, Params, Sparsity
from jaxprune.pruning._trees import Names, flatten_named, map_named
from jaxprune.pruning.algorithms import GlobalMagnitudePruning, LampPruning, MagnitudePruning, RandomPruning

Matrix = Shaped[Array, "inputs outputs"]
# In Flax's attention, these kernels are [inputs, heads, outputs]; any other of three axes has its outputs last.
_PROJECTIONS = ("query", "key", "value")
# Equinox and PyTorch name these, and put the outputs first.
_OUTPUTS_FIRST = ("weight", "weights")


def weight(params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None) -> Masks:
    """Returns masks by one threshold on |w| over all chosen kernels (Han et al. 2015, as in Liu et al. 2019)."""
    updater = GlobalMagnitudePruning(sparsity=sparsity, filter_fn=filter_fn, use_normalization=False)
    return updater.instant_sparsify(params)[1]


def weight_per_layer(params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None) -> Masks:
    """Returns masks by the smallest |w| of each chosen kernel, all at the same sparsity."""
    uniform = partial(sparsity_distributions.uniform, sparsity=sparsity, filter_fn=filter_fn)
    return MagnitudePruning(sparsity_distribution_fn=uniform).instant_sparsify(params)[1]


def weight_erk(params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None) -> Masks:
    """Returns masks by the smallest |w| of each chosen kernel, at Erdos-Renyi-Kernel sparsities (Evci et al. 2020)."""
    erk = partial(sparsity_distributions.erk, sparsity=sparsity, filter_fn=filter_fn)
    return MagnitudePruning(sparsity_distribution_fn=erk).instant_sparsify(params)[1]


def lamp(params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None) -> Masks:
    """Returns masks by one threshold on the layer-adaptive magnitudes of all chosen kernels (Lee et al. 2021)."""
    return LampPruning(sparsity=sparsity, filter_fn=filter_fn).instant_sparsify(params)[1]


def random(params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None) -> Masks:
    """Returns random masks of each chosen kernel, all at the same sparsity."""
    uniform = partial(sparsity_distributions.uniform, sparsity=sparsity, filter_fn=filter_fn)
    return RandomPruning(rng_seed=key, sparsity_distribution_fn=uniform).instant_sparsify(params)[1]


def n_of_m(
    params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None, *, pattern: sparsity_types.NByM
) -> Masks:
    """Returns masks that keep the largest n of every m weights that follow each other along a kernel's inputs.

    Along the inputs, since that is where sparse matrix units skip weights (Mishra et al. 2021). A kernel whose number
    of inputs (height x width x input channels) m does not divide is left out: its mask is None. `pattern.axis` does not
    count. Raises `ValueError` when that leaves none.
    """
    keep = partial(
        mask_calculator.topk_n_by_m_mask_calculator, sparsity=sparsity, sparsity_type=pattern._replace(axis=0)
    )
    requirement = f"a number of inputs that {pattern.m} divides"
    return _matrix_masks(params, filter_fn, lambda inputs, outputs: inputs % pattern.m == 0, keep, requirement)


def blocks(
    params: Params, sparsity: Sparsity, filter_fn: FilterFn, key: Key | None, *, pattern: sparsity_types.Block
) -> Masks:
    """Returns masks that remove the blocks of inputs x outputs with the smallest mean |w|, of each kernel its share.

    The kernel is taken as the matrix [height x width x input channels, output channels] that a convolution multiplies
    patches with (Narang et al. 2017). A kernel smaller than a block is left out: its mask is None. Raises `ValueError`
    when that leaves none.
    """
    height, width = pattern.block_shape
    keep = partial(mask_calculator.get_topk_fn(pattern), sparsity=sparsity)
    requirement = f"at least {height} inputs and {width} outputs"
    return _matrix_masks(
        params, filter_fn, lambda inputs, outputs: inputs >= height and outputs >= width, keep, requirement
    )


def _matrix_masks(
    params: Params,
    filter_fn: FilterFn,
    fits: Callable[[int, int], bool],
    keep: Callable[[Matrix], Matrix],
    requirement: str,
) -> Masks:
    """Returns `keep(|kernel| as a matrix)` for every chosen kernel whose matrix fits, and None elsewhere."""
    chosen = [names for names, leaf in flatten_named(params) if filter_fn(names, leaf)]
    sparsity_distributions.check_selection(params, chosen)

    def mask_of(names: Names, leaf: Leaf) -> Leaf | None:
        if names not in chosen or leaf.ndim < 2:
            return None
        magnitudes = _as_matrix(names, jnp.abs(leaf))
        return _from_matrix(names, keep(magnitudes), leaf.shape) if fits(*magnitudes.shape) else None

    masks = map_named(mask_of, params)
    if chosen and not jax.tree.leaves(masks):
        raise ValueError(
            f"none of the {len(chosen)} kernels that the filter selects has {requirement}; use a method without a "
            "pattern, such as weight"
        )
    return masks


def _order(names: Names, num_axes: int) -> tuple[int, ...]:
    """Returns the axes of a kernel in the order (positions, inputs, outputs)."""
    if names[-1].endswith(_OUTPUTS_FIRST) and num_axes > 1:
        return (*range(2, num_axes), 1, 0)
    return tuple(range(num_axes))


def _as_matrix(names: Names, kernel: Leaf) -> Matrix:
    """Returns a kernel as the matrix [inputs, outputs], input channels fastest within the inputs."""
    ordered = jnp.transpose(kernel, _order(names, kernel.ndim))
    if kernel.ndim == 3 and names[-2:-1] and names[-2] in _PROJECTIONS:
        return ordered.reshape(kernel.shape[0], -1)
    return ordered.reshape(-1, ordered.shape[-1])


def _from_matrix(names: Names, matrix: Matrix, shape: tuple[int, ...]) -> Leaf:
    """Returns the kernel of a shape whose matrix this is."""
    order = _order(names, len(shape))
    ordered = matrix.reshape([shape[axis] for axis in order])
    return jnp.transpose(ordered, [order.index(axis) for axis in range(len(shape))])
