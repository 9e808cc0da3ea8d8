"""McNemar's exact test against its definition in integers."""

import math
from fractions import Fraction

import numpy as np
import pytest

from jaxprune import metrics


def exact(gained, lost):
    """Returns the p-value from binomial coefficients, in fractions."""
    flips = gained + lost
    tail = sum(Fraction(math.comb(flips, i), 2**flips) for i in range(min(gained, lost) + 1))
    return float(min(Fraction(1), 2 * tail))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (3, 0), (2, 2), (1, 9), (12, 30), (400, 330)])
def test_the_p_value_is_the_binomials(gained, lost):
    first = np.repeat([True, False, True, False], [gained, lost, 50, 7])
    second = np.repeat([False, True, True, False], [gained, lost, 50, 7])
    found = metrics.mcnemar_test(first, second)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p_value == pytest.approx(exact(gained, lost), rel=1e-10)
    assert metrics.mcnemar_test(second, first) == (lost, gained, found.p_value)


def test_the_order_of_the_images_does_not_matter(rng):
    first, second = rng.random((2, 300)) < 0.7
    order = rng.permutation(300)
    assert metrics.mcnemar_test(first, second) == metrics.mcnemar_test(first[order], second[order])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.mcnemar_test(np.ones(3), np.ones(3, bool)),
            TypeError,
            "correct must be booleans, got dtype fl",
        ),
        (
            lambda: metrics.mcnemar_test([True], [True, False]),
            ValueError,
            r"got \[1\] and \[2\]; both models must have",
        ),
        (lambda: metrics.mcnemar_test(True, True), ValueError, r"one shape \[batch\], got \[\] and \[\]"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, error, message):
    with pytest.raises(error, match=message):
        call()
