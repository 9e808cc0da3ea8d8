"""Parameter trees by name: every leaf has a tuple of strings, whatever container holds it.

Dicts, `FrozenDict`, `nnx.State`, lists, dataclasses and single arrays all give the same names for the same parameters,
so filters, custom sparsities and stored masks do not depend on the container. An `nnx.Variable` counts as its array.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Names = tuple[str, ...]

_BITS = 8  # of a byte

SINGLE_ARRAY: Names = ("kernel",)  # the name of a parameter that has no container


def names_of(key_path: tuple[Any, ...]) -> Names:
    """Returns the names along a key path of `jax.tree_util`."""
    return tuple(str(_entry(key)) for key in key_path)


def _entry(key: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key


def flatten_named(params: Any) -> list[tuple[Names, Any]]:
    """Returns (names, leaf) for every leaf, in the order of `jax.tree.leaves`.

    >>> flatten_named({"conv": [3.0, 4.0]})
    [(('conv', '0'), 3.0), (('conv', '1'), 4.0)]
    """
    named = []
    for path, node in jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_variable)[0]:
        if _is_variable(node):
            # The first key inside a variable is the attribute that holds its array: not a name of the user's.
            inside = jax.tree_util.tree_flatten_with_path(node)[0]
            named += [(names_of(path) + names_of(inner[1:]), leaf) for inner, leaf in inside]
        else:
            named.append((names_of(path) or SINGLE_ARRAY, node))
    return named


def map_named(function: Callable[[Names, Any], Any], params: Any) -> Any:
    """Returns a tree like `params` of `function(names, leaf)`; a None result is a None in the leaf's place."""
    results = [function(names, leaf) for names, leaf in flatten_named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), results)


def sorted_by_name(params: Any) -> list[tuple[Names, Any]]:
    """Returns (names, leaf) sorted by path; entries that are integers (list positions) sort as numbers."""
    named = flatten_named(params)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]

    def order(position: int) -> list[tuple[int, int, str]]:
        entries = [_entry(key) for key in paths[position]]
        return [(0, entry, "") if isinstance(entry, int) else (1, 0, str(entry)) for entry in entries]

    return [named[position] for position in sorted(range(len(named)), key=order)]


def flatten_entries(masks: Any) -> list[tuple[list[str | int], Any]]:
    """Returns (path, mask) for every mask, None included; integers of the path (list positions) stay integers."""
    flat = jax.tree_util.tree_flatten_with_path(masks, is_leaf=lambda node: node is None or _is_variable(node))[0]
    entries = []
    for path, node in flat:
        # A variable without an array has no leaves: its mask is None.
        mask = next(iter(jax.tree.leaves(node)), None) if _is_variable(node) else node
        keys = [_entry(key) for key in path]
        entries.append(([key if isinstance(key, int) else str(key) for key in keys], mask))
    return entries


def named_masks(masks: Any) -> dict[Names, Any]:
    """Returns {names: mask}, None masks included."""
    return {tuple(map(str, path)) or SINGLE_ARRAY: mask for path, mask in flatten_entries(masks)}


def align_masks(masks: Any, params: Any, *, packed: bool = False, check_values: bool = True) -> Any:
    """Returns `masks` in the container of `params`, found by name.

    `masks=None` stands for a tree of None. Raises `ValueError` naming the first parameter without a mask, the first
    mask without a parameter, or the first mask of another shape or with other values than 0 and 1. Masks that are
    `packed` have a bit per weight; the values of masks that were just made need no `check_values`.
    """
    if masks is None:
        return jax.tree.map(lambda _: None, params)
    named = named_masks(masks)
    parameters = dict(flatten_named(params))
    for names, parameter in parameters.items():
        if names not in named:
            raise ValueError(f"the masks have no entry for the parameter {show(names)}; {_CURE}")
        mask = named[names]
        if mask is not None:
            what = f"the packed mask of {show(names)}" if packed else f"the mask of {show(names)}"
            shape = packed_shape(parameter) if packed else jnp.shape(parameter)
            check_mask(mask, shape, what, check_values=check_values and not packed)
    for names, mask in named.items():
        if names not in parameters and mask is not None:
            raise ValueError(f"the masks have an entry {show(names)} that is no parameter; {_CURE}")
    return map_named(lambda names, _: named[names], params)


def packed_shape(parameter: Any) -> tuple[int]:
    """Returns the shape that `jnp.packbits` gives a parameter's mask."""
    return (-(-jnp.size(parameter) // _BITS),)


def check_mask(mask: Any, shape: tuple[int, ...], what: str = "the mask", *, check_values: bool = True) -> None:
    """Raises `ValueError` for a mask of another shape, or with other values than 0 and 1 where they are known.

    Inside jit they are not; of an array that other processes hold a part of, neither.
    """
    if jnp.shape(mask) != tuple(shape):
        raise ValueError(f"{what} has shape {jnp.shape(mask)}, its parameter {tuple(shape)}; {_CURE}")
    if not check_values or isinstance(mask, jax.core.Tracer | jax.ShapeDtypeStruct):
        return
    if not getattr(mask, "is_fully_addressable", True):
        return
    values = np.asarray(mask)
    others = values[(values != 0) & (values != 1)]
    if others.size:
        raise ValueError(
            f"{what} has other values than 0 and 1, such as {others.flat[0]}: 1 keeps a weight, 0 removes it; make it "
            "mask != 0, or unpack packed bits by pruning.base_updater.unpack_masks(masks, params)"
        )


_CURE = "masks belong to the parameters that they were made from: prune these parameters, or load the masks' own model"


def show(names: Names) -> str:
    """Returns the path as one word, for messages and tables."""
    return "/".join(names)


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
