"""Prepared TensorFlow Datasets, read without TensorFlow."""

import contextlib
import logging

import numpy as np
from etils import epath

from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, Dataset

CIFAR10_SPLITS = ("train", "test")


def load_cifar10(*, split: str, data_dir=None, limit: int | None = None) -> Dataset:
    """Returns CIFAR-10 (Krizhevsky 2009) from a prepared TFDS folder, in the folder's order.

    `data_dir` is the folder that holds `cifar10/<version>/`; by default TFDS's own (`TFDS_DATA_DIR` or
    `~/tensorflow_datasets`). The files must be in a random-access format (array_record).

    Raises:
      FileNotFoundError: the set is not prepared there.
    """
    images, labels, class_names = _read("cifar10", split=split, data_dir=data_dir, limit=limit)
    return Dataset(
        images=images,
        labels=labels,
        class_names=class_names,
        name="cifar10",
        split=split,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    )


def _read(name: str, *, split: str, data_dir, limit: int | None):
    with _quiet_absl():
        import tensorflow_datasets as tfds

        folder = epath.Path(data_dir) if data_dir else epath.Path(tfds.core.constants.DATA_DIR)
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"no prepared {name!r} in {folder}: expected {folder / name}/<version>/; give data_dir= (or "
                f"--study.data.data-dir) the folder that holds {name}/, or prepare the set once on a machine with "
                f"TensorFlow: tfds build {name} --file_format=array_record"
            )
        try:
            source = tfds.data_source(name, split=split, data_dir=folder)
        except (NotImplementedError, AttributeError, ModuleNotFoundError) as error:
            raise ValueError(
                f"{folder / name} cannot be read without TensorFlow ({error}); prepare it as array_record: "
                f"tfds build {name} --file_format=array_record"
            ) from error
        count = len(source) if limit is None else min(limit, len(source))
        records = source.__getitems__(range(count)) if count else []
    label_names = tuple(source.dataset_info.features["label"].names)
    shape = source.dataset_info.features["image"].shape
    images = np.stack([record["image"] for record in records]) if records else np.zeros((0, *shape), np.uint8)
    return images, np.array([record["label"] for record in records], np.int32), label_names


@contextlib.contextmanager
def _quiet_absl():
    # TFDS recommends OpenCV in a warning at the first decoded image; Pillow gives the same pixels.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
