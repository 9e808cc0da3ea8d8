"""The types in this room's annotations. The tests check every call against them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

Leaf = jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct | bool | int | float
Params = PyTree[Leaf]  # also gradients, updates and scores, which are like them
Masks = PyTree[Leaf]  # uint8, 1 = keep; None where nothing is pruned; packed, where it is said
Sparsities = PyTree[ArrayLike]  # one number per parameter, or None

# A number in [0, 1). What is none gets as far as the check that says so.
Sparsity = ArrayLike | Sequence | None
FilterFn = Callable[[tuple[str, ...], Any], bool]
TopkFn = Callable[[Any, Any], Any]
Key = jax.Array | np.ndarray


@runtime_checkable
class HasParams(Protocol):
    """A classifier that is only looked at."""

    params: Any


@runtime_checkable
class Replaceable(HasParams, Protocol):
    """A classifier that is made into another."""

    def replace(self, **changes: Any) -> Any:
        """Returns the classifier with other parameters."""


@runtime_checkable
class HasForward(Protocol):
    """A classifier whose forward pass is traced or measured."""

    params: Any
    batch_stats: Any
    mean: Any
    apply: Any


@runtime_checkable
class Group(Protocol):
    """Channels of a network that only go together, see `models.ChannelGroup`."""

    name: str
    width: int
    producers: Any
    batch_norms: Any
    consumers: Any


@runtime_checkable
class Updater(Protocol):
    """What prunes on its own: an updater of ours, or of the original jaxpruner."""

    use_packed_masks: bool

    def instant_sparsify(self, params: Any, grads: Any = None) -> Any:
        """Returns (pruned parameters, masks)."""

    def wrap_optax(self, inner: Any) -> Any:
        """Returns the optimiser that also prunes."""
