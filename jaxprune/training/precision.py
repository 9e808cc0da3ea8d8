"""The forward pass in a narrower type; parameters and statistics stay as they are."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxprune import models
from jaxprune.models.forward import NnxForward

COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class CastForward:
    """A classifier's forward pass in `dtype`: parameters and normalised images are cast on the way in.

    Gradients with respect to the parameters come back in the parameters' own type, through the cast. BatchNorm's
    statistics are computed in float32 by Flax whatever the type of its input, and keep their type here.
    """

    forward: Any
    dtype: str

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits in `dtype`, and the batch statistics in the types they came in."""
        logits, new_stats = self.forward(_cast(params, self.dtype), batch_stats, x.astype(self.dtype), train, key)
        return logits, jax.tree.map(lambda new, old: new.astype(old.dtype), new_stats, batch_stats)


def in_compute_dtype(classifier: models.Classifier, dtype: str) -> models.Classifier:
    """Returns the classifier with its forward pass in `dtype`, one of `COMPUTE_DTYPES`; "float32" changes nothing."""
    if dtype == "float32":
        return classifier
    forward = classifier.forward
    if isinstance(forward, NnxForward):
        shapes = jax.eval_shape(lambda: (classifier.params, classifier.batch_stats))
        forward = _with_dtype(forward.module(*shapes), dtype)
    return classifier.replace(forward=CastForward(forward, dtype))


def _with_dtype(module: nnx.Module, dtype: str) -> NnxForward:
    """Returns the forward pass of an NNX module whose layers compute in `dtype`, where they do not say otherwise.

    Without it BatchNorm would promote its output to the type of its running statistics, float32, and all that follows.
    """
    for _, layer in nnx.iter_graph(module):
        if isinstance(layer, nnx.Module) and getattr(layer, "dtype", "none of its own") is None:
            layer.dtype = jnp.dtype(dtype)
    return NnxForward(module)


def _cast(params, dtype: str):
    return jax.tree.map(lambda p: p.astype(dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p, params)
