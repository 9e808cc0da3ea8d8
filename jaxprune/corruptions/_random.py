"""Random numbers of the corruptions: threefry whatever the default generator is, two words per block.

`jax.random.normal` and `jax.random.uniform` compute a whole threefry block (two words) for every number. A corruption
is bound by its random numbers on a CPU, so both words are used here: five times as many images per second.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as extend_random
from jaxtyping import Array, Float, Key, UInt32

_THREEFRY = "threefry2x32"
_THREEFRY_WORDS = 2
# The words of an old-style key of threefry, and of rbg.
_RAW_KEY_WORDS = (2, 4)


def threefry_key(key: Any) -> Key[Array, ""]:
    """Returns the threefry key of a key of any generator, typed or raw; a threefry key is returned as it is.

    The four words of a fresh `rbg` key are those of the threefry key of the same seed, twice: then that key is the
    result, so `jax.random.key(0)` gives the same pixels under either generator. Otherwise all words are hashed.

    Raises `TypeError` for anything but a key, such as a seed, and `ValueError` for several keys.

    >>> jax.random.key_data(threefry_key(jax.random.key(7, impl="rbg"))).tolist()
    [0, 7]
    """
    is_array = isinstance(key, jax.Array | np.ndarray)
    typed = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = is_array and key.dtype == jnp.uint32 and key.ndim > 0
    if not (typed or raw):
        found = f"an array of {key.dtype}" if is_array else type(key).__name__
        seed = key if isinstance(key, int) else 0
        raise TypeError(f"key is {found}, not a random key; pass jax.random.key({seed})")
    if key.ndim != (0 if typed else 1) or not (typed or key.size in _RAW_KEY_WORDS):
        raise ValueError(f"key has shape {key.shape}; pass one key: corrupt() derives one per image from it")
    words = jax.random.key_data(key) if typed else jnp.asarray(key)
    if words.size > _THREEFRY_WORDS:
        first, second = words[:_THREEFRY_WORDS], words[_THREEFRY_WORDS : 2 * _THREEFRY_WORDS]
        words = jnp.where((first == second).all(), first, extend_random.threefry_2x32(first, second))
    return jax.random.wrap_key_data(words, impl=_THREEFRY)


def bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Returns 32 random bits per element."""
    counts = lax.iota(jnp.uint32, math.prod(shape))
    return extend_random.threefry_2x32(jax.random.key_data(threefry_key(key)), counts).reshape(shape)


def uniform(key: Key[Array, ""], shape: tuple[int, ...], *, low: float = 0.0, high: float = 1.0) -> Float[Array, "..."]:
    """Returns numbers uniform in [low, high), on a grid of 2^-24 of that interval."""
    steps = (bits(key, shape) >> np.uint32(8)).astype(jnp.int32).astype(jnp.float32)
    return low + steps * np.float32((high - low) * 2.0**-24)


def normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Returns standard normal numbers, by the inverse of the error function at 2^23 points symmetric about zero."""
    odd = 2 * (bits(key, shape) >> np.uint32(9)).astype(jnp.int32) + (1 - 2**23)
    return np.float32(np.sqrt(2)) * lax.erf_inv(odd.astype(jnp.float32) * np.float32(2.0**-23))
