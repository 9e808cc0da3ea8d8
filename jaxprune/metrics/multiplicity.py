"""Which of many differences are real: p-values of a whole grid, corrected for there being many."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxprune.metrics._arguments import as_float, check_option
from jaxprune.metrics._checked import checked
from jaxprune.metrics.intervals import check_level

CORRECTIONS = ("holm", "benjamini_hochberg")


@checked(static_argnames="method")
def adjust_p_values(p_values: ArrayLike, *, method: str = "holm") -> Float[Array, "..."]:
    """Returns p-values corrected for the number of them, in the shape given; compare each with the level wanted.

    `method="holm"` bounds the probability of even one false claim in the grid (Holm 1979); `"benjamini_hochberg"` the
    expected fraction of false ones among the claims (Benjamini & Hochberg 1995), for independent or positively
    dependent tests. NaN (a comparison that could not be made) stays NaN and does not count.

    Raises `ValueError` for an unknown method, and, eagerly, for p-values outside [0, 1].

    Bootstrap p-values are at least 2 / (num_samples + 1): for a grid of m comparisons take num_samples well above
    2 m / level, or nothing can be found with "holm".

    >>> [round(p, 3) for p in adjust_p_values(jnp.array([0.01, 0.04, 0.03])).tolist()]
    [0.03, 0.06, 0.06]
    >>> [round(p, 3) for p in adjust_p_values(jnp.array([0.01, 0.04, 0.03]), method="benjamini_hochberg").tolist()]
    [0.03, 0.04, 0.04]
    """
    check_option("method", method, CORRECTIONS)
    p_values = as_float("p_values", p_values)
    flat = p_values.ravel()
    order = jnp.argsort(flat)  # NaN last
    ascending = flat[order]
    count = (~jnp.isnan(flat)).sum()
    rank = jnp.arange(flat.size)
    if method == "holm":
        adjusted = jax.lax.cummax(ascending * (count - rank))
    else:
        scaled = jnp.where(jnp.isnan(ascending), jnp.inf, ascending * count / (rank + 1))
        adjusted = jax.lax.cummin(scaled, reverse=True)
    adjusted = jnp.where(jnp.isnan(ascending), jnp.nan, jnp.minimum(adjusted, 1))
    return jnp.zeros_like(flat).at[order].set(adjusted).reshape(p_values.shape)


@checked(static_argnames=("method", "level"))
def distinguishable(p_values: ArrayLike, *, method: str = "holm", level: float = 0.05) -> Bool[Array, "..."]:
    """Returns which differences are distinguishable from zero at `level`, the multiplicity of the grid handled.

    True where `adjust_p_values(p_values, method=method) <= level`; False for a NaN.

    >>> distinguishable(jnp.array([0.01, 0.04, 0.03])).tolist()
    [True, False, False]
    """
    check_level(level)
    return adjust_p_values(p_values, method=method) <= level
