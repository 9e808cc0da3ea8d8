"""What a caller may choose beyond preset and severity, and what a corruption makes of it before a call."""

from typing import Any, NamedTuple

from jaxprune.corruptions._jpeg import EXACT
from jaxprune.corruptions.frost_textures import FrostTextures


class Options(NamedTuple):
    """The options of `corrupt` that are for single corruptions."""

    frost_textures: FrostTextures | None = None
    jpeg: str = EXACT


class Prepared(NamedTuple):
    """Arrays, by the names of the arguments of `draw` and of `apply` that take them."""

    draw: dict[str, Any]
    apply: dict[str, Any]
