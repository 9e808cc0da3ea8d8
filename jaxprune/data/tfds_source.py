"""Prepared TensorFlow Datasets, read without TensorFlow."""

import contextlib
import json
import logging

import numpy as np
from etils import epath

from jaxprune.data.class_names import CIFAR10_CLASSES
from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, Dataset

CORRUPTED_SPLITS = ("test",)
SEVERITIES = (1, 2, 3, 4, 5)
# CIFAR-10-C's file stems -> the names of TFDS's configs, where they differ (its `cifar10_corrupted.py`).
_TFDS_CORRUPTIONS = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}
_INFO_FILE = "dataset_info.json"


def load_cifar10_corrupted(
    *,
    split: str = "test",
    data_dir=None,
    limit: int | None = None,
    corruption: str | None = None,
    severity: int | None = None,
) -> Dataset:
    """Returns one corruption of CIFAR-10-C from the TFDS set `cifar10_corrupted/<corruption>_<severity>`.

    Args:
      split: "test", the only one.
      data_dir: the folder that holds `cifar10_corrupted/`.
      limit: read the first `limit` images only.
      corruption: CIFAR-10-C's file stem, such as "fog" or "glass_blur" (TFDS's own names are understood as well).
      severity: 1 to 5. Neither this nor `corruption` has a default.

    Raises:
      ValueError: no corruption or severity was named, or the set cannot be read.
      FileNotFoundError: that corruption is not prepared; the message lists those that are.
    """
    root = data_folder(data_dir) / "cifar10_corrupted"
    there = sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.exists() else []
    if corruption is None or severity is None:
        raise ValueError(
            f"cifar10_corrupted needs both corruption= (such as 'fog') and severity= (1 to 5), got "
            f"corruption={corruption!r}, severity={severity!r}; {root} holds {', '.join(there) or 'none'}"
        )
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}; give one of {', '.join(map(str, SEVERITIES))}")
    config = f"{_TFDS_CORRUPTIONS.get(corruption, corruption)}_{severity}"
    if config not in there:
        raise FileNotFoundError(
            f"no prepared 'cifar10_corrupted/{config}' in {root.parent}; there: {', '.join(there) or 'none'}; "
            f"{how_to_prepare(f'cifar10_corrupted/{config}')}"
        )
    images, labels, names = read(root / config, split=split, limit=limit)
    return Dataset(
        images=images,
        labels=labels,
        class_names=CIFAR10_CLASSES if len(names) == len(CIFAR10_CLASSES) else names,
        name=f"cifar10_corrupted/{corruption}/{severity}",
        split=split,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    )


def data_folder(data_dir) -> epath.Path:
    """Returns `data_dir`, or TFDS's own folder (`TFDS_DATA_DIR` or `~/tensorflow_datasets`) where none is given."""
    if data_dir:
        return epath.Path(data_dir)
    with _quiet_absl():
        import tensorflow_datasets as tfds

        return epath.Path(tfds.core.constants.DATA_DIR)


def how_to_prepare(name: str) -> str:
    """Returns the sentence that ends an error about a set that is not there."""
    return (
        f"prepare the set once, on a machine with network: tfds build {name} --file_format=array_record "
        f"(preparing needs TensorFlow: pip install 'jaxprune[prepare]'; reading does not)"
    )


def read(
    folder, *, split: str, limit: int | None, label_key: str = "label"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns images (uint8 [N, H, W, C]), labels (int32 [N]) and class names of the newest version in `folder`.

    Raises:
      FileNotFoundError: the folder holds no prepared version.
      ValueError: another file format, damaged or missing files, no such split, or images of several sizes.
    """
    source = open_source(folder, split=split, label_key=label_key)
    with _quiet_absl(), naming(folder):
        count = len(source) if limit is None else min(limit, len(source))
        records = source.__getitems__(range(count)) if count else []
    features = source.dataset_info.features
    shapes = {record["image"].shape for record in records}
    if len(shapes) > 1:
        raise ValueError(
            f"{folder} holds images of {len(shapes)} sizes, from {min(shapes)} to {max(shapes)}; "
            f"read it with data.stream_tfds(..., image_size=...)"
        )
    shape = [side or 0 for side in features["image"].shape]
    images = np.stack([record["image"] for record in records]) if records else np.zeros((0, *shape), np.uint8)
    labels = np.array([record[label_key] for record in records], np.int32)
    return images, labels, tuple(features[label_key].names)


def open_source(folder, *, split: str, label_key: str = "label"):
    """Returns the random-access source of one split of the newest version in `folder`, decoded on access."""
    folder = epath.Path(folder)
    prepared = versions(folder)
    if not prepared:
        raise FileNotFoundError(
            f"{folder} holds no <version>/{_INFO_FILE}: the set was not prepared to the end; "
            f"{how_to_prepare(folder.name)}"
        )
    with _quiet_absl(), naming(folder):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(prepared[-1])
        missing = [key for key in ("image", label_key) if key not in builder.info.features]
        if missing:
            raise ValueError(f"{folder} has no feature {missing[0]!r}, only {', '.join(sorted(builder.info.features))}")
        if split not in builder.info.splits:
            raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(builder.info.splits)}")
        try:
            return builder.as_data_source(split=split)
        except (NotImplementedError, AttributeError, ModuleNotFoundError) as error:
            reason = str(error).partition(" Possible root causes")[0]
            raise ValueError(
                f"{folder} cannot be read without TensorFlow ({reason}); {how_to_prepare(folder.name)}"
            ) from error


@contextlib.contextmanager
def naming(folder):
    """Turns what the readers of damaged or missing files raise into a ValueError that names the set's folder."""
    try:
        yield
    except (RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is damaged or incomplete ({error}); copy it again") from error


def versions(folder: epath.Path) -> list[epath.Path]:
    """Returns the folders of the versions that are prepared to the end in a set's folder, the newest last."""
    there = [place for place in folder.iterdir() if (place / _INFO_FILE).exists()] if folder.exists() else []
    return sorted(there, key=lambda place: [int(part) if part.isdigit() else -1 for part in place.name.split(".")])


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
