"""Weights drawn by NumPy: what the libraries' own initialisation takes to compile is longer than all tests."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def drawn(shapes):
    """Returns arrays for shapes: kernels that keep the scale of their inputs, and vectors around 1, none negative."""
    rng = np.random.default_rng(0)

    def one(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.zeros(leaf.shape, leaf.dtype)
        if len(leaf.shape) < 2:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32))
        return jnp.asarray((rng.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5).astype(np.float32))

    return jax.tree.map(one, shapes)


def built(make):
    """Returns the NNX module that `make` returns, with drawn weights."""
    graph, shapes = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graph, drawn(shapes))


def initial(module, **options):
    """Returns drawn variables of a Linen module for images of 8 x 8 pixels."""
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return drawn(jax.eval_shape(lambda key, x: module.init(key, x, **options), jax.random.key(0), images))
