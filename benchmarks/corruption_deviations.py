"""How far the 19 corruptions are from the float64 oracle on photographs, as the table of `docs/corruptions.md`.

    python benchmarks/corruption_deviations.py                          the table: a few minutes on 2 cores
    python benchmarks/corruption_deviations.py --images FILE.npz ...    with further sets: uint8 arrays [N, S, S, 3]

Both sides get the library's random numbers, and images of 32, 64 and 224 pixels with the constants made for that size.
The photographs are crops of scikit-learn's two, at random places and scales. A cell has three differences of 8-bit
values, each at the severity and in the set of images where it is worst: the largest, the mean, and the mean over the
one image where that is largest. Needs Pillow, SciPy, scikit-learn and opencv-python-headless.
"""

import argparse
import math
from collections.abc import Iterable
from typing import NamedTuple

import corruptions_oracle as oracle
import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from sklearn.datasets import load_sample_images

from jaxprune.corruptions import CORRUPTIONS, to_uint8

SEVERITIES = range(1, 6)
PRESETS = {32: "cifar", 64: "tiny_imagenet", 224: "imagenet"}
# The oracle takes images one by one.
COUNTS = {32: 64, 64: 32, 224: 8}


class Deviation(NamedTuple):
    """Absolute differences of 8-bit values, each at its worst severity."""

    largest: int
    mean: float
    mean_of_worst_image: float

    def __str__(self):
        return f"{self.largest} / {_rounded_up(self.mean)} / {_rounded_up(self.mean_of_worst_image)}"


def _rounded_up(mean: float) -> str:
    return f"{math.ceil(mean * 1000) / 1000:g}"


def photographs(size: int, count: int, seed: int) -> UInt8[np.ndarray, "count size size 3"]:
    """Returns square crops of scikit-learn's two photographs, scaled down to the size from up to the full height."""
    rng = np.random.default_rng(seed)
    sources = load_sample_images().images
    crops = []
    for index in range(count):
        source = sources[index % len(sources)]
        side = rng.integers(size, min(source.shape[:2]), endpoint=True)
        top, left = (rng.integers(0, have - side, endpoint=True) for have in source.shape[:2])
        crop = Image.fromarray(source[top : top + side, left : left + side])
        crops.append(np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(crops)


def measure(name: str, images: UInt8[np.ndarray, "count size size 3"], seed: int) -> Deviation:
    """Returns the deviation of one corruption, over the severities and images."""
    preset = PRESETS[images.shape[1]]

    def draw_and_apply(key, image, severity):
        draws = CORRUPTIONS[name].draw(key, image, severity, preset)
        return draws, to_uint8(CORRUPTIONS[name].apply(image, draws, severity, preset))

    draw_and_apply = jax.jit(jax.vmap(draw_and_apply, (0, 0, None)))
    found = []
    for severity in SEVERITIES:
        keys = jax.random.split(jax.random.key(seed + severity), len(images))
        given = images.astype(np.float32) / 255
        draws, actual = jax.device_get(draw_and_apply(keys, given, severity))
        expected = [
            oracle.apply(name, image, jax.tree.map(lambda array, index=index: array[index], draws), severity, preset)
            for index, image in enumerate(images)
        ]
        difference = np.abs(actual.astype(int) - np.stack(expected))
        means = difference.mean(axis=(1, 2, 3))
        found.append(Deviation(int(difference.max()), float(means.mean()), float(means.max())))
    return worst_of(found)


def worst_of(deviations: Iterable[Deviation]) -> Deviation:
    """Returns the largest of each number."""
    return Deviation(*map(max, zip(*deviations, strict=True)))


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", default=[], help=".npz files of further sets of images")
    parser.add_argument("--names", nargs="+", default=list(CORRUPTIONS), choices=list(CORRUPTIONS))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--times", type=int, default=1, help="so many times as many photographs")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    further = [array for path in options.images for array in np.load(path).values() if array.ndim == 4]
    sets = {
        size: [
            photographs(size, options.times * COUNTS[size], options.seed),
            *(array for array in further if array.shape[1:] == (size, size, 3)),
        ]
        for size in options.sizes
    }
    print(f"| Corruption | {' | '.join(f'{sum(map(len, arrays))} of {size} px' for size, arrays in sets.items())} |")
    print("|---" * (len(sets) + 1) + "|")
    for name in options.names:
        found = [worst_of(measure(name, images, options.seed) for images in arrays) for arrays in sets.values()]
        print(f"| {name} | {' | '.join(map(str, found))} |", flush=True)


if __name__ == "__main__":
    main()
