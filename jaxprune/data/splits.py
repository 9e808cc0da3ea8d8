"""A validation part cut from a training set."""

import dataclasses

import numpy as np

from jaxprune.data.dataset import Dataset, refuse_test_split


def split_validation(dataset: Dataset, *, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Returns (train, validation): `fraction` of the images of every class go to the validation part.

    A class of n images gives `fraction * n` of them, rounded so that the parts of all classes add up to
    `round(fraction * len(dataset))`. Both parts keep the data set's order. The choice depends on the seed and the
    labels only, and is the same on every machine.

    Raises:
      ValueError: a test split, a fraction outside (0, 1), or one that leaves a part without images.

    >>> images, labels = np.zeros((10, 1, 1, 3), np.uint8), np.array([0, 1] * 5, np.int32)
    >>> train, validation = split_validation(Dataset(images, labels, ("a", "b")), fraction=0.4, seed=0)
    >>> len(train), validation.split, tuple(np.bincount(validation.labels).tolist())
    (6, 'validation', (2, 2))
    """
    refuse_test_split(dataset, "the validation split")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction}; give the share of the training images to validate on, in (0, 1)")
    if seed < 0:
        raise ValueError(f"seed={seed}; give an integer >= 0")
    sizes = _sizes(np.bincount(dataset.labels, minlength=dataset.num_classes), fraction)
    if not 0 < sizes.sum() < len(dataset):
        raise ValueError(f"fraction={fraction} of {len(dataset)} images leaves one of the two parts without images")
    # The bits of a bit generator are the same in every NumPy; the methods of `Generator` may change.
    order = np.argsort(np.random.PCG64(seed).random_raw(len(dataset)), kind="stable")
    chosen = [order[dataset.labels[order] == label][:size] for label, size in enumerate(sizes)]
    is_validation = np.zeros(len(dataset), bool)
    is_validation[np.concatenate(chosen)] = True
    return _part(dataset, ~is_validation, "train"), _part(dataset, is_validation, "validation")


def _sizes(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Returns `fraction * counts` rounded down or up, the largest remainders up, to the right total."""
    exact = fraction * counts
    sizes = np.floor(exact).astype(int)
    missing = round(fraction * counts.sum()) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:missing]] += 1
    return sizes


def _part(dataset: Dataset, chosen: np.ndarray, split: str) -> Dataset:
    return dataclasses.replace(dataset, images=dataset.images[chosen], labels=dataset.labels[chosen], split=split)
