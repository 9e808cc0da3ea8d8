"""The forward pass of NNX and Linen modules as a static, hashable function."""

import contextlib
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import PyTree

from jaxprune.models import cpu_convolution

# Names that Linen modules give their mode argument, and the value that means training.
LINEN_MODE_ARGUMENTS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


# What is replaced: JAX's own convolution, and ours, where a module has been through here before.
_CONVOLUTIONS = (
    lax.conv_general_dilated,
    cpu_convolution.training_convolution,
    cpu_convolution.evaluation_convolution,
)
# Whose layers compute in the type of the weights, and say so in tests.
_OWN_MODULES = "jaxprune.models."


class NnxForward:
    """The forward pass of an NNX module: its two static graphs, compared by value, hashed once.

    `is_own` says that the module is one of `MODELS`.
    """

    def __init__(self, module: nnx.Module):
        module = nnx.clone(module)
        self.is_own = type(module).__module__.startswith(_OWN_MODULES)
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
        self._hash = hash((self.train_graph, self.eval_graph))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            isinstance(other, NnxForward)
            and self._hash == other._hash
            and (self.train_graph, self.eval_graph) == (other.train_graph, other.eval_graph)
        )

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the module's other state."""
        del key  # NNX modules carry their own random streams, as part of batch_stats
        module = nnx.merge(self.train_graph if train else self.eval_graph, params, batch_stats)
        logits = module(x)
        if not train:
            return logits, batch_stats
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))

    def module(self, params: PyTree, batch_stats: PyTree) -> nnx.Module:
        """Returns the module, in evaluation mode, with the given state."""
        return nnx.merge(self.eval_graph, params, batch_stats)

    def in_dtype(self, dtype) -> "NnxForward":
        """Returns the forward pass whose layers compute in `dtype`."""
        module = nnx.merge(self.eval_graph, self._shapes)
        for _, layer in nnx.iter_modules(module):
            if _has_dtype(layer):
                layer.dtype = dtype
        return NnxForward(module)


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """The forward pass of a Linen module, whose mode argument is found by name.

    `train_value` is the value of that argument that means training. With `dtype` the layers compute in that type.
    """

    linen_module: nn.Module
    train_argument: str | None
    train_value: bool = True
    dtype: Any = None

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the other collections."""
        variables = {"params": params, **batch_stats}
        kwargs = {}
        if self.train_argument is not None:
            kwargs[self.train_argument] = self.train_value if train else not self.train_value
        with contextlib.nullcontext() if self.dtype is None else nn.intercept_methods(self._set_dtype):
            if not train:
                return self.linen_module.apply(variables, x, **kwargs), batch_stats
            rngs = None if key is None else {"dropout": key}
            return self.linen_module.apply(variables, x, **kwargs, rngs=rngs, mutable=list(batch_stats))

    def in_dtype(self, dtype) -> "LinenForward":
        """Returns the forward pass whose layers compute in `dtype`."""
        return dataclasses.replace(self, dtype=dtype)

    def _set_dtype(self, next_function, args, kwargs, context):
        """Lets a layer compute in `dtype`: called before every method of every bound module, which is a copy."""
        if _has_dtype(context.module):
            object.__setattr__(context.module, "dtype", self.dtype)  # Linen modules are frozen outside of setup
        return next_function(*args, **kwargs)

    def module(self, params: PyTree, batch_stats: PyTree) -> nn.Module:
        """Returns the Linen module, which holds no state."""
        del params, batch_stats
        return self.linen_module


def _has_dtype(layer) -> bool:
    """Returns whether a layer says in which floating-point type it computes, or says None, the type of its inputs."""
    dtype = getattr(layer, "dtype", "absent")
    if dtype is None:
        return True
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False


def _set(convolutions, function) -> None:
    for convolution in convolutions:
        convolution.conv_general_dilated = function
