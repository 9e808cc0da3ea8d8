"""Intervals that need no resampling."""

from typing import Any

import numpy as np
import scipy.special

from jaxprune.metrics._host import HostArray, as_real, namespace, refuse_on_host
from jaxprune.metrics._options import check_level


def wilson_interval(num_correct: Any, num_examples: Any, *, level: float = 0.95) -> tuple[HostArray, HostArray]:
    r"""Returns the (low, high) ends of Wilson's score interval of an accuracy, in [0, 1], elementwise.

    $$\frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}$$

    Unlike p plus or minus z standard errors it stays in [0, 1] and keeps its coverage near 0 and 1 (Wilson 1927; Brown,
    Cai & DasGupta 2001). In NumPy float64; where a JAX array is given, traced or not, in JAX. Raises `ValueError`
    unless `level` is between 0 and 1, and, of values that can be seen, for negative numbers or more correct ones than
    there are. No examples give NaN. Elsewhere: `binomtest(...).proportion_ci(method="wilson")` of SciPy is the same.

    >>> low, high = wilson_interval(95, 100)
    >>> round(low.item(), 4), round(high.item(), 4)
    (0.8882, 0.9785)
    """
    check_level(level)
    xp = namespace(num_correct, num_examples)
    successes, size = (
        as_real(name, values, xp) for name, values in (("num_correct", num_correct), ("num_examples", num_examples))
    )
    successes, size = xp.broadcast_arrays(successes, size)
    refuse_on_host({"num_correct": successes, "num_examples": size})
    z = _normal_quantile(0.5 + level / 2, xp)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = successes / size
        centre = p + z**2 / (2 * size)
        radius = z * xp.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
        low, high = ((centre + sign * radius) / (1 + z**2 / size) for sign in (-1, 1))
        return xp.where(successes == 0, 0 * p, low), xp.where(successes == size, p, high)


def _normal_quantile(level: float, xp: Any) -> HostArray:
    if xp is np:
        return scipy.special.ndtri(level)
    import jax

    # In float32 JAX's own differs in the last digit; rows that were written with it stay as they are.
    return jax.scipy.special.ndtri(level)
