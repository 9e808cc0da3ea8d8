"""Hash and equality of what is static in a forward pass: modules whose settings may be lists, dicts or dataclasses."""

import jax.numpy as jnp


def is_hashable(value) -> bool:
    """Returns whether Python can hash a value."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def coarse_hash(static, *coarse) -> int:
    """Returns the hash of something static, or that of what is coarser if it holds a list, a dict or the like."""
    return hash((static, *coarse) if is_hashable(static) else coarse)


def equal(one, other) -> bool:
    """Returns whether two static things are equal; those with arrays among their settings are not."""
    try:
        return one is other or bool(one == other)
    except ValueError:
        return False


def has_dtype(layer) -> bool:
    """Returns whether a layer says in which floating-point type it computes, or says None, the type of its inputs."""
    dtype = getattr(layer, "dtype", "absent")
    if dtype is None:
        return True
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False
