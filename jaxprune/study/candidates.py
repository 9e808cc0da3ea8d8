"""The networks of a unit as they are evaluated: what pruning leaves of the dense one, stage by stage."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune import models, names, pruning
from jaxprune.checkpoints import Checkpoint
from jaxprune.data import Dataset
from jaxprune.study.configuration import ArmConfig, ModelConfig, StudyConfig, granularity
from jaxprune.study.inputs import key_of, spread
from jaxprune.study.network import Network
from jaxprune.study.planning import Unit
from jaxprune.study.stages import Making, make_all

# From a network and the stage that a training of it leads to, to what that training left.
Trained = Callable[[Network, str], Checkpoint]
# Training images for a criterion that needs some.
_CRITERION_IMAGES = 256


class Candidate(NamedTuple):
    """A network as it is evaluated.

    `sparsity_achieved` is the fraction of weights or channels that its method took, None where that is not known.
    """

    classifier: models.Classifier
    masks: Any
    sparsity_achieved: float | None


def pruned(network: Network, arm: ArmConfig, dense: models.Classifier, train: Dataset) -> Candidate:
    """Returns a network of the plan before fine-tuning, pruned now; physically smaller where channels go."""
    if network.is_dense:
        return Candidate(dense, None, 0.0)
    row = pruning.METHODS[network.method]
    options = {"method": network.method, "sparsity": network.sparsity}
    if "key" in row.needs:
        options["key"] = key_of(network.seed, "masks")
    if network.method == names.CONTROLS[names.GRANULARITY_CHANNELS]:
        # From the layers of the method that it is the control of: a fraction of other layers is another size.
        others = [each for each in arm.methods if each != network.method and pruning.METHODS[each].removes_channels]
        options["layers"] = pruning.default_layers(dense, others[0]) if others else None
    if "images" in row.needs:
        batch = spread(train, _CRITERION_IMAGES)
        options |= {"images": batch.images, "labels": batch.labels}
    sparse, masks = pruning.prune(dense, **options)
    if row.removes_channels:
        return Candidate(pruning.compact(sparse, masks), None, fraction_removed(masks, only="scale"))
    return Candidate(sparse, masks, fraction_removed(masks))


def before_fine_tuning(unit: Unit, network: Network, trained: Trained, train: Dataset) -> Candidate:
    """Returns a network of a unit before fine-tuning, from what its trainings left.

    Weights are masked as its checkpoint says. A checkpoint of fewer channels does not say which are gone: those are
    chosen again, as they were.
    """
    if network.masks_move:
        classifier, masks, _ = trained(network, names.STAGE_PRUNED)
        return Candidate(classifier, masks, fraction_removed(masks))
    dense = trained(unit.networks[0], names.STAGE_DENSE).classifier
    if granularity(network.method) != names.GRANULARITY_WEIGHTS:
        return pruned(network, unit.arm, dense, train)
    masks = trained(network, names.STAGE_FINE_TUNED).masks
    classifier = dense.replace(params=pruning.mask_params(dense.params, masks))
    return Candidate(classifier, masks, fraction_removed(masks))


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
    config: StudyConfig, unit: Unit, trained: Trained, train: Dataset, validation: Dataset | None
) -> Iterator[tuple[tuple[Network, str], Candidate]]:
    """Yields every (network, stage) of a unit with what is evaluated."""
    for network in unit.networks:
        start = before_fine_tuning(unit, network, trained, train)
        making = Making(config, start.classifier, functools.partial(trained, network), train, validation)
        wanted = [stage for each, stage in unit.evaluated if each == network]
        for stage, classifier in make_all(making, wanted).items():
            yield (network, stage), start._replace(classifier=classifier)


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


def fraction_removed(masks, *, only: str | None = None) -> float:
    """Returns the fraction of masked entries that are 0; with `only`, over the leaves of that name.

    Masked BatchNorm scales stand for the channels of the layers that a structured method chose.
    """
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(masks) if only in (None, path[-1].key)]
    kept, size = sum(int(np.sum(leaf)) for leaf in leaves), sum(leaf.size for leaf in leaves)
    return round(1 - kept / size, 6) if size else 0.0
