"""Filters: which parameters are pruned. `filter_fn(names, array)` gets the path as strings and one model's array."""

from collections.abc import Callable

CONV_KERNEL_NDIM = 4  # height, width, in, out


def conv_kernels(names: tuple[str, ...], array) -> bool:
    """Returns whether this is the kernel of a 2-D convolution: what Mitra et al. 2024 prune.

    >>> import numpy as np
    >>> conv_kernels(("conv1", "kernel"), np.ones((3, 3, 16, 32)))
    True
    >>> conv_kernels(("linear", "kernel"), np.ones((64, 10)))
    False
    """
    return names[-1] == "kernel" and array.ndim == CONV_KERNEL_NDIM


def kernels(names: tuple[str, ...], array) -> bool:
    """Returns whether the parameter is named kernel: convolutions and linear layers, without biases and scales."""
    return names[-1] == "kernel"


def more_than_one_axis(names: tuple[str, ...], array) -> bool:
    """Returns whether the array has at least two axes: jaxpruner's default."""
    return array.ndim > 1


FILTERS: dict[str, Callable[..., bool]] = {
    "conv_kernels": conv_kernels,
    "kernels": kernels,
    "more_than_one_axis": more_than_one_axis,
}
