"""Frost grown from fixed seeds: fern-like crystals along a flow, clouds and grain, in five moods."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8


class _Mood(NamedTuple):
    """One texture: its size, the colours of its shade and light, and how much of each ingredient it has.

    `low` and `high` are the RGB colours at brightness 0 and 1. `level` is the mean brightness; `clouds`, `crystals`,
    `specks` and `grain` are standard deviations of brightness. `stem` is the length of a crystal in pixels, `cover`
    how much of the texture has crystals, `tint` how strongly a second cloud mixes in grey.
    """

    seed: int
    size: tuple[int, int]
    low: tuple[int, int, int]
    high: tuple[int, int, int]
    level: float
    clouds: float
    crystals: float
    specks: float
    grain: float
    stem: int
    cover: float
    tint: float


# Sizes and moods after the reference's photographs: scratched teal ice, white rime (twice), grey needles, dark ferns.
_MOODS = (
    _Mood(1, (600, 900), (0, 90, 115), (165, 215, 225), 0.45, 0.08, 0.09, 0.0, 0.07, 44, 0.5, 0.45),
    _Mood(2, (315, 560), (84, 90, 106), (252, 255, 261), 0.69, 0.07, 0.08, 0.06, 0.04, 26, 0.8, 0.1),
    _Mood(3, (315, 560), (84, 90, 106), (252, 255, 261), 0.69, 0.07, 0.08, 0.06, 0.04, 26, 0.8, 0.1),
    _Mood(4, (350, 527), (40, 55, 68), (232, 245, 252), 0.50, 0.06, 0.12, 0.05, 0.06, 18, 0.8, 0.0),
    _Mood(5, (495, 660), (20, 30, 44), (235, 243, 250), 0.43, 0.10, 0.17, 0.0, 0.05, 34, 0.9, 0.0),
)

_DIRECTIONS = 12
_BARB_ANGLE = np.pi / 3
# Crystals per pixel of area, before `cover` thins them out.
_SEEDS_PER_PX = 0.012


def resize_grown(image: UInt8[np.ndarray, "_ _ 3"], scale: float) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns a grown texture resized bilinearly without antialiasing, the old image's extent on the new one's.

    Not as photographs are: where the new size is rounded, these pixels are a little further apart. It is how version 1
    is defined, and keeps its pixels what they always were.
    """
    values: Float[np.ndarray, "_ _ 3"] = image.astype(np.float64)
    for axis, old in enumerate(image.shape[:2]):
        new = math.ceil(round(old * scale, 6) - 0.5)
        position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        lower = np.clip(np.floor(position).astype(int), 0, max(old - 2, 0))
        share = np.expand_dims(position - lower, (1 - axis, 2))
        upper = np.minimum(lower + 1, old - 1)
        values = (1 - share) * np.take(values, lower, axis) + share * np.take(values, upper, axis)
    return np.rint(values).astype(np.uint8)


def grow_frost() -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
    """Returns the five textures, from NumPy's legacy generator, whose stream never changes."""
    return tuple(_grow(mood) for mood in _MOODS)


def _grow(mood: _Mood) -> UInt8[np.ndarray, "_ _ 3"]:
    rng = np.random.RandomState(mood.seed)
    clouds = _clouds(rng, mood.size, falloff=1.6)
    crystals = _crystals(rng, mood)
    specks = -((rng.random_sample(mood.size) < 0.04) * _standard(_clouds(rng, mood.size, falloff=0.8)).clip(0, 3))
    brightness = (
        mood.level
        + mood.clouds * clouds
        + mood.crystals * crystals
        + mood.specks * _standard(_soften(specks, 1.2))
        + mood.grain * _standard(_soften(rng.normal(size=mood.size), 0.7))
    )[..., None]
    low, high = np.array(mood.low, float), np.array(mood.high, float)
    colors = low + (high - low) * brightness
    grey_share = mood.tint * np.clip(0.5 + 0.5 * _clouds(rng, mood.size, falloff=1.8), 0, 1)[..., None]
    colors = (1 - grey_share) * colors + grey_share * colors.mean(axis=-1, keepdims=True)
    return np.clip(np.rint(colors), 0, 255).astype(np.uint8)


def _crystals(rng: np.random.RandomState, mood: _Mood) -> Float[np.ndarray, "height width"]:
    """Returns ferns of ice, mean 0 and standard deviation 1: random seeds, each a fern along the flow around it."""
    flow = _clouds(rng, mood.size, falloff=2.2) * np.pi
    where = _clouds(rng, mood.size, falloff=1.8) < np.quantile(_clouds(rng, mood.size, falloff=1.8), mood.cover)
    brightness = rng.exponential(size=mood.size) * (rng.random_sample(mood.size) < _SEEDS_PER_PX) * where
    direction = np.floor((flow / (2 * np.pi) + rng.normal(scale=0.06, size=mood.size)) * _DIRECTIONS) % _DIRECTIONS
    total = np.zeros(mood.size)
    for index in range(_DIRECTIONS):
        fern = _fern(mood.stem, 2 * np.pi * index / _DIRECTIONS)
        total += _convolve(brightness * (direction == index), fern)
    return _standard(np.sqrt(total.clip(0)))


def _fern(stem: int, angle: float) -> Float[np.ndarray, "side side"]:
    """Returns a stem with barbs at 60 degrees that shorten towards its tip, one pixel wide, fading along the stem."""
    rows, columns = np.indices((2 * stem + 1, 2 * stem + 1)) - stem
    fern = np.zeros(rows.shape)
    barbs = [(along, side) for along in range(3, stem, 5) for side in (-1, 1)]
    segments = [(0.0, angle, stem)] + [(a, angle + s * _BARB_ANGLE, 0.45 * (stem - a)) for a, s in barbs]
    for along, heading, length in segments:
        y, x = rows - along * np.sin(angle), columns - along * np.cos(angle)
        position = x * np.cos(heading) + y * np.sin(heading)
        distance = np.hypot(position - position.clip(0, length), y * np.cos(heading) - x * np.sin(heading))
        fern = np.maximum(fern, np.exp(-((distance / 0.8) ** 2)) * (1 - 0.7 * along / stem))
    return fern


def _clouds(rng: np.random.RandomState, size: tuple[int, int], falloff: float) -> Float[np.ndarray, "height width"]:
    """Returns noise whose amplitude falls like frequency^-falloff, mean 0 and standard deviation 1."""
    spectrum = np.fft.rfft2(rng.normal(size=size))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    return _standard(np.fft.irfft2(spectrum / np.maximum(frequency, 1 / max(size)) ** falloff, size))


def _soften(plane: Float[np.ndarray, "height width"], sigma: float) -> Float[np.ndarray, "height width"]:
    height, width = plane.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    return np.fft.irfft2(np.fft.rfft2(plane) * np.exp(-2 * (np.pi * sigma * frequency) ** 2), plane.shape)


def _convolve(plane: Float[np.ndarray, "height width"], kernel: Float[np.ndarray, "side side"]) -> np.ndarray:
    spread = np.zeros(plane.shape)
    spread[: kernel.shape[0], : kernel.shape[1]] = kernel
    spread = np.roll(spread, [-(side // 2) for side in kernel.shape], axis=(0, 1))
    return np.fft.irfft2(np.fft.rfft2(plane) * np.fft.rfft2(spread), plane.shape)


def _standard(plane: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    return (plane - plane.mean()) / plane.std()
