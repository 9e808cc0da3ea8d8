"""ImageMagick's one-sided motion blur of an 8-bit image."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxprune.corruptions._image import Image, Severity, at_severity, pixels_at

# ImageMagick 6 (Q16) computes on 16 bits: 8-bit values times 257.
_Q16_PER_BYTE = 257

# Taps below this weight change no 16-bit value.
_NEGLIGIBLE = 1e-7


def motion_blur(
    image: Image, angle: Float[Array, ""], radius_and_sigma: tuple[tuple[int, float | int], ...], severity: Severity
) -> Image:
    """Returns the blurred image, whole numbers 0..255 in and out, per channel.

    Tap i of 2 * radius + 1 has the weight exp(-i^2 / (2 sigma^2)), normalised, and reads the nearest pixel i pixels
    along the angle (degrees, y downwards), the edge repeated. The kernel begins at the pixel itself, so the picture
    moves; 16-bit sums are rounded and cut to 8 bits by truncation. All as ImageMagick's `MotionBlurImage` does.
    """
    height, width, _ = image.shape
    table = _tap_weights(radius_and_sigma)
    weights = at_severity(table, severity)
    radians = jnp.deg2rad(angle)
    taps = np.arange(table.shape[1], dtype=np.float32)
    steps_right, steps_down = (
        jnp.ceil(taps * part - 0.5).astype(jnp.int32) for part in (jnp.cos(radians), jnp.sin(radians))
    )
    rows, columns = jnp.indices((height, width))
    total = jnp.zeros_like(image)
    for tap, (right, down) in enumerate(zip(steps_right, steps_down, strict=True)):
        tapped = pixels_at(image, (rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1))
        total += weights[tap] * _Q16_PER_BYTE * tapped
    # The second half keeps quotients of whole numbers clear of rounding errors.
    return jnp.floor((jnp.floor(total + 0.5) + 0.5) / _Q16_PER_BYTE)


def _tap_weights(radius_and_sigma: tuple[tuple[int, float | int], ...]) -> np.ndarray:
    """Returns [severity, taps]; taps that are negligible at every severity are left out."""
    widths = [2 * math.ceil(radius) + 1 for radius, _ in radius_and_sigma]
    index = np.arange(max(widths))
    weights = np.stack(
        [
            np.exp(-0.5 * (index / sigma) ** 2) * (index < width)
            for width, (_, sigma) in zip(widths, radius_and_sigma, strict=True)
        ]
    )
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[:, (weights > _NEGLIGIBLE).any(axis=0)]
