"""What is wrong with an argument, said before anything is computed: what was given, what is allowed, what to do."""

import difflib
import functools
import operator
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxprune.corruptions.frost_textures import FrostTextures
from jaxprune.corruptions.image import range_of
from jaxprune.corruptions.severities import PRESET_LIMITS_PX
from jaxprune.names import PRESETS, SEVERITIES

_CHANNELS = (1, 3)
_BRIGHTEST_BYTE = 255
# How far values may be outside [0, 1]: rounding errors of whoever computed them.
_SLACK = 1e-4


def check_name(name: Any, known: Collection[str]) -> None:
    """Raises `ValueError` unless the name is one of those known."""
    if not isinstance(name, str) or name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
        raise ValueError(f"unknown corruption {name!r}{hint} Choose from {', '.join(known)}")


def check_images(images: Any, name: str, smallest_side: int) -> Array:
    """Returns a batch of 8-bit images, each side of them long enough for the corruption of that name."""
    if not hasattr(images, "dtype") or images.dtype != jnp.uint8:
        found = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"images are {found}, not uint8; corrupt() takes 8-bit images: {_way_to_bytes(images)}")
    if images.ndim != 4 or images.shape[-1] not in _CHANNELS:
        raise ValueError(
            f"images have shape {images.shape}, not [batch, height, width, channels] with 1 or 3 channels; "
            f"{_way_to_a_batch(images.shape)}"
        )
    if min(images.shape[1:3]) < smallest_side:
        height, width = images.shape[1:3]
        raise ValueError(
            f"{name} needs images of at least {smallest_side} x {smallest_side} pixels, not {height} x {width}; "
            "enlarge them, or leave this corruption out"
        )
    return jnp.asarray(images)


def _way_to_bytes(images: Any) -> str:
    dtype = getattr(images, "dtype", None)
    if dtype is None:
        return "make an array of them, np.asarray(images, np.uint8) if they are whole numbers from 0 to 255"
    try:
        is_float = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # another library's
        return "np.asarray(images) makes an array of them"
    if not is_float:
        return "images.astype('uint8') makes them so if they are whole numbers from 0 to 255"
    known = range_of(images)
    if known is None:
        return "(255 * images).round().astype('uint8') makes them so if they are in [0, 1]"
    low, high = known
    if low >= 0 and high <= 1:
        return "(255 * images).round().astype('uint8') makes them so"
    if low >= 0 and high <= _BRIGHTEST_BYTE:
        return f"these run from {low:g} to {high:g}, so images.round().astype('uint8') makes them so"
    return f"these run from {low:g} to {high:g}; undo their normalisation, then (255 * images).round().astype('uint8')"


def _way_to_a_batch(shape: tuple[int, ...]) -> str:
    """Returns how to make [batch, height, width, channels] of images of another shape."""
    if len(shape) == 4 and shape[1] in _CHANNELS:
        return "channels come last: images.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[-1] in (2, 4):
        return f"leave out transparency: images[..., :{shape[-1] - 1}]"
    if len(shape) == 5:
        return "use jax.vmap, or reshape the leading axes into one"
    return "add the missing axis with images[None] or images[..., None]"


def check_integer(what: str, value: Any, allowed: Collection[int]) -> Array:
    """Returns a concrete integer inside the range, or a traced one, as int32."""
    wrong_type = f"{what} is {value!r}, not an integer from {allowed[0]} to {allowed[-1]}"
    if isinstance(value, jax.core.Tracer):
        if not jnp.issubdtype(value.dtype, jnp.integer) or value.ndim:
            raise TypeError(f"{what} is {value.aval}, not an integer from {allowed[0]} to {allowed[-1]}")
        return value.astype(jnp.int32)
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(wrong_type) from None
    if isinstance(value, bool):
        raise TypeError(wrong_type)
    if number not in allowed:
        raise ValueError(f"{what} is {number}; it must be from {allowed[0]} to {allowed[-1]}")
    return jnp.asarray(number, jnp.int32)


def check_severity(severity: Any) -> Array:
    """Returns a severity from 1 to 5, or a traced one, as int32."""
    return check_integer("severity", severity, SEVERITIES)


def check_first_index(first_index: Any) -> Array:
    """Returns the index of a batch's first image in its data set as int32."""
    return check_integer("first_index", first_index, range(2**31))


def check_jpeg_quality(what: str, quality: Any) -> int | None:
    """Returns a JPEG quality from 1 to 100, or None."""
    if isinstance(quality, jax.core.Tracer):
        raise TypeError(
            f"{what} is traced, but the tables of a JPEG are made before; pass an integer, or make it static"
        )
    return None if quality is None else int(check_integer(what, quality, range(1, 101)))


def check_textures(textures: Any) -> None:
    """Raises `TypeError` for anything but frost textures or None."""
    if textures is not None and not isinstance(textures, FrostTextures):
        raise TypeError(
            f"frost_textures is {type(textures).__name__}, not FrostTextures; FrostTextures.from_name() takes the name "
            "imagecorruptions or a directory"
        )


def check_choice(what: str, value: Any, allowed: Collection[str], otherwise: str = "") -> None:
    """Raises `ValueError` unless the value is one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(allowed)}{otherwise}")


def check_preset(preset: Any, longer_side: int) -> str:
    """Returns the preset, or, for None, the one that was made for images of that size."""
    if preset is None:
        return next(name for name, limit in PRESET_LIMITS_PX.items() if longer_side <= limit)
    check_choice("preset", preset, PRESETS, ", or None to take it from the size")
    return preset


@functools.cache
def checked_draw(draw: Callable) -> Callable:
    """Returns a corruption's `draw` that checks its arguments first."""

    @functools.wraps(draw)
    def checked(key, image, severity, preset, **prepared):
        return draw(key, *_check_one(image, severity, preset), **prepared)

    return checked


@functools.cache
def checked_apply(apply: Callable) -> Callable:
    """Returns a corruption's `apply` that checks its arguments first and computes in float32, under x64 too."""

    @functools.wraps(apply)
    def checked(image, draws, severity, preset, **prepared):
        image, severity, preset = _check_one(image, severity, preset)
        return apply(image, jax.tree.map(_as_32_bits, draws), severity, preset, **prepared)

    return checked


def _check_one(image: Any, severity: Any, preset: Any) -> tuple[Array, Array, str]:
    check_choice("preset", preset, PRESETS)
    return _check_image(image), check_severity(severity), preset


def _check_image(image: Any) -> Array:
    dtype = getattr(image, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        found = type(image).__name__ if dtype is None else dtype
        raise TypeError(f"image is {found}, not float32 in [0, 1]; divide 8-bit values by 255")
    if image.ndim != 3 or image.shape[-1] not in _CHANNELS:
        raise ValueError(
            f"image has shape {image.shape}, not [height, width, channels] with 1 or 3 channels; "
            "use jax.vmap for a batch"
        )
    if (known := range_of(image)) is not None:
        low, high = known
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            way = "divide it by 255" if low >= 0 and high <= _BRIGHTEST_BYTE else "undo its normalisation"
            raise ValueError(f"image has values from {low:g} to {high:g}, not in [0, 1]; {way}")
    return jnp.asarray(image, jnp.float32)


def _as_32_bits(values: Any) -> Array:
    values = np.asarray(values) if isinstance(values, float | int) else values
    if jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.asarray(values, jnp.float32)
    return jnp.asarray(values, jnp.int32) if jnp.issubdtype(values.dtype, jnp.signedinteger) else jnp.asarray(values)
