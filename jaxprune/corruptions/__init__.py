"""The 15 common and 4 extra image corruptions of Hendrycks & Dietterich 2019, jitted, on the device.

`corrupt` takes a batch of 8-bit images; `CORRUPTIONS` holds, for one float image, each corruption's `draw` and `apply`.
"""

from jaxprune.corruptions._corrupt import corrupt
from jaxprune.corruptions.frost_textures import FrostTextures
from jaxprune.corruptions.image import to_uint8
from jaxprune.corruptions.table import COMMON_CORRUPTIONS, CORRUPTIONS, EXTRA_CORRUPTIONS, Corruption
from jaxprune.names import PRESETS

__all__ = [
    "COMMON_CORRUPTIONS",
    "CORRUPTIONS",
    "EXTRA_CORRUPTIONS",
    "PRESETS",
    "Corruption",
    "FrostTextures",
    "corrupt",
    "to_uint8",
]
