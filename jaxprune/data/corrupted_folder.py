"""Folders in the layout of CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019)."""

import json

import numpy as np
from etils import epath

from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, Dataset

LABELS_FILE, MANIFEST_FILE = "labels.npy", "jaxprune.json"
_OFFICIAL_SEVERITIES = (1, 2, 3, 4, 5)
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_cifar_c(path, *, name: str, severity: int, limit: int | None = None) -> Dataset:
    """Returns one corruption at one severity from a folder of `<name>.npy` files with the severities stacked.

    Reads the official files and those that `jaxprune corrupt` writes; the latter's `jaxprune.json` says which
    severities are there. Only the asked-for part is read. No pickle is ever loaded.

    Args:
      path: the folder that holds `<name>.npy` and `labels.npy`.
      name: the file's stem, such as "fog".
      severity: 1 to 5.
      limit: read the first `limit` images of that severity only.

    Raises:
      FileNotFoundError: the folder has no such file.
      ValueError: a severity that is not there, arrays of another type, or labels that do not repeat per severity.
    """
    path = epath.Path(path)
    present = sorted(file.stem for file in path.glob("*.npy") if file.name != LABELS_FILE) if path.exists() else []
    if name not in present or not (path / LABELS_FILE).exists():
        raise FileNotFoundError(
            f"{path} holds no {name}.npy with a {LABELS_FILE}; it holds {', '.join(present) or 'no corrupted images'}"
        )
    manifest = json.loads((path / MANIFEST_FILE).read_text()) if (path / MANIFEST_FILE).exists() else {}
    severities = tuple(manifest.get("severities", _OFFICIAL_SEVERITIES))
    if severity not in severities:
        raise ValueError(f"severity {severity!r} is not in {path}, which holds {', '.join(map(str, severities))}")
    images, labels = _open(path / f"{name}.npy"), _open(path / LABELS_FILE)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) % len(severities):
        raise ValueError(
            f"{path / name}.npy is {images.dtype} {list(images.shape)}; "
            f"expected uint8 [{len(severities)} * N, H, W, C], the severities stacked"
        )
    count = len(images) // len(severities)
    blocks = np.asarray(labels).reshape(-1, count) if labels.size % count == 0 else labels[None]
    if blocks.shape[1] != count or (blocks != blocks[:1]).any():
        raise ValueError(f"{path / LABELS_FILE} does not repeat {count} labels once per severity, as {name}.npy needs")
    start = severities.index(severity) * count
    stop = start + (count if limit is None else min(limit, count))
    class_names = tuple(manifest.get("class_names") or _class_names(int(labels.max())))
    return Dataset(
        images=np.array(images[start:stop]),
        labels=blocks[0, : stop - start].astype(np.int32),
        class_names=class_names,
        name=f"{manifest.get('dataset', path.name)}/{name}/{severity}",
        split="test",
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    )


def _open(path: epath.Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no complete .npy file ({error}); copy it again") from error


def _class_names(largest_label: int) -> tuple[str, ...]:
    if largest_label < len(_CIFAR10_CLASSES):
        return _CIFAR10_CLASSES
    return tuple(str(label) for label in range(largest_label + 1))
