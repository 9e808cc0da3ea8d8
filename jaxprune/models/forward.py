"""Forward passes: what a classifier's static part is.

All are called as `forward(params, batch_stats, x, train, key) -> (logits, batch_stats)`. In evaluation mode they return
the state that they were given; `forward.with_state`, where there is one, returns the state as the pass leaves it.
Here are those of functions, and those of any forward pass under the names of axes that it averages over.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class FunctionForward:
    """The forward pass of a function that takes the first `count` of (params, batch_stats, images, train, key).

    A function has no layers that could be told to compute in `dtype`: in evaluation mode its state is cast to it.
    """

    function: Callable
    count: int
    dtype: Any = None

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits, and the state: in evaluation mode the one given."""
        logits, state = self.with_state(params, batch_stats, x, train, key)
        return logits, state if train else batch_stats

    def with_state(self, params, batch_stats, x, train, key):
        """Returns the logits and the state that the function returned, or the one given if it returns none."""
        if self.dtype is not None and not train:
            batch_stats = cast(batch_stats, self.dtype)
        result = self.function(*(params, batch_stats, x, train, key)[: self.count])
        if not isinstance(result, tuple):
            return result, batch_stats
        logits, state = result
        if jax.tree.structure(state) != jax.tree.structure(batch_stats):
            raise ValueError(
                "apply returns another tree of batch_stats than it takes; (logits, batch_stats) are asked for"
            )
        return logits, state

    def module(self, params: PyTree, batch_stats: PyTree) -> None:
        """Returns None: there is no module."""
        del params, batch_stats

    def in_dtype(self, dtype) -> "FunctionForward":
        """Returns the forward pass whose state is cast to `dtype` in evaluation mode."""
        return dataclasses.replace(self, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class BoundAxes:
    """A forward pass whose layers average over axes of devices, such as `BatchNorm(axis_name="batch")`.

    Here a program computes the whole batch, whatever the number of devices, so each of these axes has one element.
    """

    forward: Any
    names: tuple[str, ...]

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the state."""
        return self._bound(self.forward, params, batch_stats, x, train, key)

    def with_state(self, params, batch_stats, x, train, key):
        """Returns the logits and the state as the pass leaves it."""
        forward = getattr(self.forward, "with_state", self.forward)
        return self._bound(forward, params, batch_stats, x, train, key)

    def _bound(self, forward, params, batch_stats, x, train, key):
        def function(*inputs):
            *inputs, key = inputs
            return forward(*inputs, train, key)

        for name in self.names:
            # Nothing is mapped over, so no operation changes; the results get the axis in front.
            function = jax.vmap(function, in_axes=None, out_axes=0, axis_size=1, axis_name=name)
        result = function(params, batch_stats, x, key)
        return jax.tree.map(lambda leaf: leaf[(0,) * len(self.names)], result)

    def module(self, params: PyTree, batch_stats: PyTree):
        """Returns the module with the given state."""
        return self.forward.module(params, batch_stats)

    def in_dtype(self, dtype) -> "BoundAxes":
        """Returns the forward pass whose layers compute in `dtype`."""
        return dataclasses.replace(self, forward=self.forward.in_dtype(dtype))

    def rebuilt(self, make: Callable, x) -> tuple["BoundAxes", PyTree, PyTree]:
        """Returns the forward pass of the module that `make` returns, and the shapes of its parameters and state."""
        forward, params, batch_stats = self.forward.rebuilt(make, x)
        return dataclasses.replace(self, forward=forward), params, batch_stats


def cast(tree: PyTree, dtype) -> PyTree:
    """Returns a pytree with its floating-point arrays in `dtype`."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)
