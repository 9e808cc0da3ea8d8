"""The original jaxpruner, where it is installed: an optional step, its updaters work wherever ours do.

It is on no package index; its repository is google-research/jaxpruner on GitHub, installed with pip's `git+` form.
It calls `jax.tree_map`, which JAX removed in 0.6; `load` gives the name back to JAX before importing it:

    jaxpruner = pruning.original.load()
    pruner = jaxpruner.MagnitudePruning(sparsity_distribution_fn=...)
    sparse, masks = pruning.prune(classifier, method=pruner)
    tx = pruning.pruned_optimizer(pruner, optax.sgd(0.1))
"""

import importlib
import importlib.util
import types

import jax


def is_installed() -> bool:
    """Returns whether the original library can be imported."""
    return importlib.util.find_spec("jaxpruner") is not None


def load() -> types.ModuleType:
    """Returns the module `jaxpruner`, with `jax.tree_map` restored; raises `ImportError` where it is not installed."""
    if not is_installed():
        raise ImportError(
            "the original jaxpruner is not installed; install it from its repository google-research/jaxpruner, or go "
            "on with jaxprune.pruning, which has the same names and masks"
        )
    restore_tree_map()
    return importlib.import_module("jaxpruner")


def restore_tree_map() -> None:
    """Gives JAX its former name `jax.tree_map` back, unless it has it."""
    if not hasattr(jax, "tree_map"):
        jax.tree_map = jax.tree.map
