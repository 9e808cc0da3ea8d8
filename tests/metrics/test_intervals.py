"""Wilson's interval against SciPy, on the host in float64 and in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprune import metrics


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_matches_scipy(level):
    correct, size = np.array([0, 1, 50, 8799, 10000, 10]), np.array([10, 10, 100, 10000, 10000, 10])
    low, high = metrics.wilson_interval(correct, size, level=level)
    in_jax = metrics.wilson_interval(jnp.asarray(correct), size, level=level)
    traced = jax.jit(lambda c: metrics.wilson_interval(c, size, level=level))(correct)
    for k in range(len(size)):
        expected = scipy.stats.binomtest(correct[k], size[k]).proportion_ci(level, method="wilson")
        np.testing.assert_allclose([low[k], high[k]], [expected.low, expected.high], rtol=1e-12, atol=1e-15)
        for ends in (in_jax, traced):
            np.testing.assert_allclose([end[k] for end in ends], [expected.low, expected.high], atol=1e-6)
    assert low.dtype == np.float64
    assert in_jax[0].dtype == jnp.float32


def test_a_number_of_correct_ones_may_come_from_an_accuracy():
    accuracy = np.float32(0.3)
    low, high = metrics.wilson_interval(float(accuracy) * 10, 10)
    assert low < accuracy < high
    assert metrics.wilson_interval(np.float32(10.00001), 10)[1] == pytest.approx(1, abs=1e-5)


def test_wilson_of_nothing_is_nan():
    assert np.isnan(metrics.wilson_interval(0, 0)).all()


def test_the_level_is_a_probability():
    with pytest.raises(ValueError, match=r"level must be strictly between 0 and 1, for instance 0.95, got 95"):
        metrics.wilson_interval(1, 2, level=95.0)
