"""Top-k functions of every sparsity type: exact counts, ties, edges, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.pruning import mask_calculator, sparsity_types
from jaxprune.pruning.sparsity_types import Block, Channel, NByM, Unstructured


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (8, 0.5, 4),
        (10, 0.0, 10),
        (10, 0.7, 3),
        (10, 0.99, 1),  # at least one stays
        (10, 1.0, 1),
        (5, 0.5, 2),  # 2.5 rounds to even
        (7, 0.5, 4),  # 3.5 rounds to even
        (1, 0.9, 1),
    ],
)
def test_number_kept(size, sparsity, kept):
    mask = mask_calculator.topk_mask_calculator(jnp.arange(size, dtype=jnp.float32), sparsity)
    assert mask.dtype == jnp.uint8
    assert int(mask.sum()) == kept
    assert int(mask[-kept:].sum()) == kept


def test_equal_scores_keep_the_lower_flat_index():
    scores = jnp.array([[1.0, 0.5, 2.0], [1.0, 1.0, 0.5]])
    np.testing.assert_array_equal(mask_calculator.topk_mask_calculator(scores, 0.5), [[1, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(mask_calculator.topk_mask_calculator(jnp.ones(8), 0.5), [1, 1, 1, 1, 0, 0, 0, 0])


def test_a_class_or_an_instance_selects_the_function():
    for sparsity_type in (Unstructured, Unstructured()):
        assert mask_calculator.get_topk_fn(sparsity_type) is mask_calculator.topk_mask_calculator
    with pytest.raises(ValueError, match=r"not a supported sparsity type; use Unstructured"):
        mask_calculator.get_topk_fn("nm_2,4")
    assert sparsity_types.is_sparsity_type(Channel())
    assert not sparsity_types.is_sparsity_type(Unstructured)


def n_by_m_oracle(scores, n, m, axis):
    scores = np.moveaxis(np.asarray(scores), axis, -1)
    groups = scores.reshape(-1, m)
    mask = np.zeros_like(groups, np.uint8)
    for row, group in enumerate(groups):
        mask[row, np.argsort(group, kind="stable")[m - n :]] = 1
    return np.moveaxis(mask.reshape(scores.shape), -1, axis)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (4, 4), (1, 2), (1, 1)])
def test_n_by_m_keeps_the_later_of_equal_scores(n, m, axis, rng):
    scores = rng.integers(-3, 3, (4, 8, 4)).astype(np.float32)
    mask = mask_calculator.get_topk_fn(NByM(n, m, axis))(scores, 0.3)
    np.testing.assert_array_equal(mask, n_by_m_oracle(scores, n, m, axis))
    assert int(mask.sum()) == scores.size * n // m


def test_n_by_m_prunes_nothing_at_sparsity_zero_even_when_traced():
    topk = mask_calculator.get_topk_fn(NByM(2, 4))
    masks = jax.vmap(lambda sparsity: topk(jnp.arange(8.0), sparsity))(jnp.array([0.0, 0.1, 0.9]))
    np.testing.assert_array_equal(masks, [[1] * 8, [0, 0, 1, 1] * 2, [0, 0, 1, 1] * 2])


@pytest.mark.parametrize(
    ("sparsity_type", "message"),
    [
        (NByM(4, 2), r"N\(4\) must be <= M\(2\)"),
        (NByM(0, 2), r"at least 1"),
        (NByM(2, 3), r"axis 1 of shape \(4, 8\) is not divisible by M = 3; choose another axis"),
        (NByM(2, 4, axis=2), r"axis 2 does not exist in an array of shape \(4, 8\)"),
        (Channel(-3), r"axis -3 does not exist"),
        (Block((5, 2)), r"a block of \(5, 2\) does not fit the first axes of shape \(4, 8\); choose a smaller"),
        (Block((0, 2)), r"does not fit"),
    ],
)
def test_a_type_that_does_not_fit_says_so(sparsity_type, message):
    with pytest.raises(ValueError, match=message):
        mask_calculator.get_topk_fn(sparsity_type)(jnp.ones((4, 8)), 0.5)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, np.nan])
def test_a_sparsity_outside_the_unit_interval_is_refused(sparsity):
    with pytest.raises(ValueError, match="one number in"):
        mask_calculator.topk_mask_calculator(jnp.ones(4), sparsity)


def block_oracle(scores, sparsity, height, width, pool):
    rows, columns = -(-scores.shape[0] // height), -(-scores.shape[1] // width)
    blocks = [
        (slice(r * height, (r + 1) * height), slice(c * width, (c + 1) * width))
        for r in range(rows)
        for c in range(columns)
    ]
    pooled = np.array([pool(scores[block]) for block in blocks])
    kept = max(1, round(len(blocks) * (1 - sparsity)))
    mask = np.zeros(scores.shape, np.uint8)
    for index in np.argsort(-pooled, kind="stable")[:kept]:
        mask[blocks[index]] = 1
    return mask


@pytest.mark.parametrize("use_avg_pooling", [True, False])
@pytest.mark.parametrize(
    ("shape", "block"), [((4, 8), (2, 4)), ((5, 7), (2, 3)), ((5, 5), (4, 4)), ((5, 7, 2, 3), (3, 2)), ((3, 3), (3, 3))]
)
def test_blocks_count_with_their_true_size(shape, block, use_avg_pooling, rng):
    scores = rng.normal(size=shape).astype(np.float32) - 2  # padding with zeros would win
    mask = mask_calculator.get_topk_fn(Block(block, use_avg_pooling))(scores, 0.4)
    expected = block_oracle(scores, 0.4, *block, np.mean if use_avg_pooling else np.max)
    np.testing.assert_array_equal(mask, expected)


def test_blocks_of_an_array_of_one_axis():
    scores = [0.69, 0.37, 0.96, 0.81, 0.79, 0.55, 0.88, 0.53]
    mask = mask_calculator.get_topk_fn(Block((4, 3)))(scores, sparsity=0.2)
    np.testing.assert_array_equal(mask, [0, 0, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("axis", [0, -1])
def test_channels_are_scored_by_their_sum(axis, rng):
    scores = rng.normal(size=(5, 3, 4)).astype(np.float32)
    mask = mask_calculator.get_topk_fn(Channel(axis))(scores, 0.5)
    totals = np.moveaxis(scores, axis, 0).reshape(scores.shape[axis], -1).sum(1)
    kept = np.argsort(-totals, kind="stable")[: round(len(totals) * 0.5)]
    expected = np.zeros(scores.shape, np.uint8)
    np.moveaxis(expected, axis, 0)[kept] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("sparsity_type", [Unstructured(), Block((2, 3)), NByM(2, 4), Channel(0)], ids=str)
def test_jit_equals_eager_and_a_batch_of_sparsities_equals_the_loop(sparsity_type, rng):
    scores = jnp.asarray(rng.integers(0, 6, (6, 8)).astype(np.float32))
    topk = mask_calculator.get_topk_fn(sparsity_type)
    sparsities = jnp.array([0.0, 0.3, 0.9])
    batched = jax.jit(jax.vmap(topk, in_axes=(None, 0)))(scores, sparsities)
    for sparsity, mask in zip(sparsities, batched, strict=True):
        np.testing.assert_array_equal(mask, topk(scores, float(sparsity)))
    np.testing.assert_array_equal(jax.jit(topk)(scores, 0.3), topk(scores, 0.3))


def test_a_new_sparsity_does_not_compile_again():
    topk = mask_calculator.topk_mask_calculator
    topk(jnp.ones(11), 0.1)
    compiled = mask_calculator._topk._cache_size()
    topk(jnp.ones(11), 0.2)
    topk(jnp.ones(11), jnp.float32(0.3))
    assert mask_calculator._topk._cache_size() == compiled
