"""The table of corruptions."""

from collections.abc import Callable
from typing import NamedTuple

from jaxprune.corruptions import blur, digital, noise, weather
from jaxprune.corruptions._image import draw_nothing


class Corruption(NamedTuple):
    """One corruption of one float32 image in [0, 1], as `draw(key, image, severity, preset)` and
    `apply(image, draws, severity, preset)`.

    `draw` returns a dict of arrays and holds all the randomness; `apply` has none, so that given draws (another
    implementation's, say) can be replayed. `smallest_side` is the fewest pixels that either side of the image may have.
    """

    draw: Callable
    apply: Callable
    smallest_side: int = 1


CORRUPTIONS = {
    "gaussian_noise": Corruption(noise.draw_normal_noise, noise.apply_gaussian_noise),
    "impulse_noise": Corruption(noise.draw_impulse_noise, noise.apply_impulse_noise),
    "brightness": Corruption(draw_nothing, weather.apply_brightness),
    "contrast": Corruption(draw_nothing, digital.apply_contrast),
    "pixelate": Corruption(draw_nothing, digital.apply_pixelate, smallest_side=4),
    "gaussian_blur": Corruption(draw_nothing, blur.apply_gaussian_blur),
}
EXTRA_CORRUPTIONS = tuple(
    name for name in CORRUPTIONS if name in ("speckle_noise", "gaussian_blur", "spatter", "saturate")
)
COMMON_CORRUPTIONS = tuple(name for name in CORRUPTIONS if name not in EXTRA_CORRUPTIONS)
