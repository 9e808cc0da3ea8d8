"""Which of many differences are real: p-values of a whole table, corrected for there being many."""

from typing import Any

from jaxprune.metrics._host import HostArray, as_real, namespace, refuse_on_host
from jaxprune.metrics._options import check_level, check_option


def adjust_p_values(p_values: Any, *, method: str = "holm") -> HostArray:
    """Returns p-values corrected for the number of them, in the shape given; compare each with the level wanted.

    `method="holm"` bounds the probability of even one false claim in the table (Holm 1979); `"benjamini_hochberg"` the
    expected fraction of false ones among the claims (Benjamini & Hochberg 1995), for independent or positively
    dependent tests. NaN (a comparison that could not be made) stays NaN and does not count.

    In NumPy float64, of arrays or lists; where a JAX array is given, traced or not, in JAX. Raises `ValueError` for an
    unknown method, and, of values that can be seen, for p-values outside [0, 1]. Elsewhere: statsmodels'
    `multipletests` is the same ("holm", "fdr_bh") but counts NaN, SciPy's `false_discovery_control` has no Holm.

    Bootstrap p-values are at least 2 / (num_samples + 1): for a table of m comparisons take num_samples well above
    2 m / level, or nothing can be found with "holm".

    >>> [round(p, 3) for p in adjust_p_values([0.01, 0.04, float("nan"), 0.03]).tolist()]
    [0.03, 0.06, nan, 0.06]
    >>> [round(p, 3) for p in adjust_p_values([0.01, 0.04, 0.03], method="benjamini_hochberg").tolist()]
    [0.03, 0.04, 0.04]
    """
    check_option("method", method, tuple(CORRECTIONS))
    xp = namespace(p_values)
    p_values = as_real("p_values", p_values, xp)
    refuse_on_host({"p_values": p_values})
    flat = p_values.ravel()
    order = xp.argsort(flat)  # NaN last
    ascending = flat[order]
    known = ~xp.isnan(ascending)
    adjusted = CORRECTIONS[method](ascending, known, xp)
    adjusted = xp.where(known, xp.minimum(adjusted, 1), xp.nan)
    return adjusted[xp.argsort(order)].reshape(p_values.shape)


def distinguishable(p_values: Any, *, method: str = "holm", level: float = 0.05) -> HostArray:
    """Returns which differences are distinguishable from zero at `level`, the multiplicity of the table handled.

    True where `adjust_p_values(p_values, method=method) <= level`; False for a NaN. Raises as `adjust_p_values`, and
    unless `level` is between 0 and 1.

    >>> distinguishable([0.01, 0.04, 0.03]).tolist()
    [True, False, False]
    """
    check_level(level)
    return adjust_p_values(p_values, method=method) <= level


def _holm(ascending: HostArray, known: HostArray, xp: Any) -> HostArray:
    remaining = known.sum() - xp.arange(ascending.size)
    return xp.maximum.accumulate(ascending * remaining)


def _benjamini_hochberg(ascending: HostArray, known: HostArray, xp: Any) -> HostArray:
    scaled = xp.where(known, ascending * known.sum() / (xp.arange(ascending.size) + 1), xp.inf)
    return xp.minimum.accumulate(scaled[::-1])[::-1]


CORRECTIONS = {"holm": _holm, "benjamini_hochberg": _benjamini_hochberg}
