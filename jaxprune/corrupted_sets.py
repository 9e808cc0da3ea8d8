"""Writes corrupted versions of a data set to disk in CIFAR-10-C's layout, and draws a gallery of them."""

import json
from collections.abc import Callable, Sequence

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Key

from jaxprune import corruptions as corruption_room
from jaxprune import evaluation
from jaxprune.data import LABELS_FILE, MANIFEST_FILE, Dataset

BATCH_SIZE = 1000
MANIFEST_VERSION = 1


def write(
    out,
    dataset: Dataset,
    *,
    seed: int,
    names: Sequence[str] = corruption_room.COMMON_CORRUPTIONS,
    severities: Sequence[int] = evaluation.SEVERITIES,
    preset: str | None = None,
    post_jpeg: int | None = None,
    frost_textures: corruption_room.FrostTextures | None = None,
    on_test_set: Callable[[str, int], None] | None = None,
) -> epath.Path:
    """Writes `<name>.npy` (uint8 [severities * N, H, W, C], the severities stacked) and `labels.npy`; returns `out`.

    With all five severities the folder has the layout of the official CIFAR-10-C, and `data.load_cifar_c` reads both.
    The pixels are those that `evaluation.evaluate` generates for `key=jax.random.key(seed)`. Each file is written
    under a temporary name and renamed; files that are there are kept, so an interrupted call can be repeated.

    Args:
      out: the folder, local or `gs://`.
      dataset: the clean images and labels.
      seed: of the corruptions' randomness.
      names: keys of `CORRUPTIONS`.
      severities: integers in 1..5, in the order to stack them.
      preset, post_jpeg, frost_textures: as for `corruptions.corrupt`; the textures' provenance is written down.
      on_test_set: called with (name, severity) after each of them, also for those found on disk.

    Raises:
      ValueError: an unknown name or severity, no images, or a folder that holds other images, seeds or severities.
    """
    evaluation.check_corruptions(names, severities)
    if not len(dataset):
        raise ValueError(f"data set {dataset.name!r} ({dataset.split}) has no images to corrupt")
    out = epath.Path(out)
    frost_textures = frost_textures or corruption_room.FrostTextures.procedural()
    manifest = {
        "version": MANIFEST_VERSION,
        "dataset": dataset.name,
        "split": dataset.split,
        "num_images": len(dataset),
        "severities": list(severities),
        "seed": seed,
        "preset": preset,
        "post_jpeg": post_jpeg,
        "frost_textures": frost_textures.provenance,
        "class_names": list(dataset.class_names),
    }
    _claim(out, manifest)
    _write_array(out / LABELS_FILE, (len(severities) * len(dataset),), np.int64, [dataset.labels] * len(severities))
    key = jax.random.key(seed, impl="threefry2x32")
    shape = (len(severities) * len(dataset), *dataset.images.shape[1:])
    options = {"preset": preset, "post_jpeg": post_jpeg, "frost_textures": frost_textures}
    for name in names:
        path = out / f"{name}.npy"
        if not path.exists():
            _write_array(path, shape, np.uint8, _pixels(key, dataset, name, severities, options, on_test_set))
        elif on_test_set is not None:
            for severity in severities:
                on_test_set(name, severity)
    return out


def _pixels(key, dataset, name, severities, options, on_test_set):
    for severity in severities:
        set_key = evaluation.test_set_key(key, name, severity)
        for start in range(0, len(dataset), BATCH_SIZE):
            images = dataset.images[start : start + BATCH_SIZE]
            yield corruption_room.corrupt(set_key, images, name=name, severity=severity, first_index=start, **options)
        if on_test_set is not None:
            on_test_set(name, severity)


def _claim(out: epath.Path, manifest: dict) -> None:
    path = out / MANIFEST_FILE
    if path.exists():
        found = json.loads(path.read_text())
        different = [field for field in manifest if found.get(field) != manifest[field]]
        if different:
            field = different[0]
            raise ValueError(
                f"{out} holds corrupted images of another kind ({field}: {found.get(field)} there, {manifest[field]} "
                f"asked for); choose another folder, or delete it"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{MANIFEST_FILE}.tmp"
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    temporary.replace(path)


def _write_array(path: epath.Path, shape: tuple[int, ...], dtype, pieces) -> None:
    """Writes an .npy file piece by piece, so that memory holds one piece at a time."""
    if path.exists():
        return
    temporary = path.parent / f".{path.name}.tmp"
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).tobytes())
    temporary.replace(path)


def draw_gallery(
    key: Key[Array, ""],
    image: np.ndarray,
    path,
    *,
    names: Sequence[str] = tuple(corruption_room.CORRUPTIONS),
    severities: Sequence[int] = evaluation.SEVERITIES,
    **options,
) -> epath.Path:
    """Writes a picture of one image under every corruption (rows, two columns of them) and severity; returns its path.

    Args:
      key: seeds the corruptions.
      image: uint8 [H, W, C].
      path: where the picture goes; its ending names the format, such as `.png`.
      names: keys of `CORRUPTIONS`.
      severities: integers in 1..5.
      **options: `preset`, `post_jpeg` and `frost_textures`, as for `corruptions.corrupt`.

    Raises:
      ValueError: an unknown name or severity.
    """
    from matplotlib.figure import Figure

    evaluation.check_corruptions(names, severities)
    path, columns = epath.Path(path), len(severities) + 1
    num_rows = -(-(len(names) + 1) // 2)
    figure = Figure(figsize=(2 * (columns + 1.6) * 0.62, num_rows * 0.66), dpi=110)
    grid = figure.add_gridspec(
        num_rows, 2 * columns + 1, wspace=0.04, hspace=0.06, width_ratios=[*[1] * columns, 1.9, *[1] * columns]
    )
    grid.update(left=0.13, right=0.995, top=0.96, bottom=0.01)
    for index, name in enumerate(names):
        half, row = divmod(index, num_rows)
        for column, severity in enumerate((0, *severities)):
            shown = image
            if severity:
                set_key = evaluation.test_set_key(key, name, severity)
                batch = corruption_room.corrupt(set_key, image[None], name=name, severity=severity, **options)
                shown = np.asarray(batch[0])
            axes = figure.add_subplot(grid[row, half * (columns + 1) + column])
            axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if column == 0:
                axes.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=7)
            if row == 0:
                axes.set_title(str(severity) if severity else "clean", fontsize=7, pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png")
    return path
