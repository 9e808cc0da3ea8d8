"""Separable filters and resizes along one axis: taps, matrices and sample positions, made once in NumPy, float64."""

import math

import numpy as np


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
    """Returns the weights exp(-k^2 / (2 sigma^2)) for k in -radius..radius, divided by their sum."""
    if radius == 0:
        return np.ones(1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def filter_matrix(taps: np.ndarray, size: int, border: str) -> np.ndarray:
    """Returns the [size, size] matrix that correlates a row with centred taps.

    `border` says what lies outside: "nearest" repeats the last pixel, "symmetric" mirrors at the pixel's edge
    (b a | a b), "reflect" at its centre (c b | a b c, OpenCV's reflect-101).
    """
    radius = len(taps) // 2
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-radius, radius + 1), taps, strict=True):
        source = mirror(np.arange(size) + offset, size, border)
        np.add.at(matrix, (np.arange(size), source), weight)
    return matrix


def mirror(index, size: int, border: str):
    """Returns the pixel in 0..size-1 that stands for each index, under a border rule of `filter_matrix`.

    Takes NumPy and JAX arrays alike.

    >>> [mirror(np.arange(-2, 5), 3, border).tolist() for border in ("nearest", "symmetric", "reflect")]
    [[0, 0, 0, 1, 2, 2, 2], [1, 0, 0, 1, 2, 2, 1], [2, 1, 0, 1, 2, 1, 0]]
    """
    if border == "nearest" or size == 1:
        return index.clip(0, size - 1)
    period = 2 * size if border == "symmetric" else 2 * size - 2
    index = index % period
    return index.clip(None, period - int(border == "symmetric") - index)


def zoom_samples(factor: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower of the two source pixels and the share of the upper one, per pixel of `clipped_zoom`.

    The reference's crop of ceil(size / factor) pixels is enlarged to round(crop * factor), first pixel on first and
    last on last (scipy's `zoom`). Crop and trim are centred by floor divisions, so the result leans to the top left.
    """
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    enlarged = round(crop * factor)
    trim = (enlarged - size) // 2
    position = (np.arange(size) + trim) * ((crop - 1) / max(enlarged - 1, 1))
    lower = np.clip(np.floor(position).astype(int), 0, max(crop - 2, 0))
    return top + lower, position - lower


def box_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the [new_size, size] matrix of Pillow's `BOX` resize: the mean over a box around each new pixel.

    The box is as wide as the new pixel (one old pixel when enlarging) and holds the pixels whose centre is in its
    left-open, right-closed extent, all with the same weight. Centres on its border are decided by rounding errors, so
    the operations and their order are Pillow's.
    """
    scale = size / new_size
    width = max(scale, 1.0)
    centers = (np.arange(new_size)[:, None] + 0.5) * scale
    pixels = np.arange(size)[None]
    distance = (pixels - centers + 0.5) * (1.0 / width)
    inside = (distance > -0.5) & (distance <= 0.5)
    inside &= (pixels >= np.trunc(centers - 0.5 * width + 0.5)) & (pixels < np.trunc(centers + 0.5 * width + 0.5))
    return inside / inside.sum(axis=1, keepdims=True)
