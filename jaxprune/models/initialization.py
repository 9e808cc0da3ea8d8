"""Initial weights of the architectures, from one stream of random numbers.

One draw for the whole network compiles once, in a fraction of a second; one draw per layer compiles once per shape.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxprune.randomness import default_settings, threefry_key


class UnusedRngs:
    """Stands in for `nnx.Rngs` in modules built for their shapes: every stream gives the same key.

    `nnx.Rngs` counts its keys in traced variables, which makes the tracing of a network quadratic in its depth.
    """

    def params(self) -> Key[Array, ""]:
        """Returns a key."""
        return jax.random.key(0)


def initial_params(key: Key[Array, ""], shapes: PyTree, *, scale: float = 1.0) -> PyTree:
    """Returns parameters for a nested dict of shapes, by the name and rank of each leaf.

    The same key gives the same weights whatever JAX's defaults are: its generator, 64-bit types, the threefry setting.
    Convolution kernels [k, k, in, out]: normal, standard deviation sqrt(2 / (k * k * out)) (He et al. 2015; STUDY).
    Linear kernels [in, out]: normal, standard deviation sqrt(1 / in). BatchNorm scales: `scale`. Biases: 0.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    kernels = [leaf.size for path, leaf in leaves if path[-1].key == "kernel"]
    with default_settings():
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
