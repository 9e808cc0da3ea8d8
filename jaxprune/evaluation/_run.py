"""One evaluation's set-up: its batches, its groups of classifiers, and a test set's measurement."""

import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jaxprune import corruptions as corruption_room
from jaxprune import models
from jaxprune.data import Dataset, StreamedDataset
from jaxprune.devices import placement
from jaxprune.evaluation import _programs
from jaxprune.evaluation._streams import Streams
from jaxprune.evaluation.examples import KeepExamples
from jaxprune.evaluation.plan import PlannedSet, test_set_key

# Clean images up to this size stay on each device; larger sets are sent again for every test set.
_RESIDENT_BYTES = 2**30
# Batches that are under way at a time, of each stream: the next one is prepared while one is computed.
_IN_FLIGHT = 2
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def check_labels(source: Dataset | StreamedDataset, labels: np.ndarray) -> None:
    """Raises a ValueError for a label outside the classes."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= source.num_classes:
        raise ValueError(
            f"the labels of {source.name!r} run from {low} to {high}, outside 0..{source.num_classes - 1}; "
            f"count classes from 0"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What all test sets of one call share."""

    dataset: Dataset | StreamedDataset
    key: Any
    textures: corruption_room.FrostTextures | None
    mesh: Mesh
    batch_size: int
    micro_batch: int
    keep: KeepExamples | None
    streams: Streams
    streamed_labels: dict[StreamedDataset, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def num_processes(self) -> int:
        """How many processes the devices belong to."""
        return placement.num_processes(self.mesh)

    def rows_per_batch(self, source: Dataset | StreamedDataset) -> int:
        """Returns the one size of a test set's batches, as equal as they can be."""
        batches = math.ceil(len(source) / self.batch_size)
        # As many as there are streams, but none smaller than a piece of the forward pass.
        batches = max(batches, min(self.streams.count, math.ceil(len(source) / self.micro_batch)))
        return placement.round_up(math.ceil(len(source) / batches), self.mesh)

    def stays_on_devices(self, source: Dataset | StreamedDataset) -> bool:
        """Returns whether a data set is small enough to be placed once for all test sets."""
        return isinstance(source, Dataset) and source.images.nbytes <= _RESIDENT_BYTES * self.mesh.size

    def batches(self, source: Dataset | StreamedDataset) -> Iterator[tuple[Array, Array]]:
        """Yields images and labels on the devices."""
        size = self.rows_per_batch(source)
        for arrays in self._host_batches(source, size):
            yield placement.place_rows(tuple(placement.pad_rows(array, size) for array in arrays), self.mesh)

    def _host_batches(self, source: Dataset | StreamedDataset, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if isinstance(source, Dataset):
            for start in range(0, len(source), size):
                yield source.images[start : start + size], source.labels[start : start + size]
            return
        seen = []
        for images, labels, _ in source.batches(batch_size=size):
            check_labels(source, labels)
            seen.append(labels)
            yield images, labels
        self.streamed_labels[source] = np.concatenate(seen)

    def known_labels(self, source: Dataset | StreamedDataset) -> np.ndarray | None:
        """Returns a data set's labels; None for those of a stream that was not read yet."""
        return source.labels if isinstance(source, Dataset) else self.streamed_labels.get(source)

    def labels(self, source: Dataset | StreamedDataset) -> np.ndarray:
        """Returns a data set's labels; those of a stream after it was read."""
        return source.labels if isinstance(source, Dataset) else self.streamed_labels[source]

    def corrupt(self, test_set: PlannedSet, images: Array, first_index: int) -> Array:
        """Returns the test set's version of a clean batch."""
        words = np.asarray(jax.random.key_data(test_set_key(self.key, test_set.name, test_set.severity)))
        # Part of the compilation, so only where the corruption prepares something of them.
        textures = None if corruption_room.CORRUPTIONS[test_set.name].prepare is None else self.textures
        place = {"name": test_set.name, "textures": textures, "mesh": self.mesh}
        return _programs.corrupt(words, images, np.int32(first_index), np.int32(test_set.severity), **place)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """What runs as one program, on the devices: one classifier, or a stack of several; and their places among all.

    `weights_finite`, bool `[models]`, says of which all numbers are finite.
    """

    indices: tuple[int, ...]
    classifier: models.Classifier
    weights_finite: np.ndarray


def group_classifiers(classifiers: Mapping[str, models.Classifier], model_axis: str, mesh: Mesh) -> list[Group]:
    """Returns one group per kind of classifier for "vmap", one per classifier for "loop"."""
    kinds = {}
    for index, classifier in enumerate(classifiers.values()):
        leaves, structure = jax.tree.flatten(classifier)
        kind = (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        kinds.setdefault(kind if model_axis == "vmap" else index, []).append((index, classifier))
    groups = []
    for members in kinds.values():
        indices, alike = zip(*members, strict=True)
        together = alike[0] if len(alike) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike)
        weights_finite = np.array([models.first_non_finite(classifier) is None for classifier in alike])
        groups.append(Group(indices, placement.place_everywhere(together, mesh), weights_finite))
    return groups


def measure(run: Run, groups, test_set: PlannedSet, source: Dataset, batches):
    """Returns the groups and their summaries; stacks that do not fit in memory are taken apart."""
    try:
        return groups, _measure(run, groups, test_set, source, batches)
    except jax.errors.JaxRuntimeError as error:
        stacked = [group for group in groups if len(group.indices) > 1]
        # Another process may have had room, and would not know.
        if _OUT_OF_MEMORY not in str(error) or not stacked or run.num_processes > 1:
            raise
        warnings.warn(
            f"{max(len(group.indices) for group in stacked)} stacked classifiers and {run.rows_per_batch(source)} "
            f"images do not fit in the memory of {run.mesh.devices.flat[0]}; the classifiers run one after another. "
            f"A smaller batch_size may be faster",
            RuntimeWarning,
            stacklevel=3,
        )
        groups = [single for group in groups for single in _taken_apart(group)]
    return groups, _measure(run, groups, test_set, source, batches)


def _taken_apart(group: Group) -> list[Group]:
    if len(group.indices) == 1:
        return [group]
    return [
        Group(
            (index,),
            jax.tree.map(lambda leaf, place=place: leaf[place], group.classifier),
            group.weights_finite[place : place + 1],
        )
        for place, index in enumerate(group.indices)
    ]


def _measure(run: Run, groups: list[Group], test_set: PlannedSet, source: Dataset, batches):
    """Returns each group's summary and, if they are kept, its examples, on the host."""
    size, parts = run.rows_per_batch(source), [[] for _ in groups]
    options = {
        "mesh": run.mesh,
        "micro_batch": run.micro_batch,
        "keep_probs": run.keep is not None and run.keep.probs,
    }
    in_flight = _IN_FLIGHT * run.streams.count
    for index, (images, labels) in enumerate(run.batches(source) if batches is None else batches):
        if test_set.is_generated:
            images = run.corrupt(test_set, images, index * size)
        for group, part in zip(groups, parts, strict=True):
            program = (group, images.shape)
            inputs = (group.classifier, images, labels)
            finite = group.weights_finite
            part.append(run.streams.call(program, _programs.classify, *inputs, weights_finite=finite, **options))
        if index >= in_flight:
            jax.block_until_ready([part[index - in_flight]() for part in parts])
    parts = [[outputs() for outputs in part] for part in parts]
    what = {"count": len(source), "keep_examples": run.keep is not None, "mesh": run.mesh}
    return jax.device_get([_programs.summarize(part, **what) for part in parts])
