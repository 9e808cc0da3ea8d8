"""Digital corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from jaxprune.corruptions import severities
from jaxprune.corruptions._jpeg import EXACT, FLOAT, jpeg_round_trip, quantization_tables
from jaxprune.corruptions._matrices import box_matrix
from jaxprune.corruptions.image import (
    Draws,
    Image,
    Severity,
    along_columns,
    along_rows,
    at_severity,
    bytes_of,
    luma,
)
from jaxprune.corruptions.prepared import Options, Prepared


def apply_contrast(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `(image - mean) * factor + mean` with the mean of each channel over the image."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * at_severity(severities.CONTRAST_FACTOR[preset], severity) + mean


def apply_saturate(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image with its HSV saturation s replaced by `clip(factor * s + summand)`.

    Hue and value fixed, a channel is `value - s * (something without s)`, so the trip to HSV and back is one scaling of
    the distances from the value. Grey pixels have hue 0: a summand turns them red. A grey image gets the luma of that.
    """
    if image.shape[-1] == 1:
        colors = jnp.broadcast_to(image, (*image.shape[:2], 3))
        return luma(apply_saturate(colors, draws, severity, preset))[..., None]
    factor, summand = at_severity(np.array(severities.SATURATE[preset]), severity)
    value = image.max(axis=-1, keepdims=True)
    span = value - image.min(axis=-1, keepdims=True)
    saturation = jnp.clip(factor * span / jnp.where(value > 0, value, 1) + summand, 0.0, 1.0)
    distance = jnp.where(span > 0, (value - image) / jnp.where(span > 0, span, 1), np.array([[[0, 1, 1]]], np.float32))
    return value - value * saturation * distance


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
    return np.stack([box_matrix(side, size) @ box_matrix(size, side) for side in sides])


def prepare_jpeg(preset: str, image_size: tuple[int, int], options: Options) -> Prepared:
    """Returns the quantisation `tables` [5, 2, 8, 8]: int32 for the "exact" method of `_jpeg`, else float32."""
    return Prepared(draw={}, apply={"tables": _jpeg_tables(preset, options.jpeg)})


# The tables' type says which method is meant.
_JPEG_DTYPES = {EXACT: np.int32, FLOAT: np.float32}


@functools.cache
def _jpeg_tables(preset: str, method: str) -> np.ndarray:
    tables = np.stack([quantization_tables(quality) for quality in severities.JPEG_QUALITY[preset]])
    return tables.astype(_JPEG_DTYPES[method])


def apply_jpeg_compression(
    image: Image, draws: Draws, severity: Severity, preset: str, tables: Shaped[Array, "5 2 8 8"] | None = None
) -> Image:
    """Returns the 8-bit image after a trip through a JPEG file, by the method that the tables are for, else exactly."""
    tables = _jpeg_tables(preset, EXACT) if tables is None else tables
    method = FLOAT if tables.dtype == _JPEG_DTYPES[FLOAT] else EXACT
    return jpeg_round_trip(bytes_of(image), at_severity(tables, severity).astype(jnp.int32), method) / 255
