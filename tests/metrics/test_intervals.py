import numpy as np
import pytest
import scipy.stats

from jaxprune import metrics


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_matches_scipy(level):
    correct, size = np.array([0, 1, 50, 8799, 10000, 10]), np.array([10, 10, 100, 10000, 10000, 10])
    low, high = metrics.wilson_interval(correct, size, level=level)
    for k in range(len(size)):
        expected = scipy.stats.binomtest(correct[k], size[k]).proportion_ci(level, method="wilson")
        np.testing.assert_allclose([low[k], high[k]], [expected.low, expected.high], atol=1e-6)


def test_wilson_of_nothing_is_nan():
    assert np.isnan(metrics.wilson_interval(0, 0)).all()


def test_the_level_is_a_probability():
    with pytest.raises(ValueError, match=r"level must be strictly between 0 and 1, for instance 0.95, got 95"):
        metrics.wilson_interval(1, 2, level=95.0)
