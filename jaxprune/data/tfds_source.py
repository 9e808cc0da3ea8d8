"""Prepared TensorFlow Datasets, read without TensorFlow."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxprune.data.class_names import CIFAR10_CLASSES
from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, Dataset
from jaxprune.data.tfds_description import INFO_FILE, READABLE_FORMAT, OtherFormatError, describe, naming_damage
from jaxprune.files.images import read_rgb
from jaxprune.names import SEVERITIES

CORRUPTED_SPLITS = ("test",)
# CIFAR-10-C's file stems -> the names of TFDS's configs, where they differ (its `cifar10_corrupted.py`).
_TFDS_CORRUPTIONS = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}
_IMAGE = "image"


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
    there = sorted(folder.name for folder in root.iterdir() if versions(folder)) if root.exists() else []
    if corruption is None or severity is None:
        raise ValueError(
            f"cifar10_corrupted needs both corruption= (such as 'fog') and severity= (1 to 5), got "
            f"corruption={corruption!r}, severity={severity!r}; {root} holds {', '.join(there) or 'none'}"
        )
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}; give one of {', '.join(map(str, SEVERITIES))}")
    config = f"{_TFDS_CORRUPTIONS.get(corruption, corruption)}_{severity}"
    if config not in there and not (root / config).exists():
        raise FileNotFoundError(
            f"no prepared 'cifar10_corrupted/{config}' in {root.parent}; there: {', '.join(there) or 'none'}; "
            f"{how_to_prepare(f'cifar10_corrupted/{config}')}"
        )
    images, labels, names = read(root / config, f"{root.name}/{config}", split=split, limit=limit)
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
    from tensorflow_datasets.core import constants

    return epath.Path(constants.DATA_DIR)


def how_to_prepare(name: str) -> str:
    """Returns the sentence that ends an error about a set that is not there."""
    return (
        f"prepare the set once, on a machine with network: tfds build {name} --file_format={READABLE_FORMAT} "
        f"(preparing needs TensorFlow: pip install 'jaxprune[prepare]'; reading does not)"
    )


def read(
    folder, name: str, *, split: str, limit: int | None, label_key: str = "label"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns images (uint8 [N, H, W, 3]), labels (int64 [N]) and class names of the newest version in `folder`.

    Args:
      folder: the set's own, or that of its config.
      name: the set with its config, as `tfds build` takes it.
      split, label_key: which part of the set.
      limit: read the first `limit` examples only.

    Raises: as `open_source`, and:
      ValueError: images that cannot be read, or of several sizes.
    """
    source = open_source(folder, name, split=split, label_key=label_key)
    examples = source.read(range(len(source) if limit is None else min(limit, len(source))))
    shapes = {image.shape for image, _ in examples}
    if len(shapes) > 1:
        raise ValueError(
            f"{folder} holds images of {len(shapes)} sizes, from {min(shapes)} to {max(shapes)}; "
            f"read it with data.stream_tfds(..., image_size=...)"
        )
    empty = np.zeros((0, *(side or 0 for side in source.image_shape), 3), np.uint8)
    images = np.stack([image for image, _ in examples]) if examples else empty
    return images, np.array([label for _, label in examples], np.int64), source.class_names


class Source(NamedTuple):
    """Random access to the examples of one split.

    Attributes:
      folder: of the set, for errors.
      records: the serialized examples.
      label_key: the feature that is the label.
      image_shape: height and width, None where images differ.
      class_names: one per class.
    """

    folder: epath.Path
    records: Any
    label_key: str
    image_shape: tuple[int | None, int | None]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, indices: Sequence[int]) -> list[tuple[np.ndarray, int]]:
        """Returns the images, uint8 [H, W, 3], and labels of some examples.

        Raises:
          ValueError: the set is damaged, or an image is of a format that is not read.
        """
        from tensorflow_datasets.proto import tf_example_pb2

        encoded = []
        with naming_damage(self.folder):
            for record in self.records.__getitems__(indices) if len(indices) else ():
                feature = tf_example_pb2.Example.FromString(record).features.feature
                (image,), (label,) = feature[_IMAGE].bytes_list.value, feature[self.label_key].int64_list.value
                encoded.append((image, label))
        return [(self._decoded(image, index), label) for index, (image, label) in zip(indices, encoded, strict=True)]

    def _decoded(self, image: bytes, index: int) -> np.ndarray:
        # TFDS decodes without looking at the EXIF orientation, and labels and boxes were made so.
        return np.asarray(read_rgb(image, name=f"image {index} of {self.folder}", is_turned=False))


def open_source(folder, name: str, *, split: str, label_key: str = "label") -> Source:
    """Returns the source of one split of the newest version in `folder`, decoded on access.

    Raises:
      FileNotFoundError: the folder holds no prepared version.
      ValueError: another file format, damaged or missing files, no such split or feature, or a description that names
        classes other than TFDS's own; none of them is imported.
    """
    folder = epath.Path(folder)
    prepared = versions(folder)
    if not prepared:
        raise FileNotFoundError(
            f"{folder} holds no <version>/{INFO_FILE}: the set was not prepared to the end; {how_to_prepare(name)}"
        )
    try:
        from array_record.python import array_record_data_source
    except ImportError as error:
        raise ImportError("prepared TFDS sets are read with array_record; pip install array_record") from error
    version = prepared[-1]
    with naming_damage(folder):
        try:
            about = describe(version, split=split, image_key=_IMAGE, label_key=label_key)
        except OtherFormatError as error:
            raise OtherFormatError(
                f"{version} is stored as {error}, which cannot be read without TensorFlow; convert it, once, where it "
                f"lies: tfds convert_format --dataset_version_dir={version} --out_file_format={READABLE_FORMAT} (needs "
                f"TensorFlow: pip install 'jaxprune[prepare]'); nothing is downloaded, as it would be by tfds build "
                f"{name} --file_format={READABLE_FORMAT}"
            ) from error
        records = array_record_data_source.ArrayRecordDataSource([os.fspath(file) for file in about.files])
        if len(records) != about.length:
            raise ValueError(f"its files hold {len(records)} examples, its {INFO_FILE} says {about.length}")
    return Source(folder, records, label_key, about.image_shape, about.class_names)


def versions(folder: epath.Path) -> list[epath.Path]:
    """Returns the folders of the versions that are prepared to the end in a set's folder, the newest last."""
    there = [place for place in folder.iterdir() if (place / INFO_FILE).exists()] if folder.is_dir() else []
    there = [place for place in there if "incomplete" not in place.name]  # what TFDS is writing, or never finished
    return sorted(there, key=lambda place: [int(part) if part.isdigit() else -1 for part in place.name.split(".")])
