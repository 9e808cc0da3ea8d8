"""What runs on the host in NumPy float64, and in a program where it is given JAX arrays. Imports no JAX by itself."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jaxprune.metrics._values import describe, findings

HostArray = Any  # NumPy float64, or a JAX array where one was given


def namespace(*values: Any) -> ModuleType:
    """Returns `jax.numpy` when one of the values is a JAX array, traced or not, else `numpy`."""
    for value in values:
        of_array = getattr(value, "__array_namespace__", None)
        if of_array is not None and of_array() is not np:
            return of_array()
    return np


def as_real(name: str, values: Any, xp: ModuleType) -> HostArray:
    """Returns numbers as float64 in NumPy, as float32 at least in JAX; raises `TypeError` for what is none."""
    if xp is not np:
        from jaxprune.metrics._arguments import as_float

        return as_float(name, values)
    array = np.asarray(values)
    if (not np.issubdtype(array.dtype, np.number) and array.dtype != bool) or np.iscomplexobj(array):
        raise TypeError(f"{name} must be real numbers, got an array of dtype {array.dtype}")
    return array.astype(np.float64)


def refuse_on_host(arguments: Mapping[str, Any], num_classes: int | None = None) -> None:
    """Raises `ValueError` for values that the arguments may not have; does nothing while JAX traces."""
    xp = namespace(*arguments.values())
    if xp is not np:
        import jax

        if any(isinstance(values, jax.core.Tracer) for values in arguments.values()):
            return
        arguments = jax.device_get(dict(arguments))
    arguments = {name: np.asarray(values) for name, values in arguments.items()}
    messages = [describe(f, arguments) for f in findings(arguments, num_classes) if np.any(f.bad)]
    if messages:
        raise ValueError("; ".join(messages))
