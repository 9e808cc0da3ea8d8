"""Data sets in one `.npz` file."""

import dataclasses
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxprune.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Dataset

SPLITS = ("train", "validation", "test")
_CHANNELS = 3


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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            arrays = {name: arrays[name] for name in ("images", "labels", "class_names") if name in arrays}
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no complete .npz file of plain arrays ({error}); save it again") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}; save it with np.savez(path, images=..., labels=...)")
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim == _CHANNELS:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] == 1:
        images = np.repeat(images, _CHANNELS, axis=3)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise TypeError(f"{path}: labels are {labels.dtype} {list(labels.shape)}; give one integer per image, [N]")
    if class_names is None:
        class_names = arrays.get("class_names", [str(label) for label in range(int(labels.max(initial=-1)) + 1)])
    try:
        whole = Dataset(
            images=images,
            labels=labels.astype(np.int32),
            class_names=tuple(str(name) for name in class_names),
            name=path.stem,
            split=split,
            mean=mean,
            std=std,
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
    return whole if limit is None else whole.take(limit)


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
