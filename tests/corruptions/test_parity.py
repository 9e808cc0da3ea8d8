"""Every corruption against the reference's own pixels, with the reference's own random numbers."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxprune.corruptions import CORRUPTIONS, to_uint8


class Tolerance(NamedTuple):
    """Largest and mean absolute difference of the 8-bit values."""

    maximum: int
    mean: float


# The reference computes in float64 and truncates; float32 flips values that lie on integers up to rounding errors.
TOLERANCE = {
    "gaussian_noise": Tolerance(1, 2e-4),
    "shot_noise": Tolerance(1, 0.002),
    "impulse_noise": Tolerance(1, 0.002),
    "speckle_noise": Tolerance(1, 2e-4),
    "gaussian_blur": Tolerance(2, 0.02),
    "defocus_blur": Tolerance(2, 0.02),
    "glass_blur": Tolerance(2, 0.02),
    "motion_blur": Tolerance(1, 0.002),
    "zoom_blur": Tolerance(1, 0.002),
    "snow": Tolerance(1, 0.002),
    "frost": Tolerance(1, 0.005),
    "fog": Tolerance(1, 1e-4),
    "brightness": Tolerance(1, 0.05),
    "contrast": Tolerance(1, 0.002),
    "elastic_transform": Tolerance(3, 0.002),
    "pixelate": Tolerance(1, 0.002),
    "jpeg_compression": Tolerance(0, 0.0),
    "spatter": Tolerance(2, 0.005),
    "saturate": Tolerance(1, 0.12),
}

_BATCH = 8


@partial(jax.jit, static_argnames="name")
def _apply(images, draws, severity, *, name):
    apply = partial(CORRUPTIONS[name].apply, severity=severity, preset="cifar")
    return to_uint8(jax.vmap(lambda image, draws: apply(image, draws))(images, draws))


def _in_batches(images, draws, severity, name):
    """Both reference sets in batches of one size, so that each corruption is compiled once."""
    parts = [
        _apply(
            images[i : i + _BATCH], jax.tree.map(lambda array, i=i: array[i : i + _BATCH], draws), severity, name=name
        )
        for i in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_matches_the_reference_on_its_own_draws(name, reference, reference_draws):
    images = reference.clean.astype(np.float32) / 255
    found = {}
    for severity in range(1, 6):
        actual = _in_batches(images, reference_draws(name, severity, reference), severity, name)
        difference = np.abs(actual.astype(int) - reference.corrupted[name][severity - 1])
        found[severity] = Tolerance(int(difference.max()), float(difference.mean()))
    wrong = {
        severity: tolerance
        for severity, tolerance in found.items()
        if tolerance.maximum > TOLERANCE[name].maximum or tolerance.mean > TOLERANCE[name].mean
    }
    assert not wrong, f"{name} allows {TOLERANCE[name]}"
