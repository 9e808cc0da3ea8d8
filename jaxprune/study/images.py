"""`images.npz` of a run folder: the pictures that the report shows, as `jaxprune.report.pictures` describes them."""

import io

import numpy as np
from etils import epath

from jaxprune import corruptions, data, evaluation, files, report
from jaxprune.report import pictures
from jaxprune.study.configuration import StudyConfig
from jaxprune.study.inputs import key_of


def write_images(config: StudyConfig, out: epath.Path, test: data.Dataset, frost_textures) -> None:
    """Writes the exemplars and the gallery that the report of a finished run asks for, unless intact ones are there."""
    if _are_there(out) or not config.evaluation.keep_examples:
        return
    try:
        wanted = report.wanted_images(out)
    except ModuleNotFoundError:
        return  # without the libraries of the report there is nobody to show them to
    gallery = [
        [_pixels(config, test, index, name, frost_textures) for name in wanted["gallery_sets"]]
        for index in wanted["gallery_index"]
    ]
    shape = (len(gallery), len(wanted["gallery_sets"]), *test.image_shape)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        index=np.asarray(wanted["index"], np.int64),
        images=test.images[wanted["index"]],
        class_names=np.asarray(test.class_names),
        gallery_index=np.asarray(wanted["gallery_index"], np.int64),
        gallery_sets=np.asarray(wanted["gallery_sets"]),
        gallery_images=np.asarray(gallery, np.uint8).reshape(shape),
    )
    files.write(out / pictures.FILE, buffer.getvalue())


def _are_there(out: epath.Path) -> bool:
    try:
        return pictures.read(out) != pictures.Pictures({}, {}, ())
    except ValueError:
        return False  # damaged; they follow from the rows and the test images, and are written again


def _pixels(config: StudyConfig, test: data.Dataset, index: int, test_set: str, frost_textures) -> np.ndarray:
    """Returns one image as the networks saw it in a test set, `<corruption>-<severity>`."""
    name, _, severity = test_set.rpartition("-")
    if name == evaluation.CLEAN:
        return test.images[index]
    if config.evaluation.corrupted is not None:
        ((_, read),) = evaluation.folder_test_sets(config.evaluation.corrupted, [name], [int(severity)])
        return read().images[index]
    key = evaluation.test_set_key(key_of(config.evaluation.seed, "corruptions"), name, int(severity))
    image = test.images[index : index + 1]
    options = {"name": name, "severity": int(severity), "first_index": index, "frost_textures": frost_textures}
    return np.asarray(corruptions.corrupt(key, image, **options))[0]
