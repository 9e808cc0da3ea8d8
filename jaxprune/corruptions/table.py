"""The table of corruptions."""

import dataclasses
from collections.abc import Callable

from jaxprune import names
from jaxprune.corruptions import blur, digital, elastic, noise, spatter, weather
from jaxprune.corruptions._checks import checked_apply, checked_draw
from jaxprune.corruptions.image import draw_nothing


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One corruption of one float32 image in [0, 1], as `draw(key, image, severity, preset)` and
    `apply(image, draws, severity, preset)`.

    `draw` returns a dict of arrays and holds all the randomness; `apply` has none, so that given draws (another
    implementation's, say) can be replayed. Both check their arguments: `TypeError` for an image that is not of floating
    point, `ValueError` for another shape or preset, and, outside `jit`, for values outside [0, 1] or a severity outside
    1..5. `smallest_side` is the fewest pixels that either side of the image may have.

    `prepare(preset, image_size, options)` returns what is made on the host for a whole call of `corrupt`: textures,
    tables. None where nothing is, and the `Options` do not matter.
    """

    draw: Callable
    apply: Callable
    smallest_side: int = 1
    prepare: Callable | None = None

    def __post_init__(self):
        object.__setattr__(self, "draw", checked_draw(self.draw))
        object.__setattr__(self, "apply", checked_apply(self.apply))


CORRUPTIONS = {
    "gaussian_noise": Corruption(noise.draw_normal_noise, noise.apply_gaussian_noise),
    "shot_noise": Corruption(noise.draw_shot_noise, noise.apply_shot_noise),
    "impulse_noise": Corruption(noise.draw_impulse_noise, noise.apply_impulse_noise),
    "defocus_blur": Corruption(draw_nothing, blur.apply_defocus_blur),
    "glass_blur": Corruption(blur.draw_glass_blur, blur.apply_glass_blur, smallest_side=9),
    "motion_blur": Corruption(blur.draw_motion_blur, blur.apply_motion_blur),
    "zoom_blur": Corruption(draw_nothing, blur.apply_zoom_blur),
    "snow": Corruption(weather.draw_snow, weather.apply_snow),
    "frost": Corruption(weather.draw_frost, weather.apply_frost, prepare=weather.prepare_frost),
    "fog": Corruption(weather.draw_fog, weather.apply_fog, smallest_side=2),
    "brightness": Corruption(draw_nothing, weather.apply_brightness),
    "contrast": Corruption(draw_nothing, digital.apply_contrast),
    "elastic_transform": Corruption(elastic.draw_elastic_transform, elastic.apply_elastic_transform, smallest_side=3),
    "pixelate": Corruption(draw_nothing, digital.apply_pixelate, smallest_side=4),
    "jpeg_compression": Corruption(draw_nothing, digital.apply_jpeg_compression, prepare=digital.prepare_jpeg),
    "speckle_noise": Corruption(noise.draw_normal_noise, noise.apply_speckle_noise),
    "gaussian_blur": Corruption(draw_nothing, blur.apply_gaussian_blur),
    "spatter": Corruption(spatter.draw_spatter, spatter.apply_spatter, smallest_side=2),
    "saturate": Corruption(draw_nothing, digital.apply_saturate),
}
COMMON_CORRUPTIONS, EXTRA_CORRUPTIONS = names.COMMON_CORRUPTIONS, tuple(names.EXTRA_CORRUPTIONS)
