"""The images of a run folder: exemplars and a gallery of corrupted images, where the study has written them.

`images.npz` in the run folder may hold:

    index            int [k]: places in the test set of the images that are shown as exemplars
    images           uint8 [k, height, width, channels]: those images, clean
    class_names      str [classes]
    gallery_index    int [m]: places in the test set of the images of the gallery
    gallery_sets     str [t]: its test sets, `clean-0` or `<corruption>-<severity>`
    gallery_images   uint8 [m, t, height, width, channels]: those images as the networks saw them
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxprune import files
from jaxprune.files import npz

FILE = "images.npz"
_DIMENSIONS = {"index": 1, "images": 4, "class_names": 1, "gallery_index": 1, "gallery_sets": 1, "gallery_images": 5}
# Of those of a method that differ, the most that are shown.
MAX_EXEMPLARS = 24


class Pictures(NamedTuple):
    """What `images.npz` holds; empty where it does not exist."""

    exemplars: dict[int, np.ndarray]
    gallery: dict[tuple[int, str], np.ndarray]
    class_names: tuple[str, ...]


def class_name(label: int, class_names: Sequence[str]) -> str:
    """Returns the name of a class, or its number where it has none."""
    return class_names[label] if label < len(class_names) else f"class {label}"


def read(run_dir: epath.PathLike | None) -> Pictures:
    """Returns the pictures of a run folder. Raises `ValueError` if the file is damaged or its arrays do not fit."""
    path = None if run_dir is None else epath.Path(run_dir) / FILE
    if path is None or not path.exists():
        return Pictures({}, {}, ())
    content = npz.read(path, cure="delete it, the report is written without images then")
    _check(content, path)
    exemplars = dict(zip(map(int, content.get("index", ())), content.get("images", ()), strict=True))
    sets = [str(name) for name in content.get("gallery_sets", ())]
    gallery = {
        (int(index), name): image
        for index, row in zip(content.get("gallery_index", ()), content.get("gallery_images", ()), strict=True)
        for name, image in zip(sets, row, strict=True)
    }
    return Pictures(exemplars, gallery, tuple(str(name) for name in content.get("class_names", ())))


def write(
    run_dir: epath.PathLike,
    exemplars: Mapping[int, np.ndarray],
    gallery: Mapping[tuple[int, str], np.ndarray],
    class_names,
) -> None:
    """Writes the pictures of a run folder; the gallery must hold every one of its images in each of its test sets."""
    places, sets = (list(dict.fromkeys(keys)) for keys in zip(*gallery, strict=True)) if gallery else ([], [])
    images = np.asarray(list(exemplars.values()), np.uint8)
    shape = images.shape[1:] if len(images) else (0, 0, 3)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        index=np.asarray(list(exemplars), np.int64),
        images=images.reshape(len(exemplars), *shape),
        class_names=np.asarray(class_names),
        gallery_index=np.asarray(places, np.int64),
        gallery_sets=np.asarray(sets),
        gallery_images=np.asarray(list(gallery.values()), np.uint8).reshape(len(places), len(sets), *shape),
    )
    files.write(epath.Path(run_dir) / FILE, buffer.getvalue())


def _check(content: dict[str, Any], path: epath.Path) -> None:
    shapes = {name: array.shape for name, array in content.items()}
    is_fitting = all(array.ndim == _DIMENSIONS.get(name) for name, array in content.items())
    if is_fitting:
        images, gallery = shapes.get("images", (0,)), shapes.get("gallery_images", (0, 0))
        lengths = [shapes.get(name, (0,))[0] for name in ("index", "gallery_index", "gallery_sets")]
        pixels = [content[name] for name in ("images", "gallery_images") if name in content]
        places = [content[name] for name in ("index", "gallery_index") if name in content]
        is_fitting = lengths == [images[0], *gallery[:2]] and all(
            [
                *(each.dtype == np.uint8 and each.shape[-1] in (1, 3) for each in pixels),
                *(each.dtype.kind == "i" for each in places),
            ]
        )
    if not is_fitting:
        listed = {name: list(shape) for name, shape in shapes.items()}
        raise ValueError(f"{path} holds arrays that do not fit each other, {listed}; see jaxprune.results.images")
