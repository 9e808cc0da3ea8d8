"""Sums that do not lose float32 digits: exact integer limbs inside a batch, pairs of floats between batches.

A float32 running sum of 10^6 equal confidences is wrong in the fourth digit, and its value depends on the order of the
rows. Here each number is cut into three 12-bit integers on a grid set by the largest magnitude, the integers are summed
(exactly, in any order), and the total is carried as an unevaluated pair `high + low` (Dekker 1971, Knuth's two-sum).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

LIMB_BITS = 12
LIMB_BASE = 1 << LIMB_BITS
NUM_LIMBS = 3
MAX_ROWS = 1 << 18  # rows whose limbs an int32 can add: 2^18 * 2^12 = 2^30
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


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def segment_sum(values: Float[Array, " n"], index: Int[ArrayLike, " n"], num_segments: int) -> Pair:
    """Returns the sum of the values of each segment, `[num_segments]`. One NaN or infinity makes every sum NaN."""
    size = values.shape[0]
    blocks = max(1, -(-size // MAX_ROWS))
    block = jnp.arange(size) // MAX_ROWS
    limbs, scale = _limbs(values)
    sums = [
        jax.ops.segment_sum(limb, index + block * num_segments, num_segments * blocks).reshape(blocks, num_segments)
        for limb in limbs
    ]
    return fold(_evaluate(sums, scale))


@segment_sum.defjvp
def _segment_sum_jvp(num_segments, primals, tangents):
    result = segment_sum(*primals, num_segments)
    tangent = jax.ops.segment_sum(tangents[0], primals[1], num_segments)
    return result, Pair(tangent, jnp.zeros_like(tangent))


@jax.custom_jvp
def total(values: Float[Array, " n"]) -> Pair:
    """Returns the sum of all values; infinities and NaN give what a plain sum gives."""
    blocks = max(1, -(-values.shape[0] // MAX_ROWS))
    limbs, scale = _limbs(values)
    rows = blocks * MAX_ROWS if blocks > 1 else values.shape[0]
    sums = [jnp.pad(limb, (0, rows - limb.shape[0])).reshape(blocks, -1 if rows else 0).sum(axis=1) for limb in limbs]
    pair = fold(_evaluate(sums, scale))
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


def weighted_mean(values: Float[Array, " n"], weights: Float[Array, " n"] | None) -> Float[Array, ""]:
    """Returns the weighted mean; rows of weight zero do not count, whatever they hold; the mean of nothing is NaN."""
    if weights is None:
        return total(values).value / values.shape[0]
    return total(weighted(values, weights)).value / total(weights).value


def weighted(values: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns `weights * values`, with 0 where the weight is 0, even for a NaN."""
    return jnp.where(weights == 0, 0, weights * values)


def _limbs(values: Float[Array, " n"]) -> tuple[list[Int[Array, " n"]], Float[Array, ""]]:
    """Returns integers with `values = scale * sum_i limbs[i] / 4096^(i + 1)`; the scale is NaN unless all are."""
    largest = jnp.abs(values).max(initial=0)
    finite = jnp.isfinite(largest)
    exponent = jnp.maximum(jnp.frexp(jnp.where(finite, largest, 1))[1], MIN_EXPONENT)
    scale = jnp.ldexp(jnp.ones_like(largest), exponent)
    fraction = jnp.where(finite, values / scale, 0)
    limbs = []
    for _ in range(NUM_LIMBS):
        fraction = fraction * LIMB_BASE
        limb = jnp.round(fraction)
        fraction = fraction - limb
        limbs.append(limb.astype(jnp.int32))
    return limbs, jnp.where(finite, scale, jnp.nan)


def _evaluate(sums: list[Int[Array, "*shape"]], scale: Float[Array, ""]) -> Pair:
    """Returns the number that sums of limbs stand for: carries first, so that each part is exact in float32."""
    high, middle, low = sums
    middle = middle + (low >> LIMB_BITS)
    high = high + (middle >> LIMB_BITS)
    rest = ((middle & (LIMB_BASE - 1)) << LIMB_BITS) | (low & (LIMB_BASE - 1))
    as_float = partial(jnp.asarray, dtype=scale.dtype)
    upper = two_sum(as_float(high >> LIMB_BITS) * LIMB_BASE, as_float(high & (LIMB_BASE - 1)))
    pair = two_sum(upper.high, upper.low + as_float(rest) / LIMB_BASE**2)
    unit = scale / LIMB_BASE
    return Pair(pair.high * unit, pair.low * unit)
