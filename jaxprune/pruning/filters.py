"""Filters: which parameters are pruned. `filter_fn(names, array)` gets the path as strings and one model's array."""

from collections.abc import Callable

from jaxprune.pruning._annotations import FilterFn, Leaf, Params
from jaxprune.pruning._trees import Names, flatten_named

CONV_KERNEL_NDIM = 4  # height, width, in, out; in Equinox and PyTorch out, in, height, width
KERNEL = "kernel"
# How a kernel's name ends: Flax; Equinox and PyTorch. Haiku's are the one letter.
_KERNEL_ENDINGS, _HAIKU_KERNEL = (KERNEL, "weight", "weights"), "w"
_BIAS_ENDING, _HAIKU_BIAS = "bias", "b"


def conv_kernels(names: Names, array: Leaf) -> bool:
    """Returns whether this is the kernel of a 2-D convolution: what Mitra et al. 2024 prune.

    A kernel is called kernel, weight or w, as in Flax, Equinox and Haiku.

    >>> import numpy as np
    >>> conv_kernels(("conv1", "kernel"), np.ones((3, 3, 16, 32)))
    True
    >>> conv_kernels(("linear", "kernel"), np.ones((64, 10)))
    False
    """
    return _is_named_kernel(names) and array.ndim == CONV_KERNEL_NDIM


def kernels(names: Names, array: Leaf) -> bool:
    """Returns whether this is the kernel of a convolution, linear or attention layer, of any of the libraries.

    What is named kernel always is; what is named weight or w is if it has at least two axes, and is no scale of a
    channel, of shape [channels, 1, 1].

    >>> import numpy as np
    >>> kernels(("attention", "query", "kernel"), np.ones((64, 4, 16))), kernels(("norm", "weight"), np.ones(64))
    (True, False)
    """
    if names[-1] == KERNEL:
        return True
    return _is_named_kernel(names) and array.ndim > 1 and not (array.ndim == 3 and _is_vector(array))


def more_than_one_axis(names: Names, array: Leaf) -> bool:
    """Returns whether the array has at least two axes: jaxpruner's default.

    A bias of shape [channels, 1, 1], as Equinox keeps it, has one that counts: false, other than in jaxpruner.
    """
    return array.ndim > 1 and not (_is_named_bias(names) and _is_vector(array))


def named_kernel(names: Names, array: Leaf) -> bool:
    """Returns whether the parameter is named kernel, whatever its axes: jaxpruner's `KERNEL_FILTER_FN`."""
    return names[-1] == KERNEL


FILTERS: dict[str, Callable[..., bool]] = {
    "conv_kernels": conv_kernels,
    "kernels": kernels,
    "more_than_one_axis": more_than_one_axis,
}


def find_filter(filter_fn: str | FilterFn) -> FilterFn:
    """Returns the filter of a name in `FILTERS`, or the function as it is; raises `ValueError` for another name."""
    if callable(filter_fn):
        return filter_fn
    if filter_fn not in FILTERS:
        raise ValueError(
            f"unknown filter_fn {filter_fn!r}; give one of {', '.join(FILTERS)}, or a function of (names, array)"
        )
    return FILTERS[filter_fn]


def selected_share(params: Params, filter_fn: str | FilterFn) -> float:
    """Returns the fraction of all weights that a filter selects, in [0, 1]; 0 where there are none.

    >>> import numpy as np
    >>> selected_share({"linear": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}, "kernels")
    0.75
    """
    chosen, named = find_filter(filter_fn), flatten_named(params)
    selected = sum(array.size for names, array in named if chosen(names, array))
    return selected / max(1, sum(array.size for _, array in named))


def advice(params: Params) -> str:
    """Returns which filter to give for these parameters, as a message says it.

    >>> import numpy as np
    >>> advice({"linear": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}})
    'give a filter_fn, such as filter_fn="kernels" (--filter-fn kernels), which selects 75 % of all weights'
    """
    shares = {name: selected_share(params, filter_fn) for name, filter_fn in FILTERS.items()}
    # Embeddings and other tables have two axes too: what knows the names goes first where it finds most of the weights.
    best = "kernels" if shares["kernels"] >= max(shares.values()) / 2 else max(shares, key=shares.get)
    if not shares[best]:
        return f"give a filter_fn(names, array) that is true for some; none of {', '.join(FILTERS)} is"
    return (
        f'give a filter_fn, such as filter_fn="{best}" (--filter-fn {best}), which selects '
        f"{100 * shares[best]:.3g} % of all weights"
    )


def _is_named_kernel(names: Names) -> bool:
    return bool(names) and (names[-1].endswith(_KERNEL_ENDINGS) or names[-1] == _HAIKU_KERNEL)


def _is_named_bias(names: Names) -> bool:
    return bool(names) and (names[-1].endswith(_BIAS_ENDING) or names[-1] == _HAIKU_BIAS)


def _is_vector(array: Leaf) -> bool:
    return all(length == 1 for length in array.shape[1:])
