"""Noise corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxprune.corruptions import _random, severities
from jaxprune.corruptions._poisson import poisson_counts
from jaxprune.corruptions.image import Draws, Image, Severity, at_severity, bytes_of


def draw_normal_noise(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `noise`: standard normal numbers, one per element."""
    return {"noise": _random.normal(key, image.shape)}


def apply_gaussian_noise(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `image + sd * noise`, unclipped; `sd` grows with severity.

    >>> flat = jnp.full((2, 2, 1), 0.5)
    >>> apply_gaussian_noise(flat, {"noise": jnp.ones((2, 2, 1))}, 5, "cifar")[0, 0, 0].item()
    0.6000000238418579
    """
    return image + at_severity(severities.GAUSSIAN_NOISE_SD[preset], severity) * draws["noise"]


def apply_speckle_noise(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `image + sd * image * noise`, unclipped: noise in proportion to the brightness."""
    return image + image * (at_severity(severities.SPECKLE_NOISE_SD[preset], severity) * draws["noise"])


def draw_shot_noise(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `counts`: Poisson numbers of mean `image * photons`, one per element.

    The image is taken as 8-bit, as `corrupt` gets it: its values are rounded to multiples of 1/255.
    """
    return {"counts": poisson_counts(_random.bits(key, image.shape), bytes_of(image), severity, preset)}


# Lifts whole 8-bit values, which float32 may end just below, over the truncation; far less than any other step.
_HAIR = 1 + 2.0**-22


def apply_shot_noise(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns `counts / photons`, where a white pixel collects `photons` on average."""
    return draws["counts"] * at_severity(_HAIR / np.array(severities.SHOT_NOISE_PHOTONS[preset]), severity)


def draw_impulse_noise(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `replace` and `salt`: uniform in [0, 1), one each per element."""
    replace, salt = _random.uniform(key, (2, *image.shape))
    return {"replace": replace, "salt": salt}


def apply_impulse_noise(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image with elements set to 1 (salt) or 0 (pepper) where `replace < amount`.

    Per element, not per pixel: the reference hands skimage a colour image, so the channels of a pixel are hit
    independently and the specks are coloured.
    """
    amount = at_severity(severities.IMPULSE_NOISE_AMOUNT[preset], severity)
    speck = (draws["salt"] < 0.5).astype(image.dtype)
    return jnp.where(draws["replace"] < amount, speck, image)
