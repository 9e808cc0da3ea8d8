"""`jaxprune corrupt`: a folder in CIFAR-10-C's layout, or a picture of the corruptions."""

import dataclasses
import sys

import numpy as np

from jaxprune import data, evaluation, files, randomness
from jaxprune.cli import options
from jaxprune.cli.progress import count_test_sets, progress_bar
from jaxprune.corruptions import COMMON_CORRUPTIONS, CORRUPTIONS, FrostTextures
from jaxprune.evaluation import corrupted_sets
from jaxprune.files.images import read_rgb


@dataclasses.dataclass
class Corrupt:
    """Write corrupted versions of a data set in CIFAR-10-C's layout (--out), or a picture of them (--preview)."""

    dataset: str = "digits"
    """A data set name, such as cifar10 or digits."""
    out: str | None = None
    """The folder to write; what this command wrote there already is kept, anything else refused."""
    preview: str | None = None
    """Draw one image under every corruption and severity into this file instead; replaces another preview only."""
    names: tuple[str, ...] | None = None
    """Corruptions; by default the 15 common ones, for a preview all."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    preset: str | None = None
    """Whose constants: cifar, tiny_imagenet or imagenet; by default by the images' size."""
    post_jpeg: int | None = None
    """Re-encode at this JPEG quality, as the released Tiny-ImageNet-C and ImageNet-C files were (85)."""
    frost_textures: str = "procedural"
    """What frost is cropped from: procedural, imagecorruptions (that package's files) or a directory."""
    data_dir: str | None = None
    """Where prepared data lies."""
    split: str = "test"
    limit: int | None = None
    """Use the first so many images."""
    index: int = 0
    """Which image of the data set a preview shows."""
    image: str | None = None
    """An image file that a preview shows instead."""
    seed: int = 0
    """Of the corruptions' randomness."""


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parsed = options.parse(Corrupt, "corrupt", arguments)
    if (parsed.out is None) == (parsed.preview is None):
        raise ValueError("jaxprune corrupt needs either --out DIR (write images) or --preview FILE.png (draw one)")
    is_preview, key = parsed.preview is not None, randomness.seed_key(parsed.seed)
    if is_preview:
        where = files.named(parsed.preview, what="gallery")
    else:
        where = files.check_folder(parsed.out, what="folder of corrupted images")
    names = tuple(parsed.names or (CORRUPTIONS if is_preview else COMMON_CORRUPTIONS))
    evaluation.check_corruptions(names, parsed.severities)
    how = {
        "names": names,
        "severities": parsed.severities,
        "preset": parsed.preset,
        "post_jpeg": parsed.post_jpeg,
        "frost_textures": FrostTextures.from_name(parsed.frost_textures),
    }
    if is_preview:
        corrupted_sets.draw_gallery(key, _image(parsed), where, **how)
        sys.stdout.write(f"preview: {where}\n")
        return
    dataset = _load(parsed, parsed.limit)
    with progress_bar() as show:
        on_test_set = count_test_sets(show, len(names) * len(parsed.severities))
        corrupted_sets.write(where, dataset, seed=parsed.seed, **how, on_test_set=on_test_set)
    sys.stdout.write(f"corrupted images: {where}\n")


def _load(parsed: Corrupt, limit: int | None) -> data.Dataset:
    return data.load(parsed.dataset, split=parsed.split, data_dir=parsed.data_dir, limit=limit)


def _image(parsed: Corrupt) -> np.ndarray:
    """Returns the image that a preview shows."""
    if parsed.image is not None:
        return np.asarray(read_rgb(parsed.image))
    dataset = _load(parsed, parsed.index + 1 if parsed.index >= 0 else 0)
    if not 0 <= parsed.index < len(dataset):
        raise ValueError(
            f"--index {parsed.index} is not in the {parsed.split} split of {parsed.dataset}; give 0 or more"
        )
    return dataset.images[parsed.index]
