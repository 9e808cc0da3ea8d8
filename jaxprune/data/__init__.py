"""Sources of labelled images, and augmentation on the device.

>>> test = load("digits", split="test")
>>> test.images.shape, test.images.dtype.name, len(test.class_names)
((400, 32, 32, 3), 'uint8', 10)
"""

import difflib
import inspect

from jaxprune.data import cifar, digits, image_folder, npz_file, tfds_source
from jaxprune.data.augment import (
    AUGMENTATIONS,
    chain,
    random_corruption,
    random_crop,
    random_crop_and_flip,
    random_flip,
    random_resized_crop,
)
from jaxprune.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_COARSE_CLASSES
from jaxprune.data.corrupted_folder import (
    LABELS_FILE,
    MANIFEST_FILE,
    corrupted_folder_contents,
    load_cifar_c,
    load_cifar_c_labels,
)
from jaxprune.data.dataset import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    CIFAR100_MEAN,
    CIFAR100_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Dataset,
    check_limit,
    refuse_test_split,
)
from jaxprune.data.image_folder import load_image_folder
from jaxprune.data.mixtures import augmix
from jaxprune.data.npz_file import load_npz
from jaxprune.data.splits import split_validation
from jaxprune.data.stream import Batch, StreamedDataset, stream_image_folder, stream_tfds

__all__ = [
    "AUGMENTATIONS",
    "CIFAR10_CLASSES",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "CIFAR100_CLASSES",
    "CIFAR100_COARSE_CLASSES",
    "CIFAR100_MEAN",
    "CIFAR100_STD",
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LABELS_FILE",
    "MANIFEST_FILE",
    "Batch",
    "Dataset",
    "StreamedDataset",
    "augmix",
    "chain",
    "corrupted_folder_contents",
    "load",
    "load_cifar_c",
    "load_cifar_c_labels",
    "load_image_folder",
    "load_npz",
    "random_corruption",
    "random_crop",
    "random_crop_and_flip",
    "random_flip",
    "random_resized_crop",
    "refuse_test_split",
    "split_validation",
    "stream_image_folder",
    "stream_tfds",
]

_COMMON = ("split", "data_dir", "limit")
# name -> (loader, its splits); a loader's keywords beyond the common ones are options of `load`
DATASETS = {
    "digits": (digits.load_digits, digits.SPLITS),
    "cifar10": (cifar.load_cifar10, cifar.SPLITS),
    "cifar100": (cifar.load_cifar100, cifar.SPLITS),
    "cifar100_coarse": (cifar.load_cifar100_coarse, cifar.SPLITS),
    "cifar10_corrupted": (tfds_source.load_cifar10_corrupted, tfds_source.CORRUPTED_SPLITS),
    "image_folder": (image_folder.load_split_folder, image_folder.SPLITS),
    "npz": (npz_file.load_split_npz, npz_file.SPLITS),
}


def load(
    name: str,
    *,
    split: str,
    data_dir=None,
    limit: int | None = None,
    validation_fraction: float | None = None,
    validation_seed: int = 0,
    **options,
) -> Dataset:
    """Returns one split of a data set of the `DATASETS` table.

    Args:
      name: a key of `DATASETS`.
      split: "train", "validation" (where the source has one, or `validation_fraction` cuts one) or "test".
      data_dir: where the files lie (a local or `gs://` path); "digits" needs none.
      limit: read the first `limit` examples only.
      validation_fraction: cut this share of every class from the training images (`split_validation`): "validation"
        is that part, "train" the rest; "test" stays as it is. By default "train" is the whole training set.
      validation_seed: which images the cut takes.
      **options: of the set's loader: `verify` (cifar10, cifar100, cifar100_coarse), `corruption` and `severity`
        (cifar10_corrupted), `image_size` and others of `load_image_folder` (image_folder) and `load_npz` (npz).

    Raises:
      ValueError: an unknown name or split, a negative limit, or files that are damaged or of another kind.
      TypeError: an option that the set does not have.
      FileNotFoundError: the files are not in `data_dir`.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}{hint}")
    loader, splits = DATASETS[name]
    is_cut = validation_fraction is not None and split in ("train", "validation") and "train" in splits
    if split not in splits and not is_cut:
        hint = "; validation_fraction= cuts one from train" if split == "validation" and "train" in splits else ""
        raise ValueError(f"data set {name!r} has no split {split!r}; it has {', '.join(splits)}{hint}")
    check_limit(limit)
    allowed = [option for option in inspect.signature(loader).parameters if option not in _COMMON]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise TypeError(f"data set {name!r} has no option {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    if not is_cut:
        return loader(split=split, data_dir=data_dir, limit=limit, **options)
    whole = loader(split="train", data_dir=data_dir, limit=None, **options)
    train, validation = split_validation(whole, fraction=validation_fraction, seed=validation_seed)
    part = validation if split == "validation" else train
    return part if limit is None else part.take(limit)
