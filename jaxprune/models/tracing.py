"""What a forward pass does, read off its jaxpr: nothing is computed."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

_PRODUCTS = ("conv_general_dilated", "dot_general", "ragged_dot_general")
# More than one image, so that an output without an axis for them is seen.
IMAGES = 2


class Traced(NamedTuple):
    """What a forward pass does.

    Attributes:
      output: what takes the place of the logits, with shapes for arrays.
      product_types: the types that convolutions and matrix products compute in.
      changed: names of the state that is not the same afterwards, such as "['bn']['mean']".
    """

    output: Any
    product_types: frozenset[str]
    changed: tuple[str, ...]


def trace(forward, params: PyTree, batch_stats: PyTree, image_shape: tuple[int, int, int], *, train=False) -> Traced:
    """Returns what a forward pass does with images of `image_shape`, height, width and channels.

    The answer is kept: it depends on shapes and types only. Leaves may be shapes. Raises what the forward pass raises.
    """
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: (params, batch_stats)))
    return _traced(forward, structure, tuple(leaves), tuple(image_shape), train)


@functools.lru_cache(maxsize=256)
def _traced(forward, structure, leaves: tuple, image_shape: tuple[int, ...], train: bool) -> Traced:
    params, batch_stats = jax.tree.unflatten(structure, leaves)
    images = jax.ShapeDtypeStruct((IMAGES, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0)) if train else None
    run = getattr(forward, "with_state", forward)
    jaxpr, (output, state) = jax.make_jaxpr(
        lambda params, batch_stats, images, key: run(params, batch_stats, images, train, key), return_shape=True
    )(params, batch_stats, images, key)
    variables = iter(jaxpr.jaxpr.outvars[len(jax.tree.leaves(output)) :])
    given = dict(zip(_names((params, batch_stats)), jaxpr.jaxpr.invars, strict=False))
    after = {f"[1]{name}": next(variables) for name in _names(state)}
    changed = tuple(name[3:] for name, variable in after.items() if name in given and given[name] is not variable)
    return Traced(output, frozenset(_types_in(jaxpr.jaxpr)), changed)


def _names(tree: PyTree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _types_in(jaxpr) -> Iterator[str]:
    """Yields the types of the operands of all products in a jaxpr and in those inside it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in _PRODUCTS:
            yield from (str(atom.aval.dtype) for atom in equation.invars[:2])
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _types_in(inner)
