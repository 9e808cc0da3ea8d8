"""The exact choice of the k largest, against a stable sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.pruning._selection import largest


def stable_sort_oracle(scores, count):
    """The first `count` of a stable descending sort; NaN last."""
    scores = np.asarray(scores, np.float64)
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
    # Stable among -inf and NaN too: NaN comes after every number.
    order = np.concatenate([order[~np.isnan(scores[order])], np.flatnonzero(np.isnan(scores))])
    kept = np.zeros(scores.size, bool)
    kept[order[:count]] = True
    return kept


SIZE = 257
CASES = {
    "distinct": lambda rng: rng.normal(size=SIZE).astype(np.float32),
    "many ties": lambda rng: rng.integers(0, 4, SIZE).astype(np.float32),
    "all equal": lambda rng: np.full(SIZE, 0.25, np.float32),
    "both zeros": lambda rng: np.where(rng.random(SIZE) < 0.5, -0.0, 0.0).astype(np.float32),
    "infinities": lambda rng: rng.choice(np.array([-np.inf, -1.0, 0.0, 1.0, np.inf], np.float32), SIZE),
    "nan": lambda rng: rng.choice(np.array([-np.inf, np.nan, 1.0, -2.0], np.float32), SIZE),
    "neighbouring floats": lambda rng: np.float32(1) + rng.integers(0, 9, SIZE) * np.float32(2**-23),
    "bfloat16": lambda rng: jnp.asarray(rng.normal(size=SIZE), jnp.bfloat16),
    "int32": lambda rng: rng.integers(-5, 5, SIZE).astype(np.int32),
    "uint8": lambda rng: rng.integers(0, 256, SIZE).astype(np.uint8),
    "bool": lambda rng: rng.random(SIZE) < 0.3,
}


@pytest.mark.parametrize("case", CASES)
def test_keeps_what_a_stable_sort_puts_first(case, rng):
    scores = jnp.asarray(CASES[case](rng))
    select = jax.jit(largest)
    for count in (1, 2, 100, 128, 256, 257):
        expected = stable_sort_oracle(scores.astype(jnp.float32) if scores.dtype == jnp.bfloat16 else scores, count)
        np.testing.assert_array_equal(select(scores, jnp.asarray(count)), expected, err_msg=f"{count} of {SIZE}")


def test_a_batch_of_counts_and_a_batch_of_scores_equal_the_loop(rng):
    scores = jnp.asarray(rng.integers(0, 50, (3, SIZE)).astype(np.float32))
    counts = jnp.array([1, 30, 200])
    expected = np.stack([stable_sort_oracle(row, int(count)) for row, count in zip(scores, counts, strict=True)])
    np.testing.assert_array_equal(jax.vmap(largest)(scores, counts), expected)
    expected = np.stack([stable_sort_oracle(scores[0], int(count)) for count in counts])
    np.testing.assert_array_equal(jax.vmap(largest, in_axes=(None, 0))(scores[0], counts), expected)


def test_sharded_scores_give_the_masks_of_one_device(rng):
    scores = jnp.asarray(rng.integers(0, 50, 256).astype(np.float32))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(scores, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x")))
    np.testing.assert_array_equal(jax.jit(largest)(spread, jnp.asarray(77)), stable_sort_oracle(scores, 77))


def test_shard_map_over_models_and_over_counts_gives_the_masks_of_one_device(rng):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    shards = jax.sharding.PartitionSpec("x")
    scores = jnp.asarray(rng.integers(0, 9, (8, 31)).astype(np.float32))
    counts = jnp.arange(3, 27, 3)

    def spread(function, *in_specs):
        return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=shards))

    expected = [stable_sort_oracle(row, 10) for row in scores]
    over_models = spread(lambda rows: largest(rows[0], jnp.asarray(10))[None], shards)
    np.testing.assert_array_equal(over_models(scores), expected)
    expected = [stable_sort_oracle(scores[0], int(count)) for count in counts]
    over_counts = spread(lambda own, row: jax.vmap(largest, (None, 0))(row, own), shards, jax.sharding.PartitionSpec())
    np.testing.assert_array_equal(over_counts(counts, scores[0]), expected)


def test_nothing_is_selected_from_nothing():
    assert largest(jnp.zeros(0), jnp.asarray(1)).shape == (0,)
