"""The compiled programs of an evaluation: corrupt a batch, classify a batch, summarise a test set."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from jaxprune import corruptions as corruption_room
from jaxprune import metrics, models
from jaxprune.devices import placement

_DATA = PartitionSpec(placement.DATA_AXIS)
_MODELS_AND_DATA = PartitionSpec(None, placement.DATA_AXIS)
_EVERYWHERE = PartitionSpec()


class Outputs(NamedTuple):
    """What is kept of the logits, each `[models, images, ...]`; `probs` only on request."""

    statistics: metrics.ExampleStatistics
    finite: Bool[Array, "models images"]
    probs: Float[Array, "models images classes"] | None


@functools.partial(jax.jit, static_argnames=("name", "textures", "mesh"))
def corrupt(key, images, first_index, severity, *, name: str, textures, mesh: Mesh) -> Array:
    """Returns a corrupted batch; its images lie where the clean ones do. `key` holds the words of a random key."""

    def local(key, images, first_index, severity):
        first_here = first_index + jax.lax.axis_index(placement.DATA_AXIS) * len(images)
        return corruption_room.corrupt(
            key, images, name=name, severity=severity, first_index=first_here, frost_textures=textures
        )

    specs = (_EVERYWHERE, _DATA, _EVERYWHERE, _EVERYWHERE)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=_DATA, check_vma=False)(
        key, images, first_index, severity
    )


@functools.partial(jax.jit, static_argnames=("mesh", "micro_batch", "keep_probs"))
def classify(
    classifier,
    images,
    labels,
    *,
    weights_finite: Bool[Array, "models"],
    mesh: Mesh,
    micro_batch: int,
    keep_probs: bool,
) -> Outputs:
    """Returns the outputs of one classifier, or of a stack of them, whose leaves have a leading axis of models.

    The logits of a classifier whose weights are not finite are NaN: XLA may lose a NaN on the way (`models.finite`).
    """

    def one(classifier, weights_finite, images, labels):
        def piece(images_and_labels):
            images, labels = images_and_labels
            logits, _ = classifier.apply(classifier.params, classifier.batch_stats, images)
            logits = jnp.where(weights_finite, logits.astype(jnp.float32), jnp.nan)
            statistics = metrics.example_statistics(logits, labels, from_logits=True)
            probs = jax.nn.softmax(logits) if keep_probs else None
            return Outputs(statistics, jnp.isfinite(logits).all(axis=-1), probs)

        return models.map_batch(piece, (images, labels), micro_batch)

    def local(classifier, weights_finite, images, labels):
        if classifier.mean.ndim == 1:  # one: without the vmap, which would make convolutions grouped
            return jax.tree.map(lambda leaf: leaf[None], one(classifier, weights_finite[0], images, labels))
        return jax.vmap(one, in_axes=(0, 0, None, None))(classifier, weights_finite, images, labels)

    specs = (_EVERYWHERE, _EVERYWHERE, _DATA, _DATA)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=_MODELS_AND_DATA, check_vma=False)(
        classifier, weights_finite, images, labels
    )


@functools.partial(jax.jit, static_argnames=("count", "keep_examples", "mesh"))
def summarize(
    parts: list[Outputs], *, count: int, keep_examples: bool, mesh: Mesh
) -> tuple[dict[str, Array], Outputs | None]:
    """Returns each metric `[models]` over the first `count` examples of the batches' outputs, and those on request.

    Every device gathers the statistics and sums them in the same order, so the sums do not depend on their number.
    """
    # Before the slice: XLA's partitioner cannot cut rows off an array that lies on several devices.
    parts = jax.lax.with_sharding_constraint(parts, NamedSharding(mesh, _EVERYWHERE))
    whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1)[:, :count], *parts)

    def one(outputs):
        summary = metrics.summarize_examples(outputs.statistics)
        num_correct = jnp.sum(outputs.statistics.correct, dtype=jnp.int32)
        low, high = metrics.wilson_interval(num_correct, count)
        interval = {"accuracy_low": low, "accuracy_high": high}
        counts = {"num_correct": num_correct, "num_finite": jnp.sum(outputs.finite, dtype=jnp.int32)}
        return summary | interval | counts

    summaries = jax.lax.map(one, whole._replace(probs=None))
    return summaries, whole if keep_examples else None
