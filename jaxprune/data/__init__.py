"""Sources of labelled images, and augmentation on the device.

>>> test = load("digits", split="test")
>>> test.images.shape, test.images.dtype.name, len(test.class_names)
((400, 32, 32, 3), 'uint8', 10)
"""

import difflib

from jaxprune.data import digits, tfds_source
from jaxprune.data.augment import AUGMENTATIONS, random_crop, random_crop_and_flip, random_flip
from jaxprune.data.corrupted_folder import LABELS_FILE, MANIFEST_FILE, load_cifar_c
from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, Dataset, refuse_test_split

__all__ = [
    "AUGMENTATIONS",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "DATASETS",
    "LABELS_FILE",
    "MANIFEST_FILE",
    "Dataset",
    "load",
    "load_cifar_c",
    "random_crop",
    "random_crop_and_flip",
    "random_flip",
    "refuse_test_split",
]

# name -> (loader, its splits)
DATASETS = {
    "digits": (digits.load_digits, digits.SPLITS),
    "cifar10": (tfds_source.load_cifar10, tfds_source.CIFAR10_SPLITS),
}


def load(name: str, *, split: str, data_dir=None, limit: int | None = None) -> Dataset:
    """Returns one split of a data set of the `DATASETS` table.

    Args:
      name: a key of `DATASETS`.
      split: "train", "validation" (where the source has one) or "test".
      data_dir: where prepared files lie (a local or `gs://` path); "digits" needs none.
      limit: read the first `limit` examples only.

    Raises:
      ValueError: an unknown name or split, or a negative limit.
      FileNotFoundError: the prepared files are not in `data_dir`.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}{hint}")
    loader, splits = DATASETS[name]
    if split not in splits:
        raise ValueError(f"data set {name!r} has no split {split!r}; it has {', '.join(splits)}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}; give a number of examples >= 0, or None for all")
    return loader(split=split, data_dir=data_dir, limit=limit)
