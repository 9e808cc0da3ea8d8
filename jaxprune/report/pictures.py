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
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils import epath

from jaxprune import npz

if TYPE_CHECKING:  # a study reads the file's name and form from here, without the libraries of a report
    from jaxprune.report.damage import Exemplars

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


def class_names(run_dir: epath.PathLike | None) -> tuple[str, ...]:
    """Returns the names of the classes, or nothing where they are not known."""
    return read(run_dir).class_names


def wanted(run_dir: epath.PathLike) -> dict[str, Any]:
    """Returns which images `images.npz` should hold: `index`, `gallery_index` and `gallery_sets`, as it names them.

    Exemplars are taken from the most pruned network of each method and arm in turn, those first that the dense networks
    had right. Empty where the run kept no outputs per image.
    """
    from jaxprune.report import damage, rows, tables
    from jaxprune.report.evidence import Evidence

    table = tables.results(rows.read(epath.Path(run_dir)))
    queues = []
    for family in tables.families(table):
        evidence = Evidence(family[family["corruption"] == tables.CLEAN], run_dir, num_resamples=1)
        last = {each.network.method: each for each in damage.exemplars(evidence)}
        queues += [ordered(each) for each in last.values()]
    index = list(dict.fromkeys(i for group in itertools.zip_longest(*queues) for i in group if i is not None))
    names = sorted(set(table.loc[table["severity"] == table["severity"].max(), "corruption"]) - {tables.CLEAN})
    step = max(1, -(-len(names) // (GALLERY_SETS - 1)))
    return {
        "index": index[:MAX_EXEMPLARS],
        "gallery_index": index[:GALLERY_IMAGES],
        "gallery_sets": [f"{tables.CLEAN}-0", *(f"{name}-{table['severity'].max()}" for name in names[::step])],
    }


def ordered(exemplars: "Exemplars") -> list[int]:
    """Returns the places of the exemplars in the test set, those first that the dense networks had right."""
    right = exemplars.dense_prediction == exemplars.labels
    return exemplars.index[np.argsort(~right, kind="stable")].tolist()


def data_uri(image: np.ndarray) -> str:
    """Returns an image `[height, width, channels]` as an address that holds it, a PNG enlarged by whole pixels."""
    from PIL import Image

    factor = max(1, SHOWN_PIXELS // max(image.shape[:2]))
    image = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _check(content: dict[str, Any], path: epath.Path) -> None:
    def shape(name: str) -> Sequence[int]:
        return content[name].shape if name in content else (0,)

    images = [content[name] for name in ("images", "gallery_images") if name in content]
    whole = all(each.ndim == _DIMENSIONS.get(name) for name, each in content.items())
    whole = whole and all(each.dtype == np.uint8 and each.shape[-1] in (1, 3) for each in images)
    whole = whole and all(content[name].dtype.kind == "i" for name in ("index", "gallery_index") if name in content)
    fits = whole and shape("index")[0] == shape("images")[0] and shape("gallery_index")[0] == shape("gallery_images")[0]
    fits = fits and shape("gallery_sets")[0] == (shape("gallery_images")[1] if "gallery_images" in content else 0)
    if not fits:
        shapes = {name: list(each.shape) for name, each in content.items()}
        raise ValueError(f"{path} holds arrays that do not fit each other, {shapes}; see jaxprune.report.pictures")
