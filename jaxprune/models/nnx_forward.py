"""The forward pass of an NNX module as a static, hashable function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import PyTree

from jaxprune.models import cpu_convolution
from jaxprune.models.mode import RANDOM_STREAMS, called, mode_arguments, mode_values, takes_random_streams
from jaxprune.models.statics import coarse_hash, copied, equal, has_dtype, is_hashable

# What is replaced: JAX's own convolution, and ours, where a module has been through here before.
_CONVOLUTIONS = (
    lax.conv_general_dilated,
    cpu_convolution.training_convolution,
    cpu_convolution.evaluation_convolution,
)
# Whose layers compute in the type of the weights, as tests hold.
_OWN_MODULES = "jaxprune.models."


class NnxForward:
    """The forward pass of an NNX module: its two static graphs, one for each mode.

    `call(module, images, train)` says how the module is called; by default `module(images)`, with the mode arguments
    that its signature has. `is_own` says that the module is one of `MODELS`.
    """

    def __init__(self, module: nnx.Module, call: Callable | None = None):
        module = nnx.clone(module)
        for _, part in nnx.iter_modules(module):
            _copy_settings(part)
        self.call = call
        self.is_own = type(module).__module__.startswith(_OWN_MODULES)
        self.arguments = mode_arguments(type(module).__call__, name=type(module).__name__) if call is None else ()
        self.takes_streams = takes_random_streams(type(module).__call__)
        self._shapes = jax.eval_shape(lambda: nnx.state(module))
        convolutions = [
            part
            for _, part in nnx.iter_modules(module)
            if isinstance(part, nnx.Conv) and part.conv_general_dilated in _CONVOLUTIONS
        ]
        module.train()
        _set(convolutions, cpu_convolution.training_convolution)
        self.train_graph = nnx.graphdef(module)
        module.eval()
        _set(convolutions, cpu_convolution.evaluation_convolution)
        self.eval_graph = nnx.graphdef(module)
        self._hash = coarse_hash((self.train_graph, self.eval_graph), type(module), call)

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            isinstance(other, NnxForward)
            and self._hash == other._hash
            and self.call == other.call
            and equal((self.train_graph, self.eval_graph), (other.train_graph, other.eval_graph))
        )

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the module's other state."""
        logits, module = self._run(params, batch_stats, x, train, key)
        if not train:
            return logits, batch_stats
        return logits, _like(nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param))), batch_stats)

    def with_state(self, params, batch_stats, x, train, key):
        """Returns the logits and that part of the state that evaluation must leave alone."""
        logits, module = self._run(params, batch_stats, x, train, key)
        return logits, nnx.to_pure_dict(nnx.state(module, _rests_in_evaluation))

    def _run(self, params, batch_stats, x, train, key):
        module = nnx.merge(self.train_graph if train else self.eval_graph, params, batch_stats)
        if self.call is not None:
            return called(self.call, module, x, train, key), module
        # Most modules carry their own random streams, as part of batch_stats.
        streams = {RANDOM_STREAMS: None if key is None else nnx.Rngs(key)} if self.takes_streams else {}
        return module(x, **mode_values(self.arguments, train), **streams), module

    def module(self, params: PyTree, batch_stats: PyTree) -> nnx.Module:
        """Returns the module, in evaluation mode, with the given state."""
        return nnx.merge(self.eval_graph, params, batch_stats)

    def in_dtype(self, dtype) -> "NnxForward":
        """Returns the forward pass whose layers compute in `dtype`."""
        module = nnx.merge(self.eval_graph, self._shapes)
        for _, layer in nnx.iter_modules(module):
            if has_dtype(layer):
                layer.dtype = dtype
        return NnxForward(module, self.call)

    def rebuilt(self, make: Callable[[], nnx.Module], x) -> tuple["NnxForward", PyTree, PyTree]:
        """Returns the forward pass of the module that `make` returns, and the shapes of its parameters and state."""
        del x
        module = nnx.eval_shape(make)
        return NnxForward(module, self.call), *split_module(module)


def split_module(module: nnx.Module) -> tuple[PyTree, PyTree]:
    """Returns an NNX module's parameters and its other state as plain nested dicts."""
    _, params, other = nnx.split(module, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(other)


def _rests_in_evaluation(path, value) -> bool:
    """Returns whether a variable is one that only training changes: statistics and random streams, but no counters."""
    del path
    if isinstance(value, nnx.BatchStat | nnx.RngState):
        return True
    if isinstance(value, nnx.Param | nnx.Intermediate | nnx.Cache):
        return False
    leaf = value[...] if isinstance(value, nnx.Variable) else value
    return jnp.issubdtype(getattr(leaf, "dtype", None), jnp.floating)


def _like(new: PyTree, old: PyTree) -> PyTree:
    """Returns of a nested dict what `old` has: a training step may leave more, what the module recorded of itself."""
    return {name: _like(new[name], old[name]) for name in old} if isinstance(old, dict) else new


def _copy_settings(part: nnx.Module) -> None:
    """Gives a module copies of its settings that can change, such as lists."""
    for name, value in list(vars(part).items()):
        is_state = isinstance(value, nnx.Variable | nnx.Pytree | jax.Array | np.ndarray)
        if not name.startswith("_pytree__") and not is_state and not is_hashable(value):
            setattr(part, name, copied(value))


def _set(convolutions, function) -> None:
    for convolution in convolutions:
        convolution.conv_general_dilated = function
