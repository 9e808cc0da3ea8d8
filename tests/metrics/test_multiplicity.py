"""Corrections for many comparisons against SciPy and the textbook definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprune import metrics


def holm(p):
    """Returns Holm's adjusted p-values, from the definition: max over j <= i of min(1, (m - j) p_j)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    for i, position in enumerate(order):
        adjusted[position] = min(1, max((len(p) - j) * p[order[j]] for j in range(i + 1)))
    return adjusted


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_p_values_match_the_definitions(seed):
    rng = np.random.default_rng(seed)
    p = (rng.random(12) ** 3).round(2)
    for method, expected in (("holm", holm(p)), ("benjamini_hochberg", scipy.stats.false_discovery_control(p))):
        np.testing.assert_allclose(metrics.adjust_p_values(p.tolist(), method=method), expected, rtol=1e-14)
        np.testing.assert_allclose(metrics.adjust_p_values(jnp.asarray(p), method=method), expected, atol=1e-6)
        traced = jax.jit(lambda p, method=method: metrics.adjust_p_values(p, method=method))(p)
        np.testing.assert_allclose(traced, expected, atol=1e-6)


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_a_table_of_none_or_nothing_known(method):
    assert metrics.adjust_p_values([], method=method).shape == (0,)
    assert np.isnan(metrics.adjust_p_values([np.nan, np.nan], method=method)).all()


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_what_could_not_be_measured_does_not_count(method):
    p = np.array([[0.01, np.nan, 0.04], [np.nan, 0.2, 0.03]], np.float32)
    adjusted = np.asarray(metrics.adjust_p_values(p, method=method))
    measured = ~np.isnan(p)
    np.testing.assert_array_equal(np.isnan(adjusted), ~measured)
    np.testing.assert_allclose(adjusted[measured], metrics.adjust_p_values(p[measured], method=method))
    found = metrics.distinguishable(p, method=method)
    np.testing.assert_array_equal(found, np.nan_to_num(adjusted, nan=1) <= 0.05)


def test_pure_noise_yields_few_claims(rng):
    claims = [bool(metrics.distinguishable(rng.random(40).astype(np.float32)).any()) for _ in range(300)]
    assert 0.01 < np.mean(claims) < 0.09, "Holm bounds this by 0.05"


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="method must be one of 'holm', 'benjamini_hochberg', got 'bonferroni'"):
        metrics.adjust_p_values(jnp.array([0.1]), method="bonferroni")
    with pytest.raises(ValueError, match="level must be strictly between 0 and 1"):
        metrics.distinguishable(jnp.array([0.1]), level=5.0)
