"""Whether all numbers of a classifier are finite, asked of the numbers themselves.

The logits do not tell: on CPU, XLA's fusion of `mean(relu(x))` makes 0 of a NaN (jaxlib 0.10.2), and a ReLU makes 0 of
minus infinity everywhere. The arrays are looked at on the host: compiling a pass over all of them takes seconds for
every architecture, NumPy 1 to 10 ms.
"""

import functools
import weakref

import jax
import jax.numpy as jnp
import numpy as np

_PARTS = ("params", "batch_stats", "mean", "std", "temperature")
_known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def check_finite(classifier, where: str) -> None:
    """Raises a ValueError unless all parameters, statistics, mean, std and temperature of a classifier are finite.

    What cannot be looked at, the leaves of a classifier inside `jit` or those that are only shapes, passes.

    Args:
      classifier: a `Classifier`, or several of one kind stacked.
      where: what holds it, for the message, such as "classifier 'pruned'" or the path of a file.

    >>> from jaxprune import models
    >>> net = models.create("resnet8", num_classes=10, key=jax.random.key(0))
    >>> check_finite(net.replace(std=jnp.array([0.2, jnp.nan, 0.2])), "my network")
    Traceback (most recent call last):
    ValueError: my network is not finite: std holds 1 NaN and 0 infinities in 3 values; it is the result of a ...
    """
    found = first_non_finite(classifier)
    if found is not None:
        raise ValueError(
            f"{where} is not finite: {found}; it is the result of a training that diverged, or damaged: take an "
            f"earlier checkpoint, or train again with a lower learning rate"
        )


def first_non_finite(classifier) -> str | None:
    """Returns the first array that is not finite and how many of its values are not, in words; None if there is none.

    The words are like "params['conv']['kernel'] holds 1 NaN and 0 infinities in 432 values".
    """
    for part in _PARTS:
        leaves = jax.tree_util.tree_leaves_with_path(getattr(classifier, part))
        leaves = [(path, leaf) for path, leaf in leaves if _is_number(leaf)]
        for _, leaf in leaves:
            if isinstance(leaf, jax.Array):
                leaf.copy_to_host_async()
        for path, leaf in leaves:
            array = np.asarray(leaf)
            if not np.isfinite(array).all():
                nans, infinities = np.count_nonzero(np.isnan(array)), np.count_nonzero(np.isinf(array))
                name = part + jax.tree_util.keystr(path)
                return f"{name} holds {nans} NaN and {infinities} infinities in {array.size} values"
    return None


def is_finite(classifier) -> bool:
    """Returns whether `first_non_finite` finds nothing; looks at the arrays of one classifier once."""
    if classifier not in _known:
        _known[classifier] = first_non_finite(classifier) is None
    return _known[classifier]


def _is_number(leaf) -> bool:
    """Returns whether a leaf is floating-point and not only a shape or, inside `jit`, a tracer."""
    if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array | np.ndarray | np.generic | float):
        return False
    return _is_inexact(getattr(leaf, "dtype", float))


@functools.lru_cache
def _is_inexact(dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)
