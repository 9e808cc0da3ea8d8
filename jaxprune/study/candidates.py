"""The networks of a study as they are evaluated: what pruning leaves of the dense one, stage by stage."""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import checkpoints, metrics, models, pruning, training
from jaxprune.data import Dataset
from jaxprune.study.configuration import (
    CONTROLS,
    DENSE,
    GRANULARITY_CHANNELS,
    STAGE_DENSE,
    STAGE_FINE_TUNED,
    STAGE_PRUNED,
    STAGE_RECALIBRATED,
    STAGE_SCRATCH,
    STAGE_TEMPERATURE,
    ArmConfig,
    ModelConfig,
    Network,
    StudyConfig,
    granularity,
    stage_names,
)

# Training images for a criterion that needs some.
_CRITERION_IMAGES = 256


class Candidate(NamedTuple):
    """A network as it is evaluated; `sparsity_achieved` is the fraction of weights or channels that its method took."""

    classifier: models.Classifier
    masks: Any
    sparsity_achieved: float


class Trained(NamedTuple):
    """The results of a network's trainings; None where the study does not train that."""

    fine_tuned: models.Classifier
    scratch: models.Classifier | None = None


def key_of(seed: int, purpose: str) -> jax.Array:
    """Returns the key of everything random that serves one purpose."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(purpose.encode()))


def initial(model: ModelConfig, train: Dataset, seed: int) -> models.Classifier:
    """Returns the network that an arm starts with: imported, or with random weights.

    Raises:
      ValueError: a file or folder that holds another network than `model` says.
    """
    known = {
        "name": model.name,
        "num_classes": train.num_classes,
        "mean": model.mean or train.mean,
        "std": model.std or train.std,
        **model.options(),
    }
    if model.checkpoint is None:
        return models.create(key=key_of(seed, "init"), initial_scale=model.initial_scale, **known)
    found = checkpoints.load(model.checkpoint, known.pop("name"), **known).classifier
    if (found.name, found.num_classes) != (model.name, train.num_classes):
        raise ValueError(
            f"{model.checkpoint} holds a {found.name} of {found.num_classes} classes; the configuration says "
            f"{model.name}, and the data set has {train.num_classes} classes"
        )
    return found


def removed(network: Network, arm: ArmConfig, dense: models.Classifier, train: Dataset) -> Candidate:
    """Returns a network of the plan before fine-tuning; physically smaller where channels go."""
    if network.method == DENSE:
        return Candidate(dense, None, 0.0)
    needs = pruning.METHODS[network.method].needs
    options = {"method": network.method, "sparsity": network.sparsity}
    if "key" in needs:
        options["key"] = key_of(network.seed, "masks")
    if network.method == CONTROLS[GRANULARITY_CHANNELS]:
        # From the layers of the method that it is the control of: a fraction of other layers is another size.
        others = [each for each in arm.methods if each != network.method and granularity(each) == GRANULARITY_CHANNELS]
        options["layers"] = pruning.default_layers(dense, others[0]) if others else None
    if "images" in needs:
        batch = spread(train, _CRITERION_IMAGES)
        options |= {"images": batch.images, "labels": batch.labels}
    sparse, masks = pruning.prune(dense, **options)
    if granularity(network.method) == GRANULARITY_CHANNELS:
        return Candidate(pruning.compact(sparse, masks), None, _fraction_removed(masks, only="scale"))
    return Candidate(sparse, masks, _fraction_removed(masks))


def from_scratch(network: Network, model: ModelConfig, start: Candidate) -> models.Classifier:
    """Returns a pruned network with other random weights: the same widths, or under the same masks."""
    small = start.classifier
    fresh = models.create(
        small.name,
        num_classes=small.num_classes,
        key=key_of(network.seed, "scratch"),
        mean=np.asarray(small.mean),
        std=np.asarray(small.std),
        initial_scale=model.initial_scale,
        **dict(small.options),
    )
    return fresh if start.masks is None else fresh.replace(params=pruning.mask_params(fresh.params, start.masks))


def stages(
    config: StudyConfig,
    arm: ArmConfig,
    dense: models.Classifier,
    trained: dict[Network, Trained],
    train: Dataset,
    validation: Dataset | None,
) -> Iterator[tuple[tuple[Network, str], Candidate]]:
    """Yields every (network, stage) with what is evaluated."""
    for network, results in trained.items():
        start, wanted = removed(network, arm, dense, train), stage_names(config, arm, network)
        found = {STAGE_DENSE if network.method == DENSE else STAGE_PRUNED: start.classifier}
        if STAGE_RECALIBRATED in wanted:
            images = spread(train, config.recalibration_images)
            precision = config.evaluation.compute_dtype
            found[STAGE_RECALIBRATED] = training.recalibrate_batch_norm(start.classifier, images, precision=precision)
        if STAGE_FINE_TUNED in wanted:
            found[STAGE_FINE_TUNED] = results.fine_tuned
        if STAGE_SCRATCH in wanted:
            found[STAGE_SCRATCH] = results.scratch
        if STAGE_TEMPERATURE in wanted:
            # A temperature of 1 changes nothing, and lets all stages share one compiled program.
            found = {stage: each.replace(temperature=jnp.float32(1)) for stage, each in found.items()}
            found[STAGE_TEMPERATURE] = _tempered(results.fine_tuned, validation, config.evaluation.compute_dtype)
        for stage, classifier in found.items():
            yield (network, stage), start._replace(classifier=classifier)


def spread(dataset: Dataset, count: int) -> Dataset:
    """Returns at most `count` images spread evenly over a data set: those of a folder are ordered by class."""
    count = min(count, len(dataset))
    places = np.arange(count) * len(dataset) // count
    return dataclasses.replace(dataset, images=dataset.images[places], labels=dataset.labels[places])


def sizes(candidate: Candidate, image_size: int) -> dict:
    """Returns the sizes that a row states: of the network as it is stored, per image where it says operations."""
    total = pruning.summarize(candidate.classifier, candidate.masks, image_size=image_size).total
    return {
        "sparsity_achieved": candidate.sparsity_achieved,
        "num_parameters": total.size,
        "num_nonzero": total.nonzero,
        "size_bytes": total.dense_bytes,
        "multiply_accumulates": total.multiply_accumulates,
        "multiply_accumulates_nonzero": total.multiply_accumulates_nonzero,
    }


def _tempered(classifier: models.Classifier, validation: Dataset, precision: str) -> models.Classifier:
    logits = classifier.logits(validation.images, precision=precision)
    return classifier.replace(temperature=metrics.fit_temperature(logits, validation.labels, split=validation.split))


def _fraction_removed(masks, *, only: str | None = None) -> float:
    """Returns the fraction of masked entries that are 0; with `only`, over the leaves of that name.

    Masked BatchNorm scales stand for the channels of the layers that a structured method chose.
    """
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(masks) if only in (None, path[-1].key)]
    kept, size = sum(int(np.sum(leaf)) for leaf in leaves), sum(leaf.size for leaf in leaves)
    return round(1 - kept / size, 6) if size else 0.0
