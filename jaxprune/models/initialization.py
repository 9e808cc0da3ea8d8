"""Initial weights of the architectures, from one stream of random numbers.

One draw for the whole network compiles once, in a fraction of a second; one draw per layer compiles once per shape.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random
from jaxtyping import Array, Key, PyTree

_THREEFRY, _THREEFRY_WORDS = "threefry2x32", 2
_LARGEST_SEED = 2**32 - 1


class UnusedRngs:
    """Stands in for `nnx.Rngs` in modules built for their shapes: every stream gives the same key.

    `nnx.Rngs` counts its keys in traced variables, which makes the tracing of a network quadratic in its depth.
    """

    def params(self) -> Key[Array, ""]:
        """Returns a key."""
        return jax.random.key(0)


def threefry_key(key: Any) -> Key[Array, ""]:
    """Returns the threefry key of a key of any generator, typed or raw.

    The four words of a fresh `rbg` key are those of the threefry key of the same seed, twice: then that key is the
    result. Otherwise all words are hashed.

    Raises:
      TypeError: anything but a key; ValueError: several keys.

    >>> jax.random.key_data(threefry_key(jax.random.key(7, impl="rbg"))).tolist()
    [0, 7]
    """
    is_typed = jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key)
    if not is_typed and getattr(key, "dtype", None) != jnp.uint32:
        raise TypeError(f"key is {type(key).__name__}, not a random key; pass jax.random.key(seed)")
    if key.ndim != (0 if is_typed else 1):
        raise ValueError(f"key has shape {list(key.shape)}; pass one key, such as jax.random.key(seed)")
    words = jax.random.key_data(key) if is_typed else jnp.asarray(key)
    if words.size > _THREEFRY_WORDS:
        first, second = words[:_THREEFRY_WORDS], words[_THREEFRY_WORDS : 2 * _THREEFRY_WORDS]
        words = jnp.where((first == second).all(), first, random.threefry_2x32(first, second))
    return jax.random.wrap_key_data(words, impl=_THREEFRY)


def seed_key(seed: int) -> Key[Array, ""]:
    """Returns the threefry key of a seed, whatever JAX's default generator is.

    Raises:
      ValueError: a seed outside 0 ... 2^32 - 1: JAX would take 2^32 for 0, and cannot take 2^70; TypeError: no integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed is {seed!r}; give an integer in 0 ... {_LARGEST_SEED}")
    if not 0 <= seed <= _LARGEST_SEED:
        raise ValueError(f"seed is {seed}; give an integer in 0 ... {_LARGEST_SEED}, each of which is another seed")
    return jax.random.key(int(seed), impl=_THREEFRY)


def initial_params(key: Key[Array, ""], shapes: PyTree, *, scale: float = 1.0) -> PyTree:
    """Returns parameters for a nested dict of shapes, by the name and rank of each leaf.

    The same key gives the same weights whatever JAX's defaults are: its generator, 64-bit types, the threefry setting.
    Convolution kernels [k, k, in, out]: normal, standard deviation sqrt(2 / (k * k * out)) (He et al. 2015; STUDY).
    Linear kernels [in, out]: normal, standard deviation sqrt(1 / in). BatchNorm scales: `scale`. Biases: 0.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    kernels = [leaf.size for path, leaf in leaves if path[-1].key == "kernel"]
    with jax.threefry_partitionable(True):  # the other setting draws other numbers
        stream = np.asarray(jax.random.normal(threefry_key(key), (sum(kernels),), jnp.float32))
    pieces = iter(np.split(stream, np.cumsum(kernels)[:-1]))
    return jax.tree_util.tree_unflatten(
        structure, [_leaf(path[-1].key, leaf.shape, pieces, scale) for path, leaf in leaves]
    )


def _leaf(name: str, shape: tuple[int, ...], pieces, scale: float) -> Array:
    if name != "kernel":
        return _constant(shape, scale if name == "scale" else 0.0)
    fan_out, fan_in = shape[-1] * np.prod(shape[:-2]), shape[0]
    sd = np.sqrt(2 / fan_out) if len(shape) == 4 else np.sqrt(1 / fan_in)
    return jnp.asarray(next(pieces).reshape(shape) * np.float32(sd))


def initial_batch_stats(shapes: PyTree) -> PyTree:
    """Returns BatchNorm's initial statistics: means 0, variances 1."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _constant(leaf.shape, 1.0 if path[-1].key == "var" else 0.0), shapes
    )


def _constant(shape: tuple[int, ...], value: float) -> Array:
    # Through NumPy: jnp.full compiles once per shape.
    return jnp.asarray(np.full(shape, value, np.float32))
