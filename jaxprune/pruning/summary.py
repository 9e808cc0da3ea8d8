"""What is left of a network: sparsities by parameter and in total."""

import jax
import jax.numpy as jnp

from jaxprune.pruning._selection import MAX_SIZE
from jaxprune.pruning._trees import flatten_named, show


def summarize_sparsity(param_tree, only_total_sparsity=False):
    """Returns {"path/of/parameter": fraction of zeros, ...} with the totals, as float32 scalars.

    The totals are `_total_sparsity`, `_nparams_nnz` (the weights that are not 0) and `_nparams`; alone when
    `only_total_sparsity`. Works under jit.

    >>> {name: value.item() for name, value in summarize_sparsity({"w": jnp.array([1.0, 0.0])}).items()}
    {'w': 0.5, '_total_sparsity': 0.5, '_nparams_nnz': 1.0, '_nparams': 2.0}
    """
    sizes = {show(names): jnp.size(leaf) for names, leaf in flatten_named(param_tree)}
    non_zeros = {show(names): jnp.count_nonzero(leaf) for names, leaf in flatten_named(param_tree)}
    summary = {} if only_total_sparsity else {name: _sparsity(non_zeros[name], sizes[name]) for name in sizes}
    size = sum(sizes.values())
    # Integers add exactly as long as they hold the total.
    count = sum(non_zeros.values()) if size <= MAX_SIZE else sum(map(jnp.float32, non_zeros.values()))
    summary["_total_sparsity"] = _sparsity(count, size)
    summary["_nparams_nnz"] = jnp.float32(count)
    summary["_nparams"] = jnp.float32(size)
    return summary


def _sparsity(non_zeros, size) -> jax.Array:
    return jnp.float32(size - non_zeros) / jnp.float32(size)
