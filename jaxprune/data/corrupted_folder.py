"""Folders in the layout of CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019)."""

import json
import os
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxprune.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, CIFAR100_MEAN, CIFAR100_STD, Dataset, check_limit

LABELS_FILE, MANIFEST_FILE = "labels.npy", "jaxprune.json"
_OFFICIAL_SEVERITIES = (1, 2, 3, 4, 5)


def corrupted_folder_contents(path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the names of the corruptions (sorted) and the severities that a folder of `<name>.npy` files holds.

    The official folders have 19 names, the 15 common corruptions and 4 extra ones; all severities of a name are in
    its one file.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no folder at {path}; give the unpacked CIFAR-10-C or CIFAR-100-C")
    names = sorted(file.stem for file in path.glob("*.npy") if file.name != LABELS_FILE)
    return tuple(names), tuple(_manifest(path).get("severities", _OFFICIAL_SEVERITIES))


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
      FileNotFoundError: the folder has no such file.
      ValueError: a severity that is not there, arrays of another type, labels that do not repeat per severity, or a
        negative limit.
    """
    path = epath.Path(path)
    present, severities = corrupted_folder_contents(path) if path.exists() else ((), ())
    if name not in present or not (path / LABELS_FILE).exists():
        raise FileNotFoundError(
            f"{path} holds no {name}.npy with a {LABELS_FILE}; it holds {', '.join(present) or 'no corrupted images'}"
        )
    if severity not in severities:
        raise ValueError(f"severity {severity!r} is not in {path}, which holds {', '.join(map(str, severities))}")
    check_limit(limit)
    images, labels = _open(path / f"{name}.npy"), _open(path / LABELS_FILE)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) % len(severities):
        raise ValueError(
            f"{path / name}.npy is {images.dtype} {list(images.shape)}; "
            f"expected uint8 [{len(severities)} * N, H, W, C], the severities stacked"
        )
    count = len(images) // len(severities)
    labels = _labels_of_one_severity(path, name, labels, count)
    start = severities.index(severity) * count
    stop = start + (count if limit is None else min(limit, count))
    manifest = _manifest(path)
    if class_names is None:
        class_names = manifest.get("class_names") or _class_names(int(labels.max(initial=-1)))
    is_cifar100 = tuple(class_names) == CIFAR100_CLASSES
    return Dataset(
        images=np.array(images[start:stop]),
        labels=labels[: stop - start].astype(np.int32),
        class_names=tuple(class_names),
        name=f"{manifest.get('dataset', path.name)}/{name}/{severity}",
        split="test",
        mean=CIFAR100_MEAN if is_cifar100 else CIFAR10_MEAN,
        std=CIFAR100_STD if is_cifar100 else CIFAR10_STD,
    )


def _labels_of_one_severity(path: epath.Path, name: str, labels: np.ndarray, count: int) -> np.ndarray:
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
                return np.load(file, allow_pickle=False)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no complete .npy file ({error}); copy it again") from error


def _manifest(path: epath.Path) -> dict:
    return json.loads((path / MANIFEST_FILE).read_text()) if (path / MANIFEST_FILE).exists() else {}


def _class_names(largest_label: int) -> tuple[str, ...]:
    if largest_label < len(CIFAR10_CLASSES):
        return CIFAR10_CLASSES
    if largest_label == len(CIFAR100_CLASSES) - 1:
        return CIFAR100_CLASSES
    return tuple(str(label) for label in range(largest_label + 1))
