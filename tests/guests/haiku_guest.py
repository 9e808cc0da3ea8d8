"""In the style of Haiku's examples: a plain function that asks for its parameters by name, made pure by a transform.

A few lines stand in for the library: `transform_with_state` gives `init` and `apply(params, state, rng, *inputs)`, with
parameters as {module: {name: array}}.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tests.guests.weights import drawn


class Transformed(NamedTuple):
    """The two pure functions of a network."""

    init: object
    apply: object


_frames = []


def transform_with_state(function):
    """Returns the pure functions of one that asks for parameters, statistics and keys."""

    def run(params, state, rng, *inputs, is_new=False):
        _frames.append({"params": params, "state": {**state}, "rng": rng, "new": is_new})
        try:
            return function(*inputs), _frames[-1]["state"]
        finally:
            _frames.pop()

    def init(rng, *inputs):
        params = {}
        _, state = run(params, {}, rng, *inputs, is_new=True)
        return params, state

    return Transformed(init, run)


def next_rng_key():
    """Returns a new key."""
    frame = _frames[-1]
    frame["rng"], key = jax.random.split(frame["rng"])
    return key


def get_parameter(module, name, shape, init):
    """Returns a parameter; it is made where there is none."""
    frame = _frames[-1]
    if frame["new"]:
        frame["params"].setdefault(module, {})[name] = init(next_rng_key(), shape)
    return frame["params"][module][name]


def scaled(key, shape):
    """Returns initial weights of variance 1 / inputs."""
    return jax.random.normal(key, shape) / jnp.sqrt(jnp.prod(jnp.array(shape[:-1])))


def conv2d(x, channels, name):
    """Returns a 3 x 3 convolution."""
    w = get_parameter(name, "w", (3, 3, x.shape[-1], channels), scaled)
    return lax.conv_general_dilated(x, w.astype(x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def batch_norm(x, name, *, is_training, decay=0.9):
    """Returns the normalised input; keeps running averages."""
    scale = get_parameter(name, "scale", x.shape[-1:], lambda _, shape: jnp.ones(shape))
    offset = get_parameter(name, "offset", x.shape[-1:], lambda _, shape: jnp.zeros(shape))
    state = _frames[-1]["state"]
    old = state.setdefault(name, {"average": jnp.zeros(x.shape[-1]), "variance": jnp.ones(x.shape[-1])})
    mean, variance = old["average"], old["variance"]
    if is_training:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        new = {"average": mean, "variance": variance}
        state[name] = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old, new)
    rows = [leaf.astype(x.dtype)[None, None, None] for leaf in (mean, variance, scale, offset)]
    return (x - rows[0]) * lax.rsqrt(rows[1] + 1e-5) * rows[2] + rows[3]


def forward(images, is_training):
    """Returns logits of 5 classes."""
    x = images
    for index, channels in enumerate((4, 6)):
        x = conv2d(x, channels, f"conv_net/conv2_d_{index}")
        x = jax.nn.relu(batch_norm(x, f"conv_net/batch_norm_{index}", is_training=is_training))
    x = x.mean((1, 2))
    if is_training:
        x = x * jax.random.bernoulli(next_rng_key(), 0.9, x.shape) / 0.9
    return x @ get_parameter("conv_net/linear", "w", (x.shape[-1], 5), scaled).astype(x.dtype)


network = transform_with_state(forward)


def apply(params, state, images, train, key):
    """Returns (logits, state): Haiku's argument order turned into that of `models.from_function`."""
    return network.apply(params, state, key, images, train)


def new():
    """Returns the parameters, the state, and the logits of normalised images as the library computes them."""
    shapes = jax.eval_shape(lambda key: network.init(key, jnp.zeros((1, 8, 8, 3)), True), jax.random.key(0))
    params, state = drawn(shapes)
    return params, state, jax.jit(lambda images: network.apply(params, state, None, images, False)[0])
