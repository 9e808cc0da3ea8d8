"""Accuracy and negative log-likelihood on held-out images, after each epoch."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxprune import models
from jaxprune.devices import placement
from jaxprune.training import losses

# Images per forward pass on accelerators; CPUs take pieces that fit the cache.
BATCH_SIZE = 1000


@functools.partial(jax.jit, static_argnames=("micro_batch", "mesh", "stacked"))
def validate(
    classifier: models.Classifier, images, labels, *, micro_batch: int, mesh: Mesh | None, stacked: bool
) -> tuple[Array, Array]:
    """Returns accuracy and mean negative log-likelihood in nats, for each model of a stack; in evaluation mode."""

    def one(classifier):
        def piece(images_and_labels):
            if mesh is not None:
                rows = NamedSharding(mesh, PartitionSpec(placement.DATA_AXIS))
                images_and_labels = jax.lax.with_sharding_constraint(images_and_labels, rows)
            images, labels = images_and_labels
            logits, _ = classifier.apply(classifier.params, classifier.batch_stats, images)
            return logits.argmax(axis=-1) == labels, losses.cross_entropy(logits, labels)

        correct, nll = models.map_batch(piece, (images, labels), micro_batch)
        return jnp.mean(correct, dtype=jnp.float32), nll.mean()

    return (jax.vmap(one) if stacked else one)(classifier)
