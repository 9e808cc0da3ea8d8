"""Folders of images, one sub-folder per class, and the decoding and resizing that all image files share."""

import collections
import dataclasses
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent import futures

import numpy as np
from etils import epath

from jaxprune.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Dataset, check_limit
from jaxprune.files.images import ENDINGS, read_rgb

SPLITS = ("train", "validation", "test")
_SHOWN = 5  # as many names or sizes an error lists
# What systems and programs put beside a user's files, besides everything that begins with a dot: folders of thumbnails
# and of metadata, and Windows' caches.
_SYSTEM_NAMES = ("__macosx", "@eadir", "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db")
# What lies beside images and is none: notes, annotations, check sums, lists.
_NO_IMAGES = frozenset(
    ".csv .htm .html .json .log .mat .md .md5 .npy .pdf .sha256 .tsv .txt .xml .yaml .yml".split()  # noqa: SIM905
)


def load_image_folder(
    path,
    *,
    image_size: int | None = None,
    crop_fraction: float = 1.0,
    class_names: Sequence[str] | None = None,
    split: str = "unnamed",
    limit: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    num_threads: int | None = None,
) -> Dataset:
    """Returns the images of a folder with one sub-folder per class, as RGB, ordered by class and file name.

    Images are found at any depth below their class, by these endings: .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pbm, .pgm,
    .png, .pnm, .ppm, .tif, .tiff and .webp. What is hidden (`.ipynb_checkpoints`, `._cat.png`) or a system's own
    (`__MACOSX`, `Thumbs.db`) is no part of the set; other files are not read, and a warning counts them by ending
    unless they are text or the like. Images are turned as their EXIF orientation says; greyscale, palette and 16-bit
    ones become 8-bit RGB; an alpha channel is dropped; of an animation or of several pages the first is taken. `resize`
    describes how they get `image_size`.

    Args:
      path: the folder, local or `gs://`.
      image_size: side of the square images returned; None needs images of equal sizes and keeps them as they are.
      crop_fraction: which part of the resized image's shorter side the centre crop keeps; 0.875 with image_size=224
        is the usual evaluation of ImageNet networks (256, then 224).
      class_names: the classes in the order of another set's labels; by default the sub-folders' names, sorted.
      split: what the images are for; functions that fit refuse "test".
      limit: read the first `limit` images only.
      mean, std: per-channel normalisation; by default ImageNet's.
      num_threads: of the decoding; by default one per processor.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: no or empty classes, classes that `class_names` lacks, an unreadable image, images of several
        sizes without `image_size`, a negative limit.
    """
    check_limit(limit)
    files, labels, names = list_image_folder(path, class_names=class_names)
    files, labels = files[:limit], labels[:limit]
    decode = functools.partial(read_image, image_size=image_size, crop_fraction=crop_fraction)
    images, sizes = np.zeros((0, image_size or 0, image_size or 0, 3), np.uint8), collections.Counter()
    with futures.ThreadPoolExecutor(num_threads or os.cpu_count()) as threads:
        for index, image in enumerate(threads.map(decode, files)):
            if index == 0:
                images = np.empty((len(files), *image.shape), np.uint8)
            sizes[image.shape[:2]] += 1
            if len(sizes) == 1:
                images[index] = image
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes.most_common(_SHOWN))
        raise ValueError(
            f"{path} holds images of {len(sizes)} sizes: {listed}{', ...' if len(sizes) > _SHOWN else ''}; give "
            f"image_size= to resize them to squares"
        )
    return Dataset(
        images=images,
        labels=labels,
        class_names=names,
        name=epath.Path(path).name,
        split=split,
        mean=mean,
        std=std,
    )


