"""Speed of the 19 corruptions beside a NumPy, SciPy, Pillow and OpenCV implementation, run in alternation.

    python benchmarks/corruptions.py                        images/s and speed-up at 32 pixels, about two minutes
    python benchmarks/corruptions.py --sizes 32 64 224      the same at three sizes
    python benchmarks/corruptions.py --cifar-10-c           19 x 5 x 10,000 images, compilation included
    python benchmarks/corruptions.py --memory               peak memory at 1,000 and 10,000 images

The speed-up is the median over rounds of (oracle's time per image) / (ours), each round timing both, one after the
other, at every severity; random numbers are part of both. The oracle uses one core and we use all, so other work on the
machine costs us more than it. Needs Pillow, SciPy and opencv-python-headless.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import corruptions_oracle as oracle
import jax
import measurements
import numpy as np
from PIL import Image

from jaxprune.corruptions import CORRUPTIONS, FrostTextures, corrupt

SEVERITIES = range(1, 6)
ROUNDS = 3
ORACLE = "NumPy, SciPy, Pillow, OpenCV"
# Images/s of the original scripts at 32 pixels on 2 CPU cores, for orientation: they do not run in alternation here.
# Their frost reads its texture from disk every time, their motion blur and snow go through ImageMagick.
SCRIPTS = {
    "gaussian_noise": 13_000,
    "shot_noise": 5_200,
    "impulse_noise": 6_800,
    "defocus_blur": 6_400,
    "glass_blur": 140,
    "motion_blur": 900,
    "zoom_blur": 330,
    "snow": 630,
    "frost": 160,
    "fog": 2_400,
    "brightness": 1_750,
    "contrast": 14_000,
    "elastic_transform": 1_500,
    "pixelate": 29_000,
    "jpeg_compression": 4_600,
    "speckle_noise": 12_000,
    "gaussian_blur": 11_000,
    "spatter": 2_100,
    "saturate": 2_200,
}
WIDTHS = (10, 10, 8, 8, 8, 10)
BATCH = {32: 1000, 64: 250, 224: 20}
# The oracle takes images one by one, so few are enough.
ORACLE_IMAGES = {32: 32, 64: 8, 224: 1}


def pictures(count: int, size: int) -> np.ndarray:
    """Returns smooth random pictures, uint8, that have edges, slopes and flat areas."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (min(count, 64), 6, 6, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in small]
    return np.resize(np.stack(large), (count, size, size, 3))


def preset_of(size: int) -> str:
    """Returns the preset that was made for an image size."""
    return {32: "cifar", 64: "tiny_imagenet", 224: "imagenet"}[size]


def time_ours(name: str, images: np.ndarray, severity: int) -> float:
    """Returns seconds per image."""
    start = time.perf_counter()
    corrupt(jax.random.key(severity), images, name=name, severity=severity).block_until_ready()
    return (time.perf_counter() - start) / len(images)


def time_oracle(name: str, images: np.ndarray, severity: int, textures: list[np.ndarray]) -> float:
    """Returns seconds per image."""
    preset = preset_of(images.shape[1])
    rng = np.random.RandomState(severity)
    start = time.perf_counter()
    for image in images:
        oracle.apply(name, image, oracle.draw(rng, name, image, severity, preset, textures), severity, preset)
    return (time.perf_counter() - start) / len(images)


