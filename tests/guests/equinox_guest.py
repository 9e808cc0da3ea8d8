"""In the style of Equinox's examples: modules are pytrees of parameters that take one image [C, H, W], under `vmap`.

A few lines stand in for the library: `partition` and `combine` take a module's arrays out and put them in again, and
BatchNorm averages over the mapped axis by its name.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tests.guests.weights import drawn


def module(cls):
    """Makes a class a frozen dataclass and a pytree of all its fields, functions included."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def is_array(leaf):
    """Returns whether a leaf of a module is an array."""
    return isinstance(leaf, jax.Array)


def partition(tree):
    """Returns a module's arrays, and all else, with None for what the other has."""
    arrays = jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, tree)
    return arrays, jax.tree.map(lambda leaf: None if is_array(leaf) else leaf, tree)


def combine(arrays, static):
    """Returns the module of two parts."""
    return jax.tree.map(lambda a, b: b if a is None else a, arrays, static, is_leaf=lambda leaf: leaf is None)


@module
class Conv2d:
    """A 3 x 3 convolution; its bias is [C, 1, 1], as in Equinox."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return lax.conv_general_dilated(x[None], self.weight, (1, 1), "SAME")[0] + self.bias


@module
class BatchNorm:
    """Normalises by statistics over the mapped axis "batch" and the pixels."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x, state, inference):
        mean, variance = state["mean"], state["var"]
        if not inference:
            mean = lax.pmean(x.mean((1, 2)), "batch")
            variance = lax.pmean(((x - mean[:, None, None]) ** 2).mean((1, 2)), "batch")
            state = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * variance}
        scale = self.weight * lax.rsqrt(variance + 1e-5)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).astype(x.dtype), state


@module
class Linear:
    """A linear layer of one vector, weight [outputs, inputs]."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.weight @ x + self.bias


@module
class CNN:
    """A convolution, BatchNorm, an activation that is a field, pooling and a linear layer."""

    conv: Conv2d
    norm: BatchNorm
    activation: Callable
    linear: Linear

    def __call__(self, x, state, *, inference, key=None):
        x, state = self.norm(self.conv(x), state, inference)
        x = self.activation(x).mean((1, 2))
        if key is not None:
            x = x * jax.random.bernoulli(key, 0.9, x.shape) / 0.9
        return self.linear(x), state


def new():
    """Returns `apply` for `models.from_function`, parameters, state, and the library's logits of normalised images."""

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    parts = (Conv2d(shape(6, 3, 3, 3), shape(6, 1, 1)), BatchNorm(shape(6), shape(6)), Linear(shape(5, 6), shape(5)))
    (conv, norm, linear), state = drawn((parts, {"mean": shape(6), "var": shape(6)}))
    network = CNN(conv, norm, jax.nn.relu, linear)
    params, static = partition(network)

    def apply(params, state, images, train, key):
        model, images = combine(params, static), images.transpose(0, 3, 1, 2)
        keys = None if key is None else jax.random.split(key, len(images))

        def one(image, key):
            return model(image, state, inference=not train, key=key)

        axes = (0, None if keys is None else 0)
        logits, new_state = jax.vmap(one, in_axes=axes, out_axes=(0, None), axis_name="batch")(images, keys)
        return logits, new_state

    def library_logits(images):
        return jax.vmap(lambda image: network(image, state, inference=True)[0])(images.transpose(0, 3, 1, 2))

    return apply, params, state, jax.jit(library_logits)
