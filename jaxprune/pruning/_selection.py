"""The exact choice of the k largest entries of an array without sorting it.

A sort of 25 million numbers takes XLA about ten seconds on a CPU. Floats order like the integers of their bit patterns,
so the k-th largest is found by bisection over 32 bits: at most 32 passes that each only compare and count. The loop
stops as soon as a threshold separates exactly k entries.
"""

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
    keys = ordered_keys(scores)
    threshold, reaching = _lowest_key_kept(keys, count)
    index = lax.iota(jnp.int32, scores.size)
    cut = _tie_cut(keys, index, threshold, count, reaching)
    return (keys > threshold) | ((keys == threshold) & (index < cut))


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


def _lowest_key_kept(keys: UInt[Array, " size"], count: Int[Array, ""]) -> tuple[UInt[Array, ""], Int[Array, ""]]:
    """Returns a key that at least `count` keys reach and how many do: more than `count` only where keys tie at it."""

    def unsettled(state):
        low, high, reaching = state
        return (low < high) & (reaching > count)

    def halve(state):
        low, high, reaching = state
        middle = low + (high - low) // 2 + 1
        reaching_middle = jnp.sum(keys >= middle, dtype=jnp.int32)
        enough = reaching_middle >= count
        return (
            jnp.where(enough, middle, low),
            jnp.where(enough, high, middle - 1),
            jnp.where(enough, reaching_middle, reaching),
        )

    lowest, highest = jnp.iinfo(keys.dtype).min, jnp.iinfo(keys.dtype).max
    start = jnp.array(lowest, keys.dtype), jnp.array(highest, keys.dtype), jnp.array(keys.size, jnp.int32)
    threshold, _, reaching = lax.while_loop(unsettled, halve, start)
    return threshold, reaching


def _tie_cut(
    keys: UInt[Array, " size"],
    index: Int[Array, " size"],
    threshold: UInt[Array, ""],
    count: Int[Array, ""],
    reaching: Int[Array, ""],
) -> Int[Array, ""]:
    """Returns the index before which the keys equal to the threshold are kept: all of them when none is too many."""
    wanted = count - jnp.sum(keys > threshold, dtype=jnp.int32)

    def unsettled(bounds):
        return bounds[0] < bounds[1]

    def halve(bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum((keys == threshold) & (index < middle), dtype=jnp.int32) >= wanted
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    size = jnp.array(keys.size, jnp.int32)
    cut, _ = lax.while_loop(unsettled, halve, (jnp.where(reaching > count, 0, size), size))
    return cut
