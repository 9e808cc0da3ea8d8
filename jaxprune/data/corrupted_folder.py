"""Folders in the layout of CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019)."""

import json
import os
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxprune.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from jaxprune.data.dataset import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    CIFAR100_MEAN,
    CIFAR100_STD,
    Dataset,
    check_limit,
    numbered_classes,
)
from jaxprune.names import SEVERITIES

LABELS_FILE, MANIFEST_FILE = "labels.npy", "jaxprune.json"
_ENDING = ".npy"


def corrupted_folder_contents(path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the names of the corruptions (sorted) and the severities that a folder of `<name>.npy` files holds.

    The official folders have 19 names, the 15 common corruptions and 4 extra ones; all severities of a name are in
    its one file.

    Raises:
      FileNotFoundError: there is no such folder, or it holds no corrupted images.
      ValueError: its `jaxprune.json` is damaged.
    """
    path = epath.Path(path)
    # Not by a pattern: the folder's own name may have brackets in it.
    files = [file for file in path.iterdir() if file.suffix == _ENDING] if path.is_dir() else []
    names = sorted(file.stem for file in files if file.name != LABELS_FILE and not file.name.startswith("."))
    if not names:
        lack = f"no <corruption>{_ENDING} is there" if path.is_dir() else "there is no such folder"
        raise FileNotFoundError(
            f"{path} holds no corrupted images: {lack}; give the unpacked CIFAR-10-C or CIFAR-100-C, or a folder that "
            f"jaxprune corrupt wrote"
        )
    return tuple(names), tuple(_manifest(path)["severities"])


def load_cifar_c(
    path, *, name: str, severity: int, limit: int | None = None, class_names: Sequence[str] | None = None
) -> Dataset:
    """Returns one corruption at one severity from a folder of `<name>.npy` files with the severities stacked.

    Reads the official files and those that `jaxprune corrupt` writes; the latter's `jaxprune.json` says which
    severities are there. Only the asked-for part is read. No pickle is ever loaded.

    Args:
      path: the folder that holds `<name>.npy` and `labels.npy`.
      name: the file's stem, such as "fog"; `corrupted_folder_contents` lists those that are there.
      severity: 1 to 5.
      limit: read the first `limit` images of that severity only.
      class_names: by default those that `jaxprune.json` names, else CIFAR-10's for labels below 10 and CIFAR-100's
        for labels up to 99, else the numbers.

    Raises:
      FileNotFoundError: there is no such folder, or it has no such file.
      ValueError: a severity that is not there, arrays of another type, labels that are no integers or do not repeat
        per severity, a damaged `jaxprune.json`, or a negative limit.
    """
    path = epath.Path(path)
    check_limit(limit)
    images, severities = _images(path, name)
    if severity not in severities:
        raise ValueError(f"severity {severity!r} is not in {path}, which holds {', '.join(map(str, severities))}")
    count = len(images) // len(severities)
    labels = _labels_of_one_severity(path, name, count)
    start = severities.index(severity) * count
    stop = start + (count if limit is None else min(limit, count))
    manifest = _manifest(path)
    if class_names is None:
        class_names = manifest["class_names"] or _class_names(labels, path)
    is_cifar100 = tuple(class_names) == CIFAR100_CLASSES
    return Dataset(
        images=np.array(images[start:stop]),
        labels=labels[: stop - start],
        class_names=tuple(class_names),
        name=f"{manifest['dataset']}/{name}/{severity}",
        split="test",
        mean=CIFAR100_MEAN if is_cifar100 else CIFAR10_MEAN,
        std=CIFAR100_STD if is_cifar100 else CIFAR10_STD,
    )


def load_cifar_c_labels(path, *, name: str, limit: int | None = None) -> np.ndarray:
    """Returns the labels of the images that `load_cifar_c` returns for every severity, without reading an image.

    Raises: as `load_cifar_c`.
    """
    path = epath.Path(path)
    check_limit(limit)
    images, severities = _images(path, name)
    return _labels_of_one_severity(path, name, len(images) // len(severities))[:limit]


def _images(path: epath.Path, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns the images of all severities of a name, not read yet, and those severities."""
    present, severities = corrupted_folder_contents(path)
    if name not in present or not (path / LABELS_FILE).exists():
        raise FileNotFoundError(f"{path} holds no {name}{_ENDING} with a {LABELS_FILE}; it holds {', '.join(present)}")
    images = _open(path / f"{name}{_ENDING}")
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) % len(severities):
        raise ValueError(
            f"{path / name}{_ENDING} is {images.dtype} {list(images.shape)}; "
            f"expected uint8 [{len(severities)} * N, H, W, C], the severities stacked"
        )
    return images, severities


def _labels_of_one_severity(path: epath.Path, name: str, count: int) -> np.ndarray:
    labels = _open(path / LABELS_FILE)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{path / LABELS_FILE} is {labels.dtype} {list(labels.shape)}; expected integers")
    repeats = bool(count) and labels.size > 0 and labels.size % count == 0
    if not repeats or (labels.reshape(-1, count) != labels.reshape(-1, count)[:1]).any():
        raise ValueError(f"{path / LABELS_FILE} does not repeat {count} labels once per severity, as {name}.npy needs")
    return np.asarray(labels).reshape(-1)[:count]


def _open(path: epath.Path) -> np.ndarray:
    try:
        if "://" in os.fspath(path):  # a bucket cannot be mapped into memory
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        # Mapped, a file that claims more than it holds is refused before anything of that size is made.
        return np.lib.format.open_memmap(path, mode="r")
    # Damaged headers make NumPy's parser raise almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no complete .npy file ({reason}); copy it again") from error


def _manifest(path: epath.Path) -> dict:
    """Returns the data set, severities and class names (None where unknown) that `jaxprune.json` or the layout says."""
    file = path / MANIFEST_FILE
    try:
        found = json.loads(file.read_text()) if file.exists() else {}
        about = {"dataset": path.name, "severities": SEVERITIES, "class_names": None} | found
        severities, names = about["severities"], about["class_names"]
        are_severities = all(type(each) is int and each in SEVERITIES for each in severities)
        if not are_severities or not len(set(severities)) == len(severities) > 0:
            raise ValueError(f"severities are {str(severities)[:80]}, not some of {', '.join(map(str, SEVERITIES))}")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"class_names are {str(names)[:80]}, not a list of names")
        return about
    except (ValueError, TypeError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is damaged ({reason}); copy it again, or write the folder anew") from error


def _class_names(labels: np.ndarray, path: epath.Path) -> tuple[str, ...]:
    largest = int(labels.max(initial=0))
    if largest < len(CIFAR10_CLASSES):
        return CIFAR10_CLASSES
    if largest == len(CIFAR100_CLASSES) - 1:
        return CIFAR100_CLASSES
    return numbered_classes(labels, os.fspath(path / LABELS_FILE))