def compare(size: int, names: list[str], rounds: int = ROUNDS, json: str | None = None) -> None:
    """Prints one line per corruption: first call, images/s of both, speed-up."""
    images = pictures(BATCH[size], size)
    pixels, sizes = FrostTextures.procedural().atlas(preset_of(size), (size, size))
    textures = [slot[:height, :width] for slot, (height, width) in zip(pixels, sizes, strict=True)]
    print(f"\n{size} x {size} pixels, batches of {len(images)}, {jax.devices()[0].device_kind}")
    header = ("first call", "images/s", "oracle", "speed-up", *(("scripts", "speed-up") if size == 32 else ()))
    print(f"{'corruption':18} " + " ".join(f"{word:>{width}}" for word, width in zip(header, WIDTHS, strict=False)))
    speed_ups, first_calls, to_scripts = [], [], []
    for name in names:
        if name == "spatter" and oracle.cv2 is None:
            print(f"{name:18} left out: OpenCV is not installed")
            measurements.add_absent(json, f"{name}, {size} pixels", against=ORACLE, why="OpenCV is not installed")
            continue
        start = time.perf_counter()
        corrupt(jax.random.key(0), images, name=name, severity=1).block_until_ready()
        first_calls.append(time.perf_counter() - start)
        pairs = []
        for _ in range(rounds):
            theirs = [time_oracle(name, images[: ORACLE_IMAGES[size]], severity, textures) for severity in SEVERITIES]
            ours = [time_ours(name, images, severity) for severity in SEVERITIES]
            pairs.append((statistics.mean(ours), statistics.mean(theirs)))
        speed_ups.append(statistics.median(theirs / ours for ours, theirs in pairs))
        sides = dict(zip(("ours", "theirs"), zip(*pairs, strict=True), strict=True))
        measurements.add(json, f"{name}, {size} pixels", against=ORACLE, **sides, work=1)
        ours, theirs = (statistics.median(times) for times in sides.values())
        line = f"{name:18} {first_calls[-1]:8.2f} s {1 / ours:10,.0f} {1 / theirs:8,.0f} {speed_ups[-1]:7.1f}x"
        if size == 32:
            to_scripts.append(1 / ours / SCRIPTS[name])
            line += f" {SCRIPTS[name]:8,} {to_scripts[-1]:9.1f}x"
        print(line, flush=True)
    print(f"first calls together {sum(first_calls):.1f} s")
    for what, values in (("oracle", speed_ups), ("scripts", to_scripts)):
        if values:
            mean = statistics.geometric_mean(values)
            print(f"speed-up to the {what}: smallest {min(values):.1f}x, geometric mean {mean:.1f}x")


def make_cifar_10_c(names: list[str]) -> None:
    """Prints how long 10,000 images take at every corruption and severity, in batches of 1,000."""
    images = pictures(10_000, 32)
    start = time.perf_counter()
    for name in names:
        for severity in SEVERITIES:
            for first in range(0, len(images), 1000):
                batch = images[first : first + 1000]
                np.asarray(corrupt(jax.random.key(0), batch, name=name, severity=severity, first_index=first))
    seconds = time.perf_counter() - start
    print(f"{len(names)} corruptions x 5 severities x 10,000 images: {seconds:.1f} s, compilation included")


def print_memory(names: list[str]) -> None:
    """Prints the growth of a fresh process's peak memory over one call."""
    print(f"{'corruption':18} {'1,000 images':>14} {'10,000 images':>14}   (32 pixels; 10,000 are 31 MB in and out)")
    for name in names:
        sizes = []
        for count in (1000, 10_000):
            command = [sys.executable, __file__, "--one-call", str(count), "--names", name]
            sizes.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"{name:18} {sizes[0]:11.0f} MB {sizes[1]:11.0f} MB", flush=True)


def _one_call(name: str, count: int) -> None:
    images = pictures(count, 32)
    # The first call compiles, which takes memory of its own.
    corrupt(jax.random.key(0), images[:1], name=name, severity=5).block_until_ready()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    corrupt(jax.random.key(0), images, name=name, severity=5).block_until_ready()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """Reads the command line and runs what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32], choices=sorted(BATCH))
    parser.add_argument("--names", nargs="+", default=list(CORRUPTIONS), choices=list(CORRUPTIONS))
    parser.add_argument("--cifar-10-c", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    parser.add_argument("--one-call", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_call:
        _one_call(options.names[0], options.one_call)
    elif options.cifar_10_c:
        make_cifar_10_c(options.names)
    elif options.memory:
        print_memory(options.names)
    else:
        for size in options.sizes:
            compare(size, options.names, options.rounds, options.json)


if __name__ == "__main__":
    main()
