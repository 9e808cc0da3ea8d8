"""Damage below the average: what pruning does to each class, and the images that dense and pruned networks part on.

All of it needs the outputs per image of the clean test set. Hooker et al. 2019 ("What do compressed deep neural
networks forget?") call an image a pruning-identified exemplar where the most frequent prediction over the seeds differs
between dense and pruned networks; with one seed that is where the prediction flips.
"""

from typing import NamedTuple

import numpy as np

from jaxprune.report import resampling
from jaxprune.report.evidence import Evidence, Network
from jaxprune.report.outputs import Outputs
from jaxprune.report.resampling import Estimate
from jaxprune.report.verdicts import SIGNIFICANCE


class ClassChange(NamedTuple):
    """By how much the accuracy of one class changed from dense to pruned; the p-value is Holm's over all of the arm."""

    network: Network
    label: int
    num_images: int
    estimate: Estimate
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the change differs from zero."""
        return self.p_value <= SIGNIFICANCE


class Exemplars(NamedTuple):
    """The images that the dense and the pruned networks, each taken together over seeds, classify differently."""

    network: Network
    index: np.ndarray
    num_images: int
    labels: np.ndarray
    dense_prediction: np.ndarray
    pruned_prediction: np.ndarray
    # Of the dense networks, mean over seeds, on the exemplars and on the other images.
    dense_accuracy: float
    other_accuracy: float
    num_seeds: int


def class_changes(evidence: Evidence) -> list[ClassChange]:
    """Returns the change of each class for every pruned network of the main stage with outputs, images paired."""
    out = []
    for network in _pruned(evidence):
        dense, pruned = _paired(evidence, network)
        if not dense:
            continue
        labels = dense[0].labels
        both = np.array([[each.correct for each in population] for population in (dense, pruned)], np.float64)
        for label in np.unique(labels):
            accuracy = both[:, :, labels == label]
            change = (accuracy[1] - accuracy[0]).mean(axis=0)
            size = change.size
            # As with a success and a failure added, so that a class without any change has an interval too.
            variance = (change.var() * size + 1) / (size + 2) / size if size else float("nan")
            found = resampling.estimate(
                lambda means: means[..., 1] - means[..., 0], accuracy.mean(axis=-1).T, image_variance=variance
            )
            p_value = min(found.p_value(0.0, claim=claim) for claim in ("above", "below"))
            out.append(ClassChange(network, int(label), size, found, p_value))
    adjusted = resampling.holm([each.p_value for each in out])
    return [each._replace(p_value=p) for each, p in zip(out, adjusted, strict=True)]


def exemplars(evidence: Evidence) -> list[Exemplars]:
    """Returns the pruning-identified exemplars of every pruned network of the main stage with outputs."""
    out = []
    for network in _pruned(evidence):
        dense, pruned = _paired(evidence, network)
        if not dense:
            continue
        first, second = modal_prediction(dense), modal_prediction(pruned)
        differs = first != second
        index = np.flatnonzero(differs)
        correct = np.mean([each.correct for each in dense], axis=0)
        out.append(
            Exemplars(
                network=network,
                index=index,
                num_images=len(differs),
                labels=dense[0].labels[index],
                dense_prediction=first[index],
                pruned_prediction=second[index],
                dense_accuracy=float(correct[differs].mean()) if differs.any() else float("nan"),
                other_accuracy=float(correct[~differs].mean()) if (~differs).any() else float("nan"),
                num_seeds=len(dense),
            )
        )
    return out


def modal_prediction(population: list[Outputs]) -> np.ndarray:
    """Returns the class that most of the networks predict for each image; of equals the first."""
    predictions = np.stack([each.prediction for each in population])
    classes = int(predictions.max()) + 1
    votes = np.stack([(predictions == label).sum(axis=0) for label in range(classes)])
    return votes.argmax(axis=0)


def _pruned(evidence: Evidence) -> list[Network]:
    kinds = (evidence.networks(granularity=kind) for kind in ("weights", "channels"))
    return [network for kind in kinds for networks in kind.values() for network in networks]


def _paired(evidence: Evidence, network: Network) -> tuple[list[Outputs], list[Outputs]]:
    """Returns the clean outputs of the dense and the pruned network of every seed that has both."""
    dense = evidence.dense()
    seeds = [s for s in evidence.seeds if (dense, s) in evidence.clean and (network, s) in evidence.clean]
    return [evidence.clean[dense, s] for s in seeds], [evidence.clean[network, s] for s in seeds]
