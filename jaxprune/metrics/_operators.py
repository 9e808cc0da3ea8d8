"""What `+`, `*` and `repr` do for accumulators and results: they are tuples, but should not act as such."""

from typing import Any, NoReturn


def merge_sum(accumulator: Any, other: Any) -> Any:
    """Returns `accumulator.merge(other)`; adds to 0, so that `sum(parts)` works. Raises `TypeError` for other types."""
    if isinstance(other, int) and other == 0:
        return accumulator
    check_alike(accumulator, other)
    return accumulator.merge(other)


def check_alike(accumulator: Any, other: Any) -> None:
    """Raises `TypeError` unless both are accumulators of one type."""
    if type(other) is not type(accumulator):
        mine, theirs = type(accumulator).__name__, type(other).__name__
        raise TypeError(f"cannot merge {mine} with {theirs}; only accumulators of one type can be merged or added")


def refuse_product(accumulator: Any, other: Any) -> NoReturn:
    """Raises `TypeError`: a tuple would be repeated."""
    raise TypeError(
        f"{type(accumulator).__name__} cannot be multiplied by {type(other).__name__}; to count examples more than "
        "once, give weights to update"
    )


def refuse_arithmetic(result: Any, other: Any) -> NoReturn:
    """Raises `TypeError`: a tuple would be lengthened or repeated."""
    name = type(result).__name__
    raise TypeError(
        f"{name} is a result and cannot be added to or multiplied by {type(other).__name__}; its fields can: {name}."
        f"{result._fields[0]}, for instance, or jax.tree.map over all of them"
    )


def short_repr(result: Any) -> str:
    """Returns the fields by name: numbers as numbers, arrays by dtype and shape."""
    fields = (f"{name}={_short(value)}" for name, value in zip(result._fields, result, strict=True))
    return f"{type(result).__name__}({', '.join(fields)})"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_short(x)}" for name, x in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_short, value)) + ")"
    if not hasattr(value, "dtype"):
        return repr(value)
    try:
        return f"{value.item():.6g}"
    except (AttributeError, TypeError, ValueError):  # many numbers, or one that is not known yet
        return f"{value.dtype}{list(value.shape)}"
