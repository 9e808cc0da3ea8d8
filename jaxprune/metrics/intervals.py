"""Intervals that need no resampling."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import as_float
from jaxprune.metrics._checked import checked


@checked(static_argnames="level")
def wilson_interval(
    num_correct: ArrayLike, num_examples: ArrayLike, *, level: float = 0.95
) -> tuple[jax.Array, jax.Array]:
    r"""Returns the (low, high) ends of Wilson's score interval of an accuracy, in [0, 1], elementwise.

    $$\frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}$$

    Unlike p plus or minus z standard errors it stays in [0, 1] and keeps its coverage near 0 and 1 (Wilson 1927; Brown,
    Cai & DasGupta 2001). Raises `ValueError` unless `level` is between 0 and 1, and, eagerly, for negative numbers or
    more correct ones than there are. No examples give NaN.

    >>> low, high = wilson_interval(95, 100)
    >>> round(low.item(), 4), round(high.item(), 4)
    (0.8882, 0.9785)
    """
    check_level(level)
    successes, size = jnp.broadcast_arrays(as_float("num_correct", num_correct), as_float("num_examples", num_examples))
    p = successes / size
    z = jax.scipy.special.ndtri(0.5 + level / 2)
    centre = p + z**2 / (2 * size)
    radius = z * jnp.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    low, high = ((centre + sign * radius) / (1 + z**2 / size) for sign in (-1, 1))
    return jnp.where(successes == 0, 0 * p, low), jnp.where(successes == size, p, high)


def check_level(level: float) -> None:
    """Raises `ValueError` unless `level` is a probability strictly between 0 and 1."""
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"level must be strictly between 0 and 1, for instance 0.95, got {level!r}")
