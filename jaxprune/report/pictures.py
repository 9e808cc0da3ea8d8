"""The images of a run folder: exemplars and a gallery of corrupted images, where the study has written them.

`images.npz` in the run folder, written with `np.savez_compressed`, may hold:

    index            int [k]: places in the test set of the images that are shown as exemplars
    images           uint8 [k, height, width, channels]: those images, clean
    class_names      str [classes]
    gallery_index    int [m]: places in the test set of the images of the gallery
    gallery_sets     str [t]: its test sets, `clean-0` or `<corruption>-<severity>`
    gallery_images   uint8 [m, t, height, width, channels]: those images as the networks saw them

`wanted(run_dir)` says which images these should be, from the rows and outputs of the run.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxprune import names
from jaxprune.files import npz
from jaxprune.report import exemplars

FILE = "images.npz"
_DIMENSIONS = {"index": 1, "images": 4, "class_names": 1, "gallery_index": 1, "gallery_sets": 1, "gallery_images": 5}
MAX_EXEMPLARS, GALLERY_IMAGES, GALLERY_SETS = 24, 4, 7
# Small images are shown enlarged by whole pixels, so that they stay what the network saw.
SHOWN_PIXELS = 96


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


def wanted(run_dir: epath.PathLike) -> dict[str, Any]:
    """Returns which images `images.npz` should hold: `index`, `gallery_index` and `gallery_sets`, as it names them.

    Exemplars are taken from the most pruned network of each method and arm in turn, those first that the dense networks
    had right. Empty where the run kept no outputs per image.
    """
    from jaxprune.report import aggregates, rows
    from jaxprune.report.measurements import ArmResults

    table = aggregates.results(rows.read(epath.Path(run_dir)))
    groups = []
    for of_arm in aggregates.arms(table):
        arm = ArmResults(of_arm[of_arm["corruption"] == names.CLEAN], run_dir, num_resamples=1)
        for variants in arm.pruned().values():
            pairs = (arm.paired_outputs(variant) for variant in reversed(variants))
            dense, pruned = next((pair for pair in pairs if pair[0]), ((), ()))
            if dense:
                predictions = ([each.prediction for each in networks] for networks in (dense, pruned))
                groups.append(exemplars.exemplars_by_interest(*predictions, dense[0].labels))
    index = exemplars.in_turn(groups)
    worst = table["severity"].max()
    corruptions = sorted(set(table.loc[table["severity"] == worst, "corruption"]) - {names.CLEAN})
    step = max(1, -(-len(corruptions) // (GALLERY_SETS - 1)))
    return {
        "index": index[:MAX_EXEMPLARS],
        "gallery_index": index[:GALLERY_IMAGES],
        "gallery_sets": [f"{names.CLEAN}-0", *(f"{name}-{worst}" for name in corruptions[::step])],
    }


def data_uri(image: np.ndarray) -> str:
    """Returns an image `[height, width, channels]` as an address that holds it, a PNG enlarged by whole pixels."""
    from PIL import Image

    factor = max(1, SHOWN_PIXELS // max(image.shape[:2]))
    image = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


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
        raise ValueError(f"{path} holds arrays that do not fit each other, {listed}; see jaxprune.report.pictures")
