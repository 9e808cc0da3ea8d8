"""Compiled functions that look at the values of their arguments first, where there are values: in eager calls."""

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.metrics._values import CLASSES, NAMES, PER_EXAMPLE, describe, findings

SMALL = 1 << 16  # elements; up to here NumPy is quicker than a compiled program, also with the way from the device
INT32 = np.iinfo(np.int32)
KNOWN = jax.Array | np.ndarray | np.generic | int | float


def checked(*, static_argnames: str | Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Returns a decorator: `jax.jit` behind a look at the values, which costs about one pass over them.

    What it makes has the `lower`, `eval_shape`, `trace`, `clear_cache` and `_cache_size` of the compiled function, and
    `refuse`, the look alone. Inside of a transformation there are no values to see, and no look.
    """

    def decorate(function: Callable) -> Callable:
        compiled = jax.jit(function, static_argnames=static_argnames)
        signature = inspect.signature(function)

        def look(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
            bound = signature.bind(*args, **kwargs)
            bound.arguments.update(refuse_values(bound.arguments))
            return bound

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = look(*args, **kwargs)
            return compiled(*bound.args, **bound.kwargs)

        for name in ("lower", "eval_shape", "trace", "clear_cache", "_cache_size"):
            setattr(call, name, getattr(compiled, name))
        call.refuse = look
        return call

    return decorate


def refuse_arguments(function: Callable, *args: Any) -> None:
    """Raises what a metric, or a `functools.partial` of one, would for these values; ignores other functions."""
    keywords: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        args, keywords, function = (*function.args, *args), {**function.keywords, **keywords}, function.func
    if hasattr(function, "refuse"):
        function.refuse(*args, **keywords)


def refuse_values(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of foreign types as NumPy's; raises `ValueError` where values are wrong.

    What is large is looked at where it lies: NumPy's arrays by NumPy, JAX's by a compiled program. Raises `TypeError`
    for what is no array of numbers, or a `from_logits` that is no bool. Wrong shapes are left to the function itself,
    which refuses them under a transformation too.
    """
    from_logits = arguments.get("from_logits", False)
    if not isinstance(from_logits, bool | np.bool_):
        raise TypeError(f"from_logits must be True or False, got {from_logits!r}")
    arrays = {name: _numbers(name, arguments[name]) for name in NAMES if arguments.get(name) is not None}
    if "statistics" in arguments:
        arrays["confidence"] = arguments["statistics"].confidence
    if any(isinstance(values, jax.core.Tracer) for values in arrays.values()) or not _fit_together(arrays):
        return {}
    scores = arrays.get("outputs", arrays.get("logits"))
    num_classes = arguments.get("num_classes") if scores is None else scores.shape[1]
    num_classes = num_classes if isinstance(num_classes, int) and num_classes > 0 else None
    looked_at = {name: values for name, values in arrays.items() if name != "outputs" or not from_logits}
    with jax.ensure_compile_time_eval():
        if _belong_on_host(looked_at.values()):
            looked_at = jax.device_get(looked_at)
        else:
            looked_at = {name: _placed(name, values) for name, values in looked_at.items()}
        if _any_bad(looked_at, num_classes):
            _raise(looked_at, num_classes)
    return {name: arrays[name] for name in arrays.keys() & arguments if not isinstance(arguments[name], KNOWN)}


def _any_bad(arguments: dict[str, Any], num_classes: int | None) -> bool:
    if all(isinstance(values, np.ndarray) for values in arguments.values()):
        return any(finding.bad.any() for finding in findings(arguments, num_classes))
    return bool(jax.device_get(_any_bad_compiled(arguments, num_classes=num_classes)))


@functools.partial(jax.jit, static_argnames="num_classes")
def _any_bad_compiled(arguments, num_classes):
    return functools.reduce(operator.or_, (finding.bad.any() for finding in findings(arguments, num_classes)))


def _raise(arguments: dict[str, Any], num_classes: int | None) -> None:
    if not all(map(_is_here, arguments.values())):
        raise ValueError(
            f"some values of {', '.join(arguments)} are not allowed, and lie on other processes; each process can look "
            "at its own with metrics.check_inputs"
        )
    arguments = {name: np.asarray(values) for name, values in jax.device_get(arguments).items()}
    raise ValueError("; ".join(describe(f, arguments) for f in findings(arguments, num_classes) if f.bad.any()))


def _numbers(name: str, values: Any) -> Any:
    """Returns what has values as an array of NumPy or JAX; a traced one as it is."""
    if isinstance(values, jax.Array):
        return values
    if not hasattr(values, "shape") and not isinstance(values, int | float):
        raise TypeError(f"{name} must be an array, got {type(values).__name__}; use jnp.asarray({name})")
    array = np.asarray(values)
    if not jnp.issubdtype(array.dtype, np.number) and array.dtype != bool:
        cure = "; class names become indices by np.unique(names, return_inverse=True)" if name in CLASSES else ""
        raise TypeError(f"{name} must be numbers, got an array of dtype {array.dtype}{cure}")
    return array


def _fit_together(arrays: dict[str, Any]) -> bool:
    """Returns whether shapes and dtypes are such that values can be looked at."""
    rows = {values.shape[:1] for name, values in arrays.items() if name in PER_EXAMPLE}
    matrices, vectors, classes = (
        [arrays[name] for name in names if name in arrays]
        for names in (("outputs", "logits"), ("labels", "weights"), CLASSES)
    )
    return (
        (len(rows) <= 1 or not {"weights", "logits"} & arrays.keys())
        and all(
            values.ndim == 2 and values.shape[1] > 1 and jnp.issubdtype(values.dtype, np.floating)
            for values in matrices
        )
        and all(values.ndim == 1 for values in vectors)
        and all(jnp.issubdtype(values.dtype, np.integer) for values in classes)
        and not any(jnp.issubdtype(values.dtype, np.complexfloating) for values in arrays.values())
    )


def _belong_on_host(arrays: Collection[Any]) -> bool:
    largest = max(arrays, key=lambda values: values.size, default=np.zeros(0))
    return all(map(_is_here, arrays)) and (isinstance(largest, np.ndarray) or largest.size <= SMALL)


def _is_here(values: Any) -> bool:
    return not isinstance(values, jax.Array) or values.is_fully_addressable


def _placed(name: str, values: Any) -> jax.Array:
    """Returns the values on the device; class indices beyond int32 stay beyond all classes, and do not wrap."""
    if name in CLASSES and isinstance(values, np.ndarray) and values.dtype.itemsize > 4:
        values = values.clip(max(INT32.min, np.iinfo(values.dtype).min), INT32.max)
    return jnp.asarray(values)
