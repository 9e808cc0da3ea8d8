"""Hash and equality of what is static in a forward pass: modules whose settings may be lists, dicts or dataclasses."""

import copy
import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp


def is_hashable(value: Any) -> bool:
    """Returns whether Python can hash a value."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def copied(setting: Any) -> Any:
    """Returns a setting whose lists, dicts, sets and dataclasses are copies; functions and modules stay the same.

    So a caller who changes a list later does not change a forward pass that is compiled already.
    """
    if is_hashable(setting) or isinstance(setting, nn.Module):
        return setting
    new = copy.copy(setting)
    if isinstance(new, list):
        new[:] = map(copied, new)
    elif isinstance(new, dict):
        new.update((name, copied(value)) for name, value in setting.items())
    elif dataclasses.is_dataclass(new):
        for field in dataclasses.fields(new):
            object.__setattr__(new, field.name, copied(getattr(new, field.name)))  # some are frozen
    return new


def coarse_hash(static: Any, *coarse: Any) -> int:
    """Returns the hash of something static, or that of what is coarser if it holds a list, a dict or the like."""
    return hash((static, *coarse) if is_hashable(static) else coarse)


def equal(one: Any, other: Any) -> bool:
    """Returns whether two static things are equal; those with arrays among their settings are not."""
    try:
        return one is other or bool(one == other)
    except ValueError:
        return False


def has_dtype(layer: Any) -> bool:
    """Returns whether a layer says in which floating-point type it computes, or says None, the type of its inputs."""
    dtype = getattr(layer, "dtype", "absent")
    if dtype is None:
        return True
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False
