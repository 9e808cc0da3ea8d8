"""The type that a forward pass computes in: the one policy of all rooms, and what a network does in truth.

- A network as it is given computes in the type of its own layers. `in_precision` changes that.
- In evaluation mode float32 means float32: `Classifier.apply` sets the highest matmul precision, without which a GPU
  multiplies in TensorFloat-32 and a TPU in bfloat16. Training leaves JAX's default, as everybody does.
- Logits are at least float32, whatever computed them, and so is all that follows.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprune.models.forward import cast
from jaxprune.models.tracing import trace

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class CastForward:
    """A forward pass in `dtype`: the layers compute in it, parameters and normalised images are cast on the way in.

    Gradients with respect to the parameters come back in the parameters' own type, through the cast. The other state,
    BatchNorm's statistics, keeps its type, and Flax computes it in float32 at least.
    """

    forward: Any
    dtype: str

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits in `dtype`, and the other state in the types it came in."""
        logits, new_stats = self.forward(cast(params, self.dtype), batch_stats, x.astype(self.dtype), train, key)
        return logits, jax.tree.map(_as_before, new_stats, batch_stats)

    def module(self, params: PyTree, batch_stats: PyTree):
        """Returns the module with the given state."""
        return self.forward.module(params, batch_stats)

    def rebuilt(self, make: Callable, x) -> tuple["CastForward", PyTree, PyTree]:
        """Returns the forward pass of the module that `make` returns, and the shapes of its parameters and state."""
        forward, params, batch_stats = self.forward.rebuilt(make, x)
        return _cast_forward(forward, self.dtype), params, batch_stats


def in_precision(classifier, precision: str | None):
    """Returns the classifier with its forward pass in another type; its parameters and statistics stay as they are.

    Every layer of an NNX or Linen module with an attribute `dtype` computes in that type, whatever it says itself:
    layers that say nothing compute in the widest type of their inputs, and one BatchNorm, whose statistics are float32,
    would take all that follows back to float32. What a module computes outside such layers follows its inputs; ask
    `precision_of` what came of it.

    Args:
      classifier: any.
      precision: "float32", "bfloat16", or None, which changes nothing.

    Raises:
      ValueError: another precision.

    >>> from jaxprune import models
    >>> net = models.create("resnet8", num_classes=10, key=jax.random.key(0))
    >>> precision_of(in_precision(net, "bfloat16"), (32, 32, 3))
    'bfloat16'
    """
    if precision is None:
        return classifier
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if _computes_by_construction_in(classifier) == precision:
        return classifier
    forward = classifier.forward.forward if isinstance(classifier.forward, CastForward) else classifier.forward
    return classifier.replace(forward=_cast_forward(forward, precision))


def precision_of(classifier, image_shape: tuple[int, int, int]) -> str:
    """Returns the type that a classifier's convolutions and matrix products compute in, in evaluation mode.

    Read off the traced forward pass: "float32", "bfloat16", or all types that occur, as in "bfloat16 and float32".
    Without a product it is the type of the logits. Nothing is computed.

    Args:
      classifier: any; its leaves may be shapes.
      image_shape: height, width and channels.
    """
    stated = _computes_by_construction_in(classifier)
    if stated is not None:
        return stated
    traced = trace(classifier.forward, classifier.params, classifier.batch_stats, image_shape)
    return " and ".join(sorted(traced.product_types or {str(traced.output.dtype)}))


def renamed(precision: str | None, compute_dtype: str | None) -> str | None:
    """Returns the precision that a call asks for, which may use the argument's old name.

    Raises:
      TypeError: both names are used.
    """
    if compute_dtype is None:
        return precision
    if precision is not None:
        raise TypeError(f"precision={precision!r} and compute_dtype={compute_dtype!r} are one argument; give precision")
    warnings.warn("compute_dtype is called precision now, and will go in a later release", FutureWarning, stacklevel=3)
    return compute_dtype


def _computes_by_construction_in(classifier) -> str | None:
    """Returns the one type of a network of `MODELS`; None for other people's, and for weights of another type."""
    forward = classifier.forward
    if isinstance(forward, CastForward):
        return forward.dtype if getattr(forward.forward, "is_own", False) else None
    leaves = jax.tree.leaves((classifier.params, classifier.batch_stats))
    is_plain = getattr(forward, "is_own", False) and all(leaf.dtype == jnp.float32 for leaf in leaves)
    return "float32" if is_plain else None


@functools.lru_cache(maxsize=256)
def _cast_forward(forward, precision: str) -> CastForward:
    # The same object for the same question, so that nothing is compiled or compared again.
    in_dtype = getattr(forward, "in_dtype", None)
    return CastForward(forward if in_dtype is None else in_dtype(jnp.dtype(precision)), precision)


def _as_before(new, old):
    return new if new.dtype == old.dtype else new.astype(old.dtype)
