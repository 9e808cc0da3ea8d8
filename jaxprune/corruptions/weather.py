"""Weather corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import jax.numpy as jnp
import numpy as np

from jaxprune.corruptions import severities
from jaxprune.corruptions._image import Draws, Image, Severity, at_severity


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
