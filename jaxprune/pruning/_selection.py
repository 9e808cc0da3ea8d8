"""The exact choice of the k largest entries of an array without sorting it.

A sort of 25 million numbers takes XLA about ten seconds on a CPU. Floats order like the integers of their bit patterns,
so the k-th largest is found by bisection over 32 bits: at most 32 passes that each only compare and count. The loop
stops as soon as a threshold separates exactly k entries, and one more pass cuts the entries that tie at it.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Num, UInt

MAX_SIZE = 2**31 - 1  # counts are int32
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}  # by bytes


def largest(scores: Num[Array, " size"] | Bool[Array, " size"], count: Int[Array, ""]) -> Bool[Array, " size"]:
    """Returns where the `count` largest scores are; among equal scores the lower index wins.

    The two zeros are equal, and NaN is lower than every number. `count` may be traced, in [1, size].

    >>> largest(jnp.array([2.0, 1.0, 2.0, 3.0, 2.0]), jnp.asarray(3)).astype(int).tolist()
    [1, 0, 1, 1, 0]
    """
    if scores.size > MAX_SIZE:
        raise ValueError(f"at most {MAX_SIZE} scores can be ranked together, got {scores.size}; prune leaf by leaf")
    if scores.size == 0:
        return jnp.zeros(0, bool)
    keys = ordered_keys(scores)
    count = count.astype(jnp.int32)
    threshold, reaching = _lowest_key_kept(keys, count)
    cut = _tie_cut(keys, threshold, count, reaching)
    return (keys > threshold) | ((keys == threshold) & (lax.iota(jnp.int32, scores.size) < cut))


def ordered_keys(scores: Num[Array, " size"] | Bool[Array, " size"]) -> UInt[Array, " size"]:
    """Returns unsigned integers in the order of the scores."""
    if scores.dtype == bool:
        return scores.astype(jnp.uint8)
    if jnp.issubdtype(scores.dtype, jnp.unsignedinteger):
        return scores
    is_float = jnp.issubdtype(scores.dtype, jnp.floating)
    if is_float:
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        scores = jnp.where(scores == 0, jnp.zeros_like(scores), scores)
    word = _WORDS[scores.dtype.itemsize]
    sign = jnp.array(1 << (8 * scores.dtype.itemsize - 1), word)
    bits = lax.bitcast_convert_type(scores, word)
    if not is_float:
        return bits ^ sign
    # Negative floats grow as their magnitude bits shrink; positive ones come above all of them.
    keys = jnp.where(bits >= sign, ~bits, bits | sign)
    return jnp.where(jnp.isnan(scores), jnp.zeros_like(keys), keys)


@jax.custom_batching.custom_vmap
def _lowest_key_kept(keys: UInt[Array, " size"], count: Int[Array, ""]) -> tuple[UInt[Array, ""], Int[Array, ""]]:
    """Returns a key that at least `count` keys reach and how many do: more than `count` only where keys tie at it."""
    return _bisect(keys, count)


@_lowest_key_kept.def_vmap
def _lowest_keys_kept(
    axis_size: int, in_batched: list[bool], keys: UInt[Array, "..."], count: Int[Array, "..."]
) -> tuple[tuple[UInt[Array, " batch"], Int[Array, " batch"]], tuple[bool, bool]]:
    keys_batched, count_batched = in_batched
    if count_batched and not keys_batched:
        # Many counts of the same keys: one sort (of integers, which XLA sorts fast) serves them all.
        ordered = lax.sort(keys, is_stable=False)
        threshold = ordered[keys.size - count]
        found = threshold, keys.size - jnp.searchsorted(ordered, threshold).astype(jnp.int32)
    else:
        axes = [0 if batched else None for batched in in_batched]
        found = jax.vmap(_bisect, in_axes=axes, axis_size=axis_size)(keys, count)
    return found, (True, True)


def _bisect(keys: UInt[Array, " size"], count: Int[Array, ""]) -> tuple[UInt[Array, ""], Int[Array, ""]]:
    def unsettled(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        low, high, reaching = state
        return (low < high) & (reaching > count)

    def halve(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, reaching = state
        middle = low + (high - low) // 2 + 1
        reaching_middle = jnp.sum(keys >= middle, dtype=jnp.int32)
        enough = reaching_middle >= count
        return (
            jnp.where(enough, middle, low),
            jnp.where(enough, high, middle - 1),
            jnp.where(enough, reaching_middle, reaching),
        )

    lowest, highest = jnp.min(keys), jnp.max(keys)
    # Under shard_map, the state of a loop must vary over the devices from the start as it does later.
    zero = 0 * (count + lowest.astype(jnp.int32))
    start = lowest + zero.astype(keys.dtype), highest + zero.astype(keys.dtype), zero + keys.size
    threshold, _, reaching = lax.while_loop(unsettled, halve, start)
    return threshold, reaching


def _tie_cut(
    keys: UInt[Array, " size"], threshold: UInt[Array, ""], count: Int[Array, ""], reaching: Int[Array, ""]
) -> Int[Array, ""]:
    """Returns the index before which the keys equal to the threshold are kept.

    One pass counts the ties of each of about sqrt(size) blocks; the cut is then looked for inside one block.
    """
    length = math.isqrt(keys.size) + 1
    padding = -keys.size % length
    blocks = jnp.pad(keys, (0, padding)).reshape(-1, length)
    ties = jnp.sum(blocks == threshold, axis=1, dtype=jnp.int32)
    # The padding comes last, so it is never reached; it only must not count among the ties that there are.
    above = reaching - (jnp.sum(ties) - jnp.where(threshold == 0, padding, 0))
    block = _prefix_reaching(ties, count - above) - 1
    before = jnp.sum(jnp.where(jnp.arange(ties.size) < block, ties, 0))
    inside = lax.dynamic_index_in_dim(blocks, block, keepdims=False) == threshold
    return block * length + _prefix_reaching(inside.astype(jnp.int32), count - above - before)


def _prefix_reaching(weights: Int[Array, " size"], wanted: Int[Array, ""]) -> Int[Array, ""]:
    """Returns the length, at least 1, of the shortest prefix whose sum reaches `wanted`."""

    def unsettled(bounds: tuple[Array, Array]) -> Bool[Array, ""]:
        return bounds[0] < bounds[1]

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        enough = jnp.sum(jnp.where(jnp.arange(weights.size) < middle, weights, 0)) >= wanted
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    zero = 0 * (wanted + weights[0])  # varies over the devices as the data do, see above
    return lax.while_loop(unsettled, halve, (zero + 1, zero + weights.size))[0]
