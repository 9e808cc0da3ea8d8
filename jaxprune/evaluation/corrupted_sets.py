"""Writes corrupted versions of a data set to disk in CIFAR-10-C's layout, and draws a gallery of them."""

import json
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Key

from jaxprune import corruptions as corruption_room
from jaxprune import evaluation, files
from jaxprune.data import LABELS_FILE, MANIFEST_FILE, Dataset

BATCH_SIZE = 1000
MANIFEST_VERSION = 1
# Says in a picture that this module drew it, in the field that the format has for that; other formats have none.
_DRAWN_BY = "jaxprune, a gallery of corruptions"
_DRAWN_BY_FIELD = {"png": "Software", "pdf": "Creator", "svg": "Creator", "eps": "Creator", "ps": "Creator"}
_ENDS_BYTES = 2**16  # of a file, in which the field lies


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
    The pixels are those that `evaluation.evaluate` generates for `key=jax.random.key(seed)`. Each file is written whole
    or not at all, and files that are there are kept: an interrupted call can be repeated, and several processes that
    write into one folder share the work.

    Args:
      out: the folder, local or `gs://`.
      dataset: the clean images and labels.
      seed: of the corruptions' randomness.
      names: keys of `CORRUPTIONS`.
      severities: integers in 1..5, in the order to stack them.
      preset, post_jpeg, frost_textures: as for `corruptions.corrupt`; the textures' provenance is written down.
      on_test_set: called with (name, severity) after each of them, also for those that are found.

    Raises:
      ValueError: an empty path, an unknown name or severity, no images, a folder that holds other images, seeds or
        severities, or a damaged file in it.
      FileExistsError: the folder holds arrays, and no `jaxprune.json` that says what they are.
    """
    evaluation.check_corruptions(names, severities)
    if not len(dataset):
        raise ValueError(f"data set {dataset.name!r} ({dataset.split}) has no images to corrupt")
    out = files.check_folder(out, what="folder of corrupted images")
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
    files.tidy(out)
    key = jax.random.key(seed, impl="threefry2x32")
    count = len(severities) * len(dataset)
    options = {"preset": preset, "post_jpeg": post_jpeg, "frost_textures": frost_textures}
    made = set()

    def is_done(name: str) -> bool:
        if name == LABELS_FILE:
            return _is_whole(out / name, (count,), np.int64, content=np.tile(dataset.labels, len(severities)))
        return _is_whole(out / name, (count, *dataset.images.shape[1:]), np.uint8)

    def do(name: str) -> None:
        if name == LABELS_FILE:
            _write_array(out / name, (count,), np.int64, [np.tile(dataset.labels, len(severities))])
            return
        corruption = name.removesuffix(".npy")
        pixels = _pixels(key, dataset, corruption, severities, options, on_test_set)
        _write_array(out / name, (count, *dataset.images.shape[1:]), np.uint8, pixels)
        made.add(corruption)

    arrays = [LABELS_FILE, *(f"{name}.npy" for name in names)]
    files.do_each(out, arrays, name=str, is_done=is_done, do=do)
    if on_test_set is not None:
        for name in names:
            for severity in severities if name not in made else ():
                on_test_set(name, severity)
    return out


def _pixels(key, dataset, name, severities, options, on_test_set) -> Iterator[np.ndarray]:
    for severity in severities:
        set_key = evaluation.test_set_key(key, name, severity)
        for start in range(0, len(dataset), BATCH_SIZE):
            images = dataset.images[start : start + BATCH_SIZE]
            yield corruption_room.corrupt(set_key, images, name=name, severity=severity, first_index=start, **options)
        if on_test_set is not None:
            on_test_set(name, severity)


def _claim(out: epath.Path, manifest: dict) -> None:
    """Writes the manifest into a folder without arrays, or checks that the one that is there says the same."""
    # Asked before the manifest is, because another process may be beginning with both.
    known = [LABELS_FILE, *(f"{name}.npy" for name in corruption_room.CORRUPTIONS)]
    arrays = [name for name in known if files.is_there(out / name)]
    path = out / MANIFEST_FILE
    if not files.is_there(path):
        if arrays:
            raise FileExistsError(
                f"{out / arrays[0]} exists already, and no {MANIFEST_FILE} beside it says that jaxprune wrote it; "
                f"choose another folder, or move away what is there"
            )
        try:
            files.write(path, json.dumps(manifest, indent=2) + "\n", exclusive=True)
        except FileExistsError:
            pass  # another process was quicker
        else:
            return
    found = _read_manifest(path)
    different = [field for field in manifest if found.get(field) != manifest[field]]
    if different:
        field = different[0]
        raise ValueError(
            f"{out} holds corrupted images of another kind ({field}: {found.get(field)} there, {manifest[field]} "
            f"asked for); choose another folder, or delete it"
        )


def _read_manifest(path: epath.Path) -> dict:
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__} where a JSON object is needed")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}), so that nobody knows what the images beside it are; choose another folder, "
            f"or delete this one"
        ) from None
    return found


def _is_whole(path: epath.Path, shape: tuple[int, ...], dtype, *, content: np.ndarray | None = None) -> bool:
    """Returns whether an .npy file is there; a ValueError if it is cut short, another array, or not `content`."""
    if not files.is_there(path):
        return False
    dtype = np.dtype(dtype)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"a header of version {version}")
            found, is_fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
            needed, size_bytes = file.tell() + math.prod(shape) * dtype.itemsize, path.stat().length
            if (found, is_fortran, found_dtype) != (shape, False, dtype):
                raise ValueError(f"{found_dtype} {list(found)} where {dtype} {list(shape)} is needed")
            if size_bytes != needed:
                raise ValueError(f"{size_bytes} bytes of {needed}")
            if content is not None and not np.array_equal(np.frombuffer(file.read(), dtype), content):
                raise ValueError("other values than those of the data set")
    # Damaged headers make NumPy and its tokenizer raise several kinds.
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}); delete that file, and the same call writes it again") from error
    return True


def _write_array(path: epath.Path, shape: tuple[int, ...], dtype, pieces) -> None:
    """Writes an .npy file piece by piece, so that memory holds one piece at a time."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with files.writing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).tobytes())
    # Left by a process that was killed before temporary names were unique.
    (path.parent / f".{path.name}.tmp").unlink(missing_ok=True)


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
      path: where the picture goes; its ending names the format, such as `.png`. A picture that this function drew
        there, as PNG, PDF, SVG or PostScript, is replaced.
      names: keys of `CORRUPTIONS`.
      severities: integers in 1..5.
      **options: `preset`, `post_jpeg` and `frost_textures`, as for `corruptions.corrupt`.

    Raises:
      ValueError: an unknown name, severity or format, or an empty path.
      FileExistsError: another file is there.
    """
    from matplotlib.figure import Figure

    evaluation.check_corruptions(names, severities)
    path, columns = files.check_output(path, what="gallery", is_ours=_is_gallery), len(severities) + 1
    kind = path.suffix.removeprefix(".").lower() or "png"
    known = Figure().canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"no pictures can be written as {path.suffix}; known: {', '.join(sorted(known))}")
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
    field = _DRAWN_BY_FIELD.get(kind)
    about = {} if field is None else {"metadata": {field: _DRAWN_BY}}
    with files.writing(path) as file:
        figure.savefig(file, format=kind, **about)
    return path


def _is_gallery(path: epath.Path) -> bool:
    """Returns whether a file says that `draw_gallery` drew it."""
    if path.is_dir() or not path.exists():
        return False
    with path.open("rb") as file:
        begin = file.read(_ENDS_BYTES)
        file.seek(max(0, path.stat().length - _ENDS_BYTES))
        return _DRAWN_BY.encode() in begin or _DRAWN_BY.encode() in file.read(_ENDS_BYTES)
