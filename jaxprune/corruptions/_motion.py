"""ImageMagick's one-sided motion blur of an 8-bit image."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxprune.corruptions.image import Image, Severity, at_severity, pixels_at

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
    right, down = (jnp.ceil(taps * part - 0.5).astype(jnp.int32) for part in (jnp.cos(radians), jnp.sin(radians)))
    rows, columns = jnp.indices((height, width), jnp.int32)

    def add_tap(tap, total):
        there = (rows + down[tap]).clip(0, height - 1), (columns + right[tap]).clip(0, width - 1)
        return total + weights[tap] * _Q16_PER_BYTE * pixels_at(image, *there)

    total = lax.fori_loop(0, (weights > 0).sum(), add_tap, 0 * image)
    # The second half keeps quotients of whole numbers clear of rounding errors.
    return jnp.floor((jnp.floor(total + 0.5) + 0.5) / _Q16_PER_BYTE)


def _tap_weights(radius_and_sigma: tuple[tuple[int, float | int], ...]) -> np.ndarray:
    """Returns [severity, taps]; weights that are negligible are zero, and taps that always are are left out."""
    widths = [2 * math.ceil(radius) + 1 for radius, _ in radius_and_sigma]
    index = np.arange(max(widths))
    weights = np.stack(
        [
            np.exp(-0.5 * (index / sigma) ** 2) * (index < width)
            for width, (_, sigma) in zip(widths, radius_and_sigma, strict=True)
        ]
    )
    weights /= weights.sum(axis=1, keepdims=True)
    weights *= weights > _NEGLIGIBLE
    return weights[:, weights.any(axis=0)]