def load_split_folder(
    *,
    split: str,
    data_dir=None,
    limit: int | None = None,
    image_size: int | None = None,
    crop_fraction: float = 1.0,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Dataset:
    """Returns `load_image_folder(data_dir/<split>)`; the classes of `data_dir/train`, if there, order all splits.

    Raises:
      ValueError: no `data_dir` was given, or as `load_image_folder`.
      FileNotFoundError: there is no sub-folder of the split's name.
    """
    if not data_dir:
        raise ValueError("image_folder needs data_dir=, a folder with the sub-folders train, validation and test")
    root = epath.Path(data_dir)
    if not (root / split).exists():
        there = [name for name in SPLITS if (root / name).exists()]
        raise FileNotFoundError(
            f"{root} has no sub-folder {split!r}; it has {', '.join(there) or 'none of train, validation, test'}; for "
            f"one folder of classes call data.load_image_folder(path)"
        )
    dataset = load_image_folder(
        root / split,
        image_size=image_size,
        crop_fraction=crop_fraction,
        class_names=_class_folders(root / "train") if (root / "train").exists() else None,
        split=split,
        limit=limit,
        mean=mean,
        std=std,
    )
    return dataclasses.replace(dataset, name=root.name)


def list_image_folder(path, *, class_names: Sequence[str] | None = None):
    """Returns the image files, their labels (int32) and the class names of a folder of class folders.

    Raises: as `load_image_folder`.
    """
    root = epath.Path(path)
    if not root.exists():
        raise FileNotFoundError(f"no folder at {root}; give one that holds one sub-folder of images per class")
    found = _class_folders(root)
    beside = collections.Counter(_ending(file) for file in root.iterdir() if not _is_hidden(file) and not file.is_dir())
    if not found:
        raise ValueError(
            f"{root} has no sub-folders; it needs one per class, with that class's images (it holds "
            f"{_counts(beside) or 'no files'})"
        )
    names = tuple(class_names) if class_names is not None else found
    unknown = [name for name in found if name not in names]
    if unknown:
        raise ValueError(
            f"{root} holds classes that class_names lacks: {_shorten(unknown)}; class_names are {_shorten(names)}"
        )
    files, labels = [], []
    unread = collections.Counter()
    for ending in beside:
        if ending not in _NO_IMAGES:
            unread[f"{ending or 'without ending'} beside the classes"] = beside[ending]
    for label, name in enumerate(names):
        below = list(_files_below(root / name)) if name in found else []
        inside = sorted((file for file in below if _ending(file) in ENDINGS), key=os.fspath)
        others = collections.Counter(_ending(file) for file in below if _ending(file) not in ENDINGS)
        if not inside and name in found:
            raise ValueError(
                f"class {name!r} of {root} has no images ({', '.join(ENDINGS)}); it holds "
                f"{_counts(others) or 'no files'}; remove the sub-folder or fill it"
            )
        files += inside
        labels += [label] * len(inside)
        unread.update({ending: count for ending, count in others.items() if ending not in _NO_IMAGES})
    if unread:
        warnings.warn(
            f"{root}: {unread.total()} files were not read ({_counts(unread)}); a class's images are the files in its "
            f"sub-folder that end in {', '.join(ENDINGS)}",
            stacklevel=3,
        )
    return files, np.array(labels, np.int32), names


def _files_below(folder: epath.Path) -> Iterator[epath.Path]:
    for entry in folder.iterdir():
        if _is_hidden(entry):
            continue
        # Asking whether it is a folder takes time, in buckets above all.
        if _ending(entry) not in ENDINGS and entry.is_dir():
            yield from _files_below(entry)
        else:
            yield entry


def _ending(file: epath.Path) -> str:
    return file.suffix.lower()


def _is_hidden(entry: epath.Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _SYSTEM_NAMES


def _counts(endings: collections.Counter) -> str:
    """Returns how many files of which endings, such as ".heic 12, .avif 2"."""
    by_count = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return _shorten([f"{ending or 'without ending'} {count}" for ending, count in by_count])


def read_image(path, *, image_size: int | None = None, crop_fraction: float = 1.0) -> np.ndarray:
    """Returns one image file as uint8 RGB [H, W, 3], resized if `image_size` is given.

    Raises: as `read_rgb`.
    """
    image = read_rgb(path)
    return np.asarray(image if image_size is None else resize(image, image_size, crop_fraction))


def resize(image, image_size: int, crop_fraction: float = 1.0):
    """Returns a Pillow image as a square of `image_size`: its shorter side resized, then the centre cropped.

    The shorter side becomes `round(image_size / crop_fraction)`, the longer one keeps the shape (rounded down), by
    Pillow's antialiased bilinear filter; the crop lies in the middle, half a pixel to the left and top of it if need
    be. An image that has the size already is not changed.

    Raises:
      ValueError: image_size < 1, or crop_fraction outside (0, 1].
    """
    from PIL import Image

    if image_size < 1 or not 0 < crop_fraction <= 1:
        raise ValueError(
            f"image_size={image_size}, crop_fraction={crop_fraction}; the size must be >= 1, the fraction in (0, 1]"
        )
    shorter, target = min(image.size), round(image_size / crop_fraction)
    width, height = (side * target // shorter for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    return image.crop((left, top, left + image_size, top + image_size))


def _class_folders(root: epath.Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in root.iterdir() if not _is_hidden(entry) and entry.is_dir()))


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", ... ({len(names)})" if len(names) > _SHOWN else "")
