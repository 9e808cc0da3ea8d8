"""Weather corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxprune.corruptions import _random, severities
from jaxprune.corruptions._matrices import zoom_samples
from jaxprune.corruptions._motion import motion_blur
from jaxprune.corruptions.frost_textures import FrostAtlas, FrostTextures
from jaxprune.corruptions.image import (
    Draws,
    Image,
    Plane,
    Severity,
    at_severity,
    between_pixels,
    bytes_of,
    in_channels_of,
    luma,
    pixels_at,
    to_uint8,
)
from jaxprune.corruptions.prepared import Options, Prepared


def draw_snow(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `layer`, standard normal numbers per pixel, and `angle`, degrees, uniform in [-135, -45)."""
    layer_key, angle_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    return {
        "layer": _random.normal(layer_key, image.shape[:2]),
        "angle": _random.uniform(angle_key, (), low=-135.0, high=-45.0),
    }


def apply_snow(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image, whitened, under flakes that fall along the angle and the same flakes turned by 180 degrees.

    Flakes are normal noise, zoomed, cut off below a threshold and smeared (`motion_blur`, 8 bits). Whitening mixes in
    `max(image, 1.5 * grey + 0.5)`, which is not clipped before the flakes are added.
    """
    table = severities.SNOW[preset]
    location, sd, _, threshold, _, _, mix = at_severity(np.array(table), severity)
    flakes = (location + sd * draws["layer"])[..., None]
    for axis, size in enumerate(image.shape[:2]):
        lower, share = zip(*(zoom_samples(row[2], size) for row in table), strict=True)
        lower, share = at_severity(np.stack(lower), severity), at_severity(np.stack(share), severity)
        flakes = between_pixels(flakes, lower, share, axis=axis)
    flakes = to_uint8(jnp.where(flakes < threshold, 0, flakes)).astype(image.dtype)
    flakes = motion_blur(flakes, draws["angle"], tuple((row[4], row[5]) for row in table), severity) / 255
    white = jnp.maximum(image, 1.5 * luma(image)[..., None] + 0.5)
    return mix * image + (1 - mix) * white + flakes + flakes[::-1, ::-1]


def prepare_frost(preset: str, image_size: tuple[int, int], options: Options) -> Prepared:
    """Returns the `atlas` of the textures at the preset's scale."""
    textures = options.frost_textures or FrostTextures.procedural()
    return Prepared(draw={"atlas": textures.atlas(preset, image_size)}, apply={})


def draw_frost(key: Array, image: Image, severity: Severity, preset: str, atlas: FrostAtlas | None = None) -> Draws:
    """Returns `crop`: [height, width, 3], values 0..255, a random part of a random texture at the preset's scale.

    The textures are the procedural ones, or those of an atlas made from others.
    """
    height, width, _ = image.shape
    pixels, sizes = atlas or FrostTextures.procedural().atlas(preset, (height, width))
    which, *corner = _random.uniform(key, (3,))
    index = (which * len(pixels)).astype(jnp.int32)
    room = (jnp.asarray(sizes)[index] - np.array([height, width], np.int32)).astype(which.dtype)
    top, left = (jnp.floor(share * free).astype(jnp.int32) for share, free in zip(corner, room, strict=True))
    rows, columns = jnp.indices((height, width), jnp.int32)
    rows = index * pixels.shape[1] + top + rows
    crop = pixels_at(jnp.asarray(pixels).reshape(-1, *pixels.shape[2:]), rows, left + columns)
    return {"crop": crop.astype(image.dtype)}


def apply_frost(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns a weighted sum of the image and the crop, computed on 0..255."""
    image_weight, frost_weight = at_severity(np.array(severities.FROST[preset]), severity)
    return (image_weight * bytes_of(image) + frost_weight * in_channels_of(image, draws["crop"])) / 255


# The reference begins its plasma at this amplitude; an error term is amplitude^2 * U(-1, 1).
_PLASMA_AMPLITUDE = 100.0


def _plasma_levels(image: Image) -> int:
    """Returns log2 of the side of the plasma: the next power of two of the longer side of the image."""
    return (max(image.shape[:2]) - 1).bit_length()


def draw_fog(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `plasma`: for n = 1, 2, 4, ... uniform numbers in [-1, 1), [3, n, n], one per point that is added."""
    numbers = _random.uniform(key, (4 ** _plasma_levels(image) - 1,), low=-1.0, high=1.0)
    ends = np.cumsum([3 * 4**level for level in range(_plasma_levels(image))])
    return {"plasma": [part.reshape(3, 2**level, 2**level) for level, part in enumerate(jnp.split(numbers, ends[:-1]))]}


def apply_fog(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `(image + amount * plasma) * peak / (peak + amount)` with `peak` the largest value of the image."""
    table = np.array(severities.FOG[preset])
    amount = at_severity(table[:, 0], severity)
    amplitudes = (_PLASMA_AMPLITUDE / table[:, 1:] ** np.arange(_plasma_levels(image))) ** 2
    plasma = _diamond_square(draws["plasma"], at_severity(amplitudes, severity))
    plasma = plasma[: image.shape[0], : image.shape[1], None]
    peak = image.max()
    return (image + amount * plasma) * (peak / (peak + amount))


def _diamond_square(errors: list[Array], amplitudes: Float[Array, " levels"]) -> Plane:
    """Returns a periodic plasma fractal in [0, 1]: the mean of four neighbours plus an error, level by level."""
    grid = jnp.zeros((1, 1), amplitudes.dtype)  # each of `errors` is [3, n, n]
    for level, error in enumerate(errors):
        square_error, top_error, left_error = amplitudes[level] * error
        to_right = grid + jnp.roll(grid, -1, axis=1)
        to_below = grid + jnp.roll(grid, -1, axis=0)
        square = (to_right + jnp.roll(to_right, -1, axis=0)) / 4 + square_error
        top = (square + jnp.roll(square, 1, axis=0) + to_right) / 4 + top_error
        left = (square + jnp.roll(square, 1, axis=1) + to_below) / 4 + left_error
        even, odd = jnp.stack([grid, top], axis=-1), jnp.stack([left, square], axis=-1)
        grid = jnp.stack([even, odd], axis=1).reshape(2 * grid.shape[0], 2 * grid.shape[1])
    grid = grid - grid.min()
    return grid / grid.max()


def apply_brightness(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image with `shift` added to its HSV value, which stays at most 1.

    Hue and saturation fixed, the three channels are proportional to the value (their maximum), so the trip to HSV and
    back is one scaling; black becomes the grey `shift`. Computed on 0..255, where most shifts are whole numbers and the
    truncation that follows meets fewer rounding errors.
    """
    scaled = 255 * image
    value = scaled.max(axis=-1, keepdims=True)
    shift = at_severity(255 * np.array(severities.BRIGHTNESS_SHIFT[preset]), severity)
    shifted = jnp.clip(value + shift, 0.0, 255.0)
    return jnp.where(value > 0, scaled * shifted / jnp.where(value > 0, value, 1), shifted) / 255
