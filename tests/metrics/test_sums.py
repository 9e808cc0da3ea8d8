"""Sums keep their digits at a million rows, whatever the order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.metrics import _sums

MILLION = 1_000_000
CASES = {
    "constant": lambda rng: np.full(MILLION, 0.95),
    "tiny and constant": lambda rng: np.full(MILLION, 1e-30),
    "uniform": lambda rng: rng.random(MILLION),
    "mixed signs and sizes": lambda rng: rng.normal(size=MILLION) * 10.0 ** rng.integers(-4, 3, MILLION),
    "one outlier": lambda rng: np.where(np.arange(MILLION) == 17, 88.0, 0.01),
}


@pytest.mark.parametrize("name", CASES)
def test_sums_of_a_million_float32(name, rng):
    values = CASES[name](rng).astype(np.float32)
    index = rng.integers(0, 3, MILLION).astype(np.int32)
    pair = jax.jit(_sums.total)(values)
    exact = values.astype(np.float64).sum()
    assert abs(float(pair.high) + float(pair.low) - exact) <= 1e-7 * np.abs(values).sum(dtype=np.float64)
    pairs = jax.jit(_sums.segment_sum, static_argnums=2)(values, index, 3)
    for segment in range(3):
        part = values[index == segment].astype(np.float64)
        actual = float(pairs.high[segment]) + float(pairs.low[segment])
        assert abs(actual - part.sum()) <= 1e-7 * np.abs(part).sum()


def test_the_order_of_rows_does_not_change_a_bit(rng):
    values = jnp.asarray(rng.normal(size=3000), jnp.float32)
    shuffled = values[rng.permutation(3000)]
    assert jax.tree.map(float, _sums.total(values)) == jax.tree.map(float, _sums.total(shuffled))


def test_pairs_keep_what_float32_drops():
    one, small = (_sums.Pair(jnp.float32(x), jnp.float32(0)) for x in (1.0, 2.0**-40))
    many = _sums.fold(_sums.Pair(jnp.full(1000, 2.0**-40), jnp.zeros(1000)))
    pair = jax.jit(_sums.add)(one, many)
    assert float(pair.high) - 1 + float(pair.low) == 1000 * 2.0**-40
    back = jax.jit(_sums.subtract)(_sums.add(one, small), one)
    assert back.value == 2.0**-40


def test_infinity_and_nan():
    assert _sums.total(jnp.array([1.0, jnp.inf])).value == jnp.inf
    assert jnp.isnan(_sums.total(jnp.array([1.0, jnp.nan])).value)
    assert jnp.isnan(_sums.segment_sum(jnp.array([1.0, jnp.nan]), jnp.array([0, 1]), 2).value).all()


def test_gradients_are_those_of_plain_sums(rng):
    values, index = rng.normal(size=5).astype(np.float32), np.array([0, 1, 0, 1, 1])
    gradient = jax.grad(lambda x: _sums.segment_sum(x**2, index, 2).value @ jnp.array([1.0, 3.0]))(values)
    np.testing.assert_allclose(gradient, 2 * values * np.array([1, 3, 1, 3, 3]), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: _sums.total(x**2).value)(values), 2 * values, rtol=1e-6)
