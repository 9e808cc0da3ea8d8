"""Checks of the static facts of arrays: ranks, shapes and dtypes.

They cost nothing at run time, since they run while JAX traces. What needs the values is in `_values.py`.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

Outputs = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
PerExample = Float[Array, " batch"]
Outcomes = Bool[Array, " batch"] | Float[Array, " batch"]  # what came true: bool, or a frequency
Scalar = Float[Array, ""]


def as_float(name: str, values: ArrayLike) -> Float[Array, "..."]:
    """Returns `values` as float32 (float64 stays), or raises `TypeError` when they are not real numbers."""
    if not hasattr(values, "shape") and not isinstance(values, int | float):
        raise TypeError(f"{name} must be an array, got {type(values).__name__}; use jnp.asarray({name})")
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, got dtype {values.dtype}")
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def as_outputs(outputs: ArrayLike) -> Outputs:
    """Returns classifier outputs `[batch, classes]` as floats; integers are taken for a mistake."""
    floats = as_float("outputs", outputs)
    if floats.ndim != 2 or floats.shape[1] < 2:
        raise ValueError(
            f"outputs must have the shape [batch, classes] with at least two classes, got {list(floats.shape)}; "
            "a single sigmoid output p of the shape [batch] becomes two columns by jnp.stack([1 - p, p], axis=1), "
            "or goes to binned_calibration_error(p, labels); a further leading axis is for jax.vmap"
        )
    if not jnp.issubdtype(jnp.asarray(outputs).dtype, jnp.floating):
        raise TypeError(
            f"outputs must be floating point probabilities or logits, got dtype {jnp.asarray(outputs).dtype}; "
            "the order of the arguments is (outputs, labels)"
        )
    return floats


def as_integers(name: str, values: ArrayLike, batch: int) -> Labels:
    """Returns class indices `[batch]` as int32."""
    if not hasattr(values, "shape"):
        raise TypeError(f"{name} must be an array, got {type(values).__name__}; use jnp.asarray({name})")
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be integer class indices, got dtype {values.dtype}; one-hot rows become indices by "
            f"{name}.argmax(axis=-1)"
        )
    if values.shape != (batch,):
        raise ValueError(
            f"{name} must have the shape [batch] = [{batch}], got {list(values.shape)}; one-hot rows become indices by "
            f"{name}.argmax(axis=-1)"
        )
    return values.astype(jnp.int32)


def as_weights(weights: ArrayLike | None, batch: int) -> PerExample | None:
    """Returns weights `[batch]` as floats, or None: every example counts once."""
    if weights is None:
        return None
    weights = as_float("weights", weights)
    if weights.shape != (batch,):
        raise ValueError(
            f"weights must have the shape [batch] = [{batch}], one number for each example, got {list(weights.shape)}"
        )
    return weights


def as_per_example(name: str, values: ArrayLike, batch: int | None = None) -> PerExample:
    """Returns one float for each example, `[batch]`."""
    values = as_float(name, values)
    if values.ndim != 1 or (batch is not None and values.shape != (batch,)):
        expected = "[batch]" if batch is None else f"[batch] = [{batch}]"
        raise ValueError(f"{name} must have the shape {expected}, got {list(values.shape)}")
    return values


def as_outcomes(correct: ArrayLike, batch: int) -> Outcomes:
    """Returns what came true, `[batch]`: booleans as they are, numbers as floats."""
    floats = as_per_example("correct", correct, batch)
    return jnp.asarray(correct) if jnp.asarray(correct).dtype == bool else floats
