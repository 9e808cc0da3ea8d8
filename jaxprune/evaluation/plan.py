"""Which test sets are measured, in which order, and where each comes from. Nothing is generated or read here."""

import numbers
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from jaxprune import corruptions as corruption_room
from jaxprune import data
from jaxprune.names import CLEAN, CLEAN_SEVERITY, SEVERITIES


class PlannedSet(NamedTuple):
    """A test set: `read` returns it; without one it is the clean data set, or generated from it.

    `labels` returns those of a set that is read, where they are known without reading its images.
    """

    name: str
    severity: int
    read: Callable[[], data.Dataset] | None = None
    labels: Callable[[], np.ndarray] | None = None

    @property
    def is_generated(self) -> bool:
        """Whether its images are computed from the clean ones."""
        return self.read is None and self.name != CLEAN


def test_set_key(key: Key[Array, ""], name: str, severity: int) -> Key[Array, ""]:
    """Returns the key of one corrupted test set, from the run's key, the corruption's name and the severity."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), severity)


def check_corruptions(names: Sequence[str], severities: Sequence[int]) -> None:
    """Raises a ValueError for an unknown corruption or a severity that is not an integer in 1..5."""
    _check_sequence("corruptions", names)
    _check_sequence("severities", severities)
    known = corruption_room.CORRUPTIONS
    for name in names:
        if name not in known:
            raise ValueError(f"unknown corruption {name!r}; known: {', '.join(known)}")
    for severity in severities:
        is_integer = isinstance(severity, numbers.Integral) and not isinstance(severity, bool)
        if not is_integer or severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r} is outside 1..5; give integers from 1 (mild) to 5 (strong)")


def _check_sequence(what: str, values) -> None:
    if isinstance(values, str | int | float):
        raise ValueError(f"{what} is {values!r}; give a sequence, also of one: [{values!r}]")


def plan_test_sets(
    corruptions: Sequence[str] | None, severities: Sequence[int] | None, clean: bool, corrupted
) -> list[PlannedSet]:
    """Returns the test sets of `evaluate`'s arguments of these names, the clean one first.

    Raises:
      ValueError: nothing is selected, or what is selected is unknown or named twice.
      FileNotFoundError: a folder lacks what is selected.
    """
    _check_sequence("corruptions", corruptions)
    _check_sequence("severities", severities)
    if corrupted is None:
        names = corruption_room.COMMON_CORRUPTIONS if corruptions is None else tuple(corruptions)
        severities = SEVERITIES if severities is None else tuple(severities)
        check_corruptions(names, severities)
        planned = [PlannedSet(name, int(severity)) for name in names for severity in severities]
    elif isinstance(corrupted, str | os.PathLike):
        planned = [_own_set(item) for item in folder_test_sets(corrupted, corruptions, severities)]
    elif corruptions is not None or severities is not None:
        raise ValueError(
            "corrupted= gives the test sets themselves, corruptions= and severities= select among generated ones or "
            "those of a folder; give one or the other"
        )
    else:
        planned = [_own_set(item) for item in (corrupted.items() if isinstance(corrupted, Mapping) else corrupted)]
    planned = [PlannedSet(CLEAN, CLEAN_SEVERITY)] * clean + planned
    if not planned:
        raise ValueError("no test set is selected; give a corruption and a severity, or clean=True")
    named = [(each.name, each.severity) for each in planned]
    twice = next((item for item in named if named.count(item) > 1), None)
    if twice is not None:
        raise ValueError(f"test set {twice[0]} {twice[1]} is named twice; each test set is measured once")
    return planned


class FolderTestSet(NamedTuple):
    """A test set of a folder in CIFAR-10-C's layout; called, it is read."""

    path: str
    name: str
    severity: int
    limit: int | None = None

    def __call__(self) -> data.Dataset:
        """Returns the images and labels."""
        return data.load_cifar_c(self.path, name=self.name, severity=self.severity, limit=self.limit)

    def labels(self) -> np.ndarray:
        """Returns the labels, without reading the images."""
        return data.load_cifar_c_labels(self.path, name=self.name, limit=self.limit)


def folder_test_sets(
    path, names: Iterable[str] | None = None, severities: Iterable[int] | None = None, *, limit: int | None = None
) -> list[tuple[tuple[str, int], FolderTestSet]]:
    """Returns ((name, severity), function that reads it) for the test sets of a folder in CIFAR-10-C's layout.

    Args:
      path: a folder that `data.load_cifar_c` reads: the official one, or one that `jaxprune corrupt` wrote.
      names: file stems; by default all there are.
      severities: by default all there are.
      limit: read the first `limit` images of each only.

    Raises:
      FileNotFoundError: there is no such folder, it holds no corrupted images, or it lacks one of the names.
      ValueError: it lacks one of the severities.
    """
    stems, present = data.corrupted_folder_contents(path)
    # In the order of the table, those that it does not know last.
    stems = sorted(stems, key=lambda stem: [*corruption_room.CORRUPTIONS, stem].index(stem))
    names = tuple(stems) if names is None else tuple(names)
    for name in names:
        if name not in stems:
            raise FileNotFoundError(f"{path} holds no {name}.npy; it holds {', '.join(stems)}")
    severities = present if severities is None else tuple(severities)
    for severity in severities:
        if severity not in present:
            raise ValueError(f"severity {severity!r} is not in {path}, which holds {', '.join(map(str, present))}")
    path = os.fspath(path)
    return [((name, severity), FolderTestSet(path, name, severity, limit)) for name in names for severity in severities]


def check_labels_agree(
    test_set: PlannedSet, labels: np.ndarray | None, clean_labels: np.ndarray | None, dataset_name: str
) -> None:
    """Raises a ValueError if the labels of a test set are not the clean images', as far as both go and are known.

    Corruptions change pixels, not what is on the image: other labels are another set, or the same in another order,
    and a comparison with the clean images would say nothing.
    """
    if labels is None or clean_labels is None:
        return
    count = min(len(labels), len(clean_labels))
    other = np.flatnonzero(labels[:count] != clean_labels[:count])
    if len(other):
        first = other[0]
        raise ValueError(
            f"test set {test_set.name} {test_set.severity} has other labels than data set {dataset_name!r}, at "
            f"{len(other)} of {count} images (first: image {first} has {labels[first]} instead of "
            f"{clean_labels[first]}); give corrupted versions of the same images in the same order"
        )


def _own_set(item) -> PlannedSet:
    try:
        (name, severity), source = item
    except (TypeError, ValueError):
        raise ValueError(
            f"corrupted= has an entry {str(item)[:80]!r}; give a folder, or a dict from (name, severity) to a Dataset "
            f"or to a function that returns one"
        ) from None
    if not isinstance(name, str) or not name or name == CLEAN:
        raise ValueError(f"a corrupted test set is named {name!r}; give it a name other than {CLEAN!r}")
    if not isinstance(severity, int) or severity < 1:
        raise ValueError(f"test set {name!r} has severity {severity!r}; give an integer from 1")
    if isinstance(source, FolderTestSet):
        return PlannedSet(name, severity, source, source.labels)
    if isinstance(source, data.Dataset):
        return PlannedSet(name, severity, lambda: source, lambda: source.labels)
    return PlannedSet(name, severity, source if callable(source) else lambda: source)
