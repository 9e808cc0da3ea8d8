"""Sums that do not lose float32 digits: exact integers inside a batch, pairs of floats between batches.

A float32 running sum of 10^6 equal confidences is wrong in the fourth digit, and its value depends on the order of the
rows. Here each number is cut into integers on a grid set by the largest magnitude, the integers are summed (exactly, in
any order), and the total is carried as an unevaluated pair `high + low` (Dekker 1971, Knuth's two-sum).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


class Grid(NamedTuple):
    """How numbers become integers: `limbs` of `bits` bits each, of which an int32 can add up `rows` rows."""

    limbs: int
    bits: int
    rows: int


FINE = Grid(limbs=3, bits=12, rows=1 << 18)  # 36 bits below the largest number
COARSE = Grid(limbs=1, bits=23, rows=1 << 7)  # a single pass: for confidences, which have no outliers
COARSE_SEGMENTS = 64  # a coarse sum keeps one integer for each segment and 128 rows
PACKED_ROWS = 1 << 14  # two counts of so many fit in one int32
GROUP = 1 << 14  # blocks whose halves an int32 can add: 2^14 * 2^16 = 2^30
LARGEST_COUNT = 2**31 - 1  # a count that would pass it stays there, and is refused when something is computed of it
MIN_EXPONENT = -100  # below it the grid itself would be subnormal


class Pair(NamedTuple):
    """The number `high + low`, where `low` is what `high` could not hold."""

    high: Float[Array, "..."]
    low: Float[Array, "..."]

    @property
    def value(self) -> Float[Array, "..."]:
        """The number, rounded once."""
        return self.high + self.low


def two_sum(first: Float[Array, "..."], second: Float[Array, "..."]) -> Pair:
    """Returns `first + second` exactly, as the rounded sum and its rounding error."""
    high = first + second
    rest = high - first
    return Pair(high, (first - (high - rest)) + (second - rest))


def add(first: Pair, second: Pair) -> Pair:
    """Returns the sum of two pairs, with a relative error of about 2^-46."""
    high = two_sum(first.high, second.high)
    low = two_sum(first.low, second.low)
    carried = two_sum(high.high, high.low + low.high)
    return two_sum(carried.high, carried.low + low.low)


def subtract(first: Pair, second: Pair) -> Pair:
    """Returns `first - second`."""
    return add(first, Pair(-second.high, -second.low))


def fold(pairs: Pair) -> Pair:
    """Returns the sum over the leading axis, by halves."""
    while pairs.high.shape[0] > 1:
        middle = pairs.high.shape[0] // 2
        halves = add(*(Pair(pairs.high[part], pairs.low[part]) for part in (slice(middle), slice(middle, 2 * middle))))
        rest = slice(2 * middle, None)
        pairs = Pair(*(jnp.concatenate([half, whole[rest]]) for half, whole in zip(halves, pairs, strict=True)))
    return Pair(pairs.high[0], pairs.low[0])


def psum(pair: Pair, axis_name: str | tuple[str, ...]) -> Pair:
    """Returns the sum of the devices' pairs. Every device learns all of them, so nothing is lost to float32."""
    size, position = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def gather(x):
        return jax.lax.psum(jnp.zeros((size, *x.shape), x.dtype).at[position].set(x), axis_name)

    return fold(Pair(gather(pair.high), gather(pair.low)))


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def segment_sum(values: Float[Array, " n"], index: Int[ArrayLike, " n"], num_segments: int, grid: Grid = FINE) -> Pair:
    """Returns the sum of the values of each segment, `[num_segments]`. One NaN or infinity makes every sum NaN."""
    blocks = max(1, -(-values.shape[0] // grid.rows))
    block = jnp.arange(values.shape[0]) // grid.rows
    limbs, scale = _limbs(values, grid)
    sums = [
        jax.ops.segment_sum(limb, index + block * num_segments, num_segments * blocks).reshape(blocks, num_segments)
        for limb in limbs
    ]
    return _evaluate(sums, scale, grid)


def count_segments(
    correct: Bool[Array, " n"], index: Int[Array, " n"], num_segments: int
) -> tuple[Int[Array, " segments"], Int[Array, " segments"]]:
    """Returns how many rows each segment has, and how many of them are correct: both in one pass, 16 bits each."""
    blocks = max(1, -(-index.shape[0] // PACKED_ROWS))
    block = jnp.arange(index.shape[0]) // PACKED_ROWS
    packed = jax.ops.segment_sum(
        (correct.astype(jnp.int32) << 16) + 1, index + block * num_segments, num_segments * blocks
    ).reshape(blocks, num_segments)
    return (packed & 0xFFFF).sum(axis=0), (packed >> 16).sum(axis=0)


@segment_sum.defjvp
def _segment_sum_jvp(num_segments, grid, primals, tangents):
    result = segment_sum(*primals, num_segments, grid)
    tangent = jax.ops.segment_sum(tangents[0], primals[1], num_segments)
    return result, Pair(tangent, jnp.zeros_like(tangent))


@jax.custom_jvp
def total(values: Float[Array, " n"]) -> Pair:
    """Returns the sum of all values; infinities and NaN give what a plain sum gives."""
    blocks = max(1, -(-values.shape[0] // FINE.rows))
    limbs, scale = _limbs(values, FINE)
    padding = -values.shape[0] % blocks
    sums = [jnp.pad(limb, (0, padding)).reshape(blocks, -1).sum(axis=1)[:, None] for limb in limbs]
    pair = Pair(*(part[0] for part in _evaluate(sums, scale, FINE)))
    plain = values.sum()
    return Pair(jnp.where(jnp.isfinite(plain), pair.high, plain), jnp.where(jnp.isfinite(plain), pair.low, 0))


@total.defjvp
def _total_jvp(primals, tangents):
    tangent = tangents[0].sum()
    return total(*primals), Pair(tangent, jnp.zeros_like(tangent))


def exactly(count: Int[Array, "*shape"]) -> Pair:
    """Returns an int32 as a pair."""
    high = count.astype(jnp.float32)
    return Pair(high, (count - high.astype(jnp.int32)).astype(jnp.float32))


def add_counts(first: Int[Array, "*shape"], second: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Returns the sum of two counts, or `LARGEST_COUNT` where int32 would wrap."""
    return jnp.where(first > LARGEST_COUNT - second, LARGEST_COUNT, first + second)


def psum_counts(count: Int[Array, "*shape"], axis_name: str | tuple[str, ...]) -> Int[Array, "*shape"]:
    """Returns the sum of the devices' counts, or `LARGEST_COUNT` where int32 would wrap."""
    low, high = jax.lax.psum((count & 0xFFFF, count >> 16), axis_name)
    high = high + (low >> 16)
    return jnp.where(high >= 1 << 15, LARGEST_COUNT, (high << 16) + (low & 0xFFFF))


def undefined_if_full(count: Int[Array, "..."], value: Float[Array, ""]) -> Float[Array, ""]:
    """Returns `value`, or NaN when a count has reached `LARGEST_COUNT`."""
    return jnp.where((count == LARGEST_COUNT).any(), jnp.nan, value)


def refuse_full(count: Int[Array, "..."]) -> None:
    """Raises `OverflowError` when a count has reached `LARGEST_COUNT`; does nothing while JAX traces."""
    if not isinstance(count, jax.core.Tracer) and (jax.device_get(count) == LARGEST_COUNT).any():
        raise OverflowError(
            f"a bin holds {LARGEST_COUNT} examples or more, the most that int32 can count; keep several accumulators "
            "and compute the error of each"
        )


def weighted_mean(values: Float[Array, " n"], weights: Float[Array, " n"] | None) -> Float[Array, ""]:
    """Returns the weighted mean; rows of weight zero do not count, whatever they hold; the mean of nothing is NaN."""
    if weights is None:
        return total(values).value / values.shape[0]
    return total(weighted(values, weights)).value / total(weights).value


def weighted(values: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns `weights * values`, with 0 where the weight is 0, even for a NaN."""
    return jnp.where(weights == 0, 0, weights * values)


def _limbs(values: Float[Array, " n"], grid: Grid) -> tuple[list[Int[Array, " n"]], Float[Array, ""]]:
    """Returns integers with `values = scale * sum_i limbs[i] / 2^(bits (i + 1))`; the scale is NaN unless all are."""
    largest = jnp.abs(values).max(initial=0)
    finite = jnp.isfinite(largest)
    mantissa, exponent = jnp.frexp(jnp.where(finite, largest, 1))
    exponent = jnp.maximum(jnp.where(mantissa == 0.5, exponent - 1, exponent), MIN_EXPONENT)
    scale = jnp.ldexp(jnp.ones_like(largest), exponent)
    fraction = jnp.where(finite, values / scale, 0)
    limbs = []
    for _ in range(grid.limbs):
        fraction = fraction * (1 << grid.bits)
        limb = jnp.round(fraction)
        fraction = fraction - limb
        limbs.append(limb.astype(jnp.int32))
    return limbs, jnp.where(finite, scale, jnp.nan)


def _evaluate(sums: list[Int[Array, "blocks segments"]], scale: Float[Array, ""], grid: Grid) -> Pair:
    """Returns the numbers that the sums of limbs stand for, added over the blocks."""
    parts, units = [], []
    for position, blocks in enumerate(sums):
        unit = 2.0 ** (-grid.bits * (position + 1))
        if blocks.shape[0] == 1:
            parts.append(blocks[0])
            units.append(unit)
        for start in range(0, blocks.shape[0] if blocks.shape[0] > 1 else 0, GROUP):
            group = blocks[start : start + GROUP]
            parts += [(group & 0xFFFF).sum(axis=0), (group >> 16).sum(axis=0)]
            units += [unit, unit * 2**16]
    high, low = exactly(jnp.stack(parts))
    unit = scale * np.array(units, np.float32)[:, None]
    return fold(Pair(high * unit, low * unit))
