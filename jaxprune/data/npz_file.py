"""Data sets in one `.npz` file."""

import dataclasses
import math
import zipfile
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxprune.data.dataset import IMAGENET_MEAN, IMAGENET_STD, MOST_CLASSES, Dataset, numbered_classes

SPLITS = ("train", "validation", "test")
_CHANNELS = 3
_NAMES = ("images", "labels", "class_names")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of np.savez and np.savez_compressed
_MOST_DEFLATED = 1032  # bytes that one byte can stand for (zlib's documentation)
_CHUNK = 1 << 24
_ENCRYPTED = 1  # the bit of a member's flags


def load_npz(
    path,
    *,
    class_names: Sequence[str] | None = None,
    split: str = "unnamed",
    limit: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Dataset:
    """Returns the data set in an `.npz` file with the arrays `images`, `labels` and, optionally, `class_names`.

    `images` are uint8 [N, H, W, 3], or greyscale [N, H, W] or [N, H, W, 1], which become RGB; `labels` are integers
    [N]; `class_names` are strings, by default the numbers from 0 to the largest label. No pickle is ever loaded.

    Args:
      path: the file, local or `gs://`.
      class_names: instead of those in the file.
      split: what the images are for; functions that fit refuse "test".
      limit: read the first `limit` images only.
      mean, std: per-channel normalisation; by default ImageNet's.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError, TypeError: not a complete `.npz` file, or arrays that are missing or of another kind.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file at {path}; give an .npz file with the arrays images and labels")
    arrays = _read(path)
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}; save it with np.savez(path, images=..., labels=...)")
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype == np.uint8 and images.ndim == _CHANNELS:
        images = images[..., None]
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 1:
        images = np.repeat(images, _CHANNELS, axis=3)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise TypeError(f"{path}: labels are {labels.dtype} {list(labels.shape)}; give one integer per image, [N]")
    try:
        whole = Dataset(
            images=images,
            labels=labels,
            class_names=_class_names(path, arrays, class_names),
            name=path.stem,
            split=split,
            mean=mean,
            std=std,
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
    return whole if limit is None else whole.take(limit)


def _class_names(path: epath.Path, arrays: dict[str, np.ndarray], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(str(name) for name in given)
    if "class_names" not in arrays:
        return numbered_classes(arrays["labels"], "the file")
    names = arrays["class_names"]
    if names.dtype.kind not in "US" or names.ndim != 1 or len(names) > MOST_CLASSES:
        raise TypeError(f"class_names are {names.dtype} {list(names.shape)}; give one text per class, [classes]")
    return tuple(name.decode() if isinstance(name, bytes) else name for name in names.tolist())


def _read(path: epath.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file that are there; what it claims without holding it takes no memory."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            there = {member.filename: member for member in archive.infolist()}
            found = [name for name in _NAMES if f"{name}.npy" in there]
            return {name: _read_member(archive, there[f"{name}.npy"]) for name in found}
    # Damaged archives make the readers of zip, deflate and of NumPy's headers raise almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no complete .npz file of plain arrays ({reason}); save it again") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
        raise ValueError(f"{member.filename} is encrypted, or packed by a method that np.savez does not use")
    if member.file_size > _MOST_DEFLATED * (member.compress_size + 1):
        raise ValueError(f"{member.filename} claims {member.file_size} bytes, packed in {member.compress_size}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded, they hold a pickle")
        size = math.prod(shape) * dtype.itemsize
        if size != member.file_size - file.tell() or not dtype.itemsize:
            raise ValueError(f"{member.filename} is {dtype} {list(shape)} in {member.file_size} bytes")
        array = np.empty(size, np.uint8)
        rest = memoryview(array)
        while count := file.readinto(rest[:_CHUNK]):  # in parts, as each is copied
            rest = rest[count:]
        if len(rest):
            raise ValueError(f"{member.filename} ends {len(rest)} bytes too early")
    return array.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def load_split_npz(
    *,
    split: str,
    data_dir=None,
    limit: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Dataset:
    """Returns `load_npz(data_dir/<split>.npz)`.

    Raises:
      ValueError: no `data_dir` was given, or as `load_npz`.
      FileNotFoundError: there is no file of the split's name.
    """
    if not data_dir:
        raise ValueError("npz needs data_dir=, a folder with the files train.npz, validation.npz and test.npz")
    root = epath.Path(data_dir)
    dataset = load_npz(root / f"{split}.npz", split=split, limit=limit, mean=mean, std=std)
    return dataclasses.replace(dataset, name=root.name)
