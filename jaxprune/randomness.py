"""Keys of one generator, and draws that do not depend on JAX's settings."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random as extend_random
from jaxtyping import Array, Key

THREEFRY = "threefry2x32"
_THREEFRY_WORDS = 2
LARGEST_SEED = 2**32 - 1
# The words of an old-style key of threefry, and of rbg.
_RAW_KEY_WORDS = (2, 4)


@contextlib.contextmanager
def settings(*, partitionable: bool, generator: str, is_x64: bool) -> Iterator[None]:
    """Lets the block run under these settings of JAX."""
    with jax.threefry_partitionable(partitionable), jax.default_prng_impl(generator), jax.enable_x64(is_x64):
        yield


def default_settings() -> contextlib.AbstractContextManager:
    """Lets the block, or the decorated function, draw and compute as JAX does by default, whatever the user has set.

    `jax_threefry_partitionable` and `jax_default_prng_impl` choose other random numbers; `jax_enable_x64` draws, and
    computes, in 64 bits where no type is stated.
    """
    return settings(partitionable=True, generator=THREEFRY, is_x64=False)


def settings_here() -> dict[str, Any]:
    """Returns the arguments of `settings` that hold in this thread, for another one that goes on with its work."""
    return {
        "partitionable": jax.config.jax_threefry_partitionable,
        "generator": jax.config.jax_default_prng_impl,
        "is_x64": jax.config.jax_enable_x64,
    }


def threefry_key(key: Any) -> Key[Array, ""]:
    """Returns the threefry key of a key of any generator, typed or raw; a threefry key is returned as it is.

    The four words of a fresh `rbg` key are those of the threefry key of the same seed, twice: then that key is the
    result, so `jax.random.key(0)` gives the same numbers under either generator. Otherwise all words are hashed.

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
        raise ValueError(f"key has shape {key.shape}; pass one key, from which all others follow")
    words = jax.random.key_data(key) if typed else jnp.asarray(key)
    if words.size > _THREEFRY_WORDS:
        first, second = words[:_THREEFRY_WORDS], words[_THREEFRY_WORDS : 2 * _THREEFRY_WORDS]
        words = jnp.where((first == second).all(), first, extend_random.threefry_2x32(first, second))
    return jax.random.wrap_key_data(words, impl=THREEFRY)


def seed_key(seed: int) -> Key[Array, ""]:
    """Returns the threefry key of a seed, whatever JAX's default generator is.

    Raises:
      ValueError: a seed outside 0 ... 2^32 - 1: JAX would take 2^32 for 0, and cannot take 2^70; TypeError: no integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed is {seed!r}; give an integer in 0 ... {LARGEST_SEED}")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed is {seed}; give an integer in 0 ... {LARGEST_SEED}, each of which is another seed")
    return jax.random.key(int(seed), impl=THREEFRY)
