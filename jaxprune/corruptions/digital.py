"""Digital corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import jax.numpy as jnp
import numpy as np

from jaxprune.corruptions import severities
from jaxprune.corruptions._image import Draws, Image, Severity, along_columns, along_rows, at_severity, bytes_of


def apply_contrast(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `(image - mean) * factor + mean` with the mean of each channel over the image."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * at_severity(severities.CONTRAST_FACTOR[preset], severity) + mean


def apply_pixelate(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image shrunk by averaging over boxes and enlarged by repeating pixels (Pillow's `BOX`, twice).

    Works on 8-bit values and rounds after the horizontal and after the vertical pass, as Pillow does. Enlarging
    repeats whole pixels, so it is part of the same two matrices.
    """
    rows, columns = (at_severity(_pixelate_matrices(preset, size), severity) for size in image.shape[:2])
    horizontal = jnp.floor(along_columns(bytes_of(image), columns) + 0.5)
    return jnp.floor(along_rows(horizontal, rows) + 0.5) / 255


def _pixelate_matrices(preset: str, size: int) -> np.ndarray:
    sides = [int(size * fraction) for fraction in severities.PIXELATE_FRACTION[preset]]
    return np.stack([_box_matrix(side, size) @ _box_matrix(size, side) for side in sides])


def _box_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the [new_size, size] matrix of Pillow's `BOX`: the mean of the pixels whose centre is in (-1/2, 1/2]
    of the box around the new pixel's centre, which is one pixel wide when enlarging."""
    scale = size / new_size
    centers = (np.arange(new_size)[:, None] + 0.5) * scale
    distance = (np.arange(size)[None] + 0.5 - centers) / max(scale, 1.0)
    inside = (distance > -0.5) & (distance <= 0.5)
    return inside / inside.sum(axis=1, keepdims=True)
