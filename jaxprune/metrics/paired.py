"""Do two models differ on the same images? Exact tests of what one has right and the other wrong."""

from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from jaxprune.metrics._operators import refuse_arithmetic


class McNemarTest(NamedTuple):
    """How many images one model alone has right, how many the reference alone, and how likely so uneven a split is."""

    gained: int
    lost: int
    p_value: float

    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


def mcnemar_test(correct: Any, reference_correct: Any) -> McNemarTest:
    r"""Returns McNemar's exact test of two models' correctness on the same images, `[batch]` of booleans each.

    Of the images that only one of them has right, each is as likely to have either, if the models are equally accurate:
    the two-sided p-value of that binomial distribution (McNemar 1947; exact as in Dietterich 1998)

    $$p = \min\left(1, 2 \sum_{i \le \min(b, c)} \binom{b + c}{i} 2^{-(b + c)}\right)$$

    of b images gained and c lost; 1 where there are none. On the host. Raises `ValueError` when the shapes differ or
    are not `[batch]`, `TypeError` for what is not boolean. Elsewhere: statsmodels' `mcnemar(table, exact=True)`; the
    chi-squared approximation, the default of some, is poor below some 25 of such images.

    >>> mcnemar_test([True, True, True, False], [False, False, True, False])
    McNemarTest(gained=2, lost=0, p_value=0.5)
    """
    first, second = (np.asarray(each) for each in (correct, reference_correct))
    for name, values in (("correct", first), ("reference_correct", second)):
        if values.dtype != bool:
            raise TypeError(f"{name} must be booleans, got dtype {values.dtype}; predictions == labels gives them")
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"correct and reference_correct must have one shape [batch], got {list(first.shape)} and "
            f"{list(second.shape)}; both models must have seen the same images"
        )
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return McNemarTest(gained, lost, float(p_value))
