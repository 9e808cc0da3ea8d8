"""`corrupt`: a batch of 8-bit images, checked, corrupted image by image under one compilation, and truncated."""

import difflib
import math
import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, UInt8

from jaxprune.corruptions import _random
from jaxprune.corruptions.image import to_uint8
from jaxprune.corruptions._jpeg import JPEG_METHODS, jpeg_round_trip, quantization_tables
from jaxprune.corruptions.table import CORRUPTIONS
from jaxprune.corruptions.frost_textures import FrostTextures
from jaxprune.corruptions.severities import PRESET_LIMITS_PX, PRESETS

# Arguments that are checked here: what is wrong with them is said in our words, not in a type checker's.
_Unchecked = Any

_SEVERITIES = range(1, 6)
_CHANNELS = (1, 3)
_JPEG_QUALITIES = range(1, 101)

# Pixels that are corrupted at a time: bounds the memory that temporaries take, whatever the batch is.
_PIXELS_PER_CHUNK = 2**18


def corrupt(
    key: _Unchecked,
    images: _Unchecked,
    *,
    name: _Unchecked,
    severity: _Unchecked,
    preset: _Unchecked = None,
    first_index: _Unchecked = 0,
    jpeg: _Unchecked = "exact",
    post_jpeg: _Unchecked = None,
    frost_textures: FrostTextures | None = None,
) -> UInt8[Array, "batch height width channels"]:
    """Returns the corrupted images, uint8, same shape.

    Image `i` is corrupted with the random numbers of `fold_in(key, first_index + i)`, by threefry whatever the
    default generator is. So the result does not depend on how a data set is cut into batches or spread over devices:
    pass the global index of the first image as `first_index`.

    Compiled once per name, preset and shape; `severity`, `first_index` and `key` may be traced, so `corrupt` works
    inside `jit`, `vmap`, `pmap` and `shard_map`, with the same pixels.

    Args:
      key: a random key.
      images: uint8 [batch, height, width, channels] with 1 (grey) or 3 (RGB) channels, of any height and width.
      name: a key of `CORRUPTIONS`.
      severity: 1 to 5. A traced severity outside that range acts like the nearest.
      preset: whose numbers to use: "cifar", "tiny_imagenet" or "imagenet". By default the one that suits the
        longer side of the images: up to 48 pixels, up to 96, above.
      first_index: the index that the first image of the batch has in the data set.
      jpeg: "exact" computes JPEG in libjpeg's integer arithmetic, bit by bit; "float" spares the roundings in between
        and is faster where integer products are slow. It differs by 0.1 to 0.4 of 255 on average, and by up to 2
        where the image was a JPEG before, whose coefficients lie on the edges of rounding.
      post_jpeg: a JPEG quality, 1 to 100, at which the corrupted images are re-encoded; None for not at all. The
        released Tiny-ImageNet-C and ImageNet-C files are JPEGs of quality 85, those of CIFAR-10-C are not compressed.
      frost_textures: what frost is cropped from, by default `FrostTextures.procedural()`.

    Raises:
      TypeError: images that are not uint8, a severity that is no integer, a key that is none.
      ValueError: an unknown name or preset, a severity outside 1..5, a wrong rank or number of channels, images too
        small for the corruption.

    Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261

    >>> images = jnp.full((2, 32, 32, 3), 200, jnp.uint8)
    >>> corrupt(jax.random.key(0), images, name="contrast", severity=3).shape
    (2, 32, 32, 3)
    """
    if name not in CORRUPTIONS:
        nearest = difflib.get_close_matches(str(name), CORRUPTIONS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
        raise ValueError(f"unknown corruption {name!r}{hint} Choose from {', '.join(CORRUPTIONS)}")
    key = _random.threefry_key(key)
    images = _check_images(images, name)
    severity = _check_integer("severity", severity, _SEVERITIES)
    first_index = _check_integer("first_index", first_index, range(2**31))
    preset = _check_preset(preset, max(images.shape[1:3]))
    if jpeg not in JPEG_METHODS:
        raise ValueError(f"unknown jpeg method {jpeg!r}; choose from {', '.join(JPEG_METHODS)}")
    if post_jpeg is not None:
        post_jpeg = int(_check_integer("post_jpeg", post_jpeg, _JPEG_QUALITIES))
    if images.shape[0] == 0:
        return images
    atlas = None
    if name == "frost":
        atlas = (frost_textures or FrostTextures.procedural()).atlas(preset, images.shape[1:3])
    static = {"name": name, "preset": preset, "jpeg": jpeg, "post_jpeg": post_jpeg}
    return _corrupt_batch(key, images, severity, first_index, atlas, **static)


@partial(jax.jit, static_argnames=("name", "preset", "jpeg", "post_jpeg"))
def _corrupt_batch(key, images, severity, first_index, atlas, *, name, preset, jpeg, post_jpeg):
    draw, apply, _ = CORRUPTIONS[name]
    if name == "jpeg_compression":
        apply = partial(apply, method=jpeg)
    # Behind the barrier a severity that is constant in a caller's jit is compiled like any other, to the same pixels.
    severity = lax.optimization_barrier(jnp.clip(severity, _SEVERITIES[0], _SEVERITIES[-1]))
    indices = (first_index + lax.iota(jnp.int32, len(images))).astype(jnp.uint32)
    words = jax.vmap(lambda index: jax.random.key_data(jax.random.fold_in(key, index)))(indices)

    @jax.custom_batching.custom_vmap
    def corrupt_all(words, images, severity, atlas):
        options = {"atlas": atlas} if name == "frost" else {}

        def corrupt_one(words, image):
            unit = image.astype(jnp.float32) / 255
            draws = draw(_random.threefry_key(words), unit, severity, preset, **options)
            corrupted = to_uint8(apply(unit, draws, severity, preset))
            return corrupted if post_jpeg is None else _recompress(corrupted, post_jpeg, jpeg)

        return _map_in_chunks(corrupt_one, words, images)

    @corrupt_all.def_vmap
    def _as_one_batch(axis_size, in_batched, words, images, severity, atlas):
        """Under a caller's vmap the batches become one: a second mapped axis would be rounded differently."""
        args = [
            array if batched else jnp.broadcast_to(array, (axis_size, *array.shape))
            for array, batched in zip((words, images, severity), in_batched[:3], strict=True)
        ]
        if in_batched[2]:
            return lax.map(lambda each: corrupt_all(*each, atlas), tuple(args)), True
        flat = (array.reshape(-1, *array.shape[2:]) for array in args[:2])
        return corrupt_all(*flat, severity, atlas).reshape(axis_size, *images.shape[-4:]), True

    return corrupt_all(words, images, severity, atlas)


def _recompress(image, quality, method):
    decoded = jpeg_round_trip(image.astype(jnp.float32), jnp.asarray(quantization_tables(quality)), method)
    return decoded.astype(jnp.uint8)


def _map_in_chunks(function, words, images):
    """Returns `vmap(function)(words, images)`, computed some images at a time so that temporaries stay bounded.

    The batch is cut into equal chunks, the last filled up with copies of the first images. A chunk takes every n-th
    image, so that a batch spread over devices stays where it is.
    """
    chunks = math.ceil(len(images) * math.prod(images.shape[1:3]) / _PIXELS_PER_CHUNK)
    chunks = min(chunks, len(images))
    if chunks == 1:
        return jax.vmap(function)(words, images)
    size = math.ceil(len(images) / chunks)

    def cut(array):
        filled = jnp.concatenate([array, array[: size * chunks - len(array)]])
        return filled.reshape(size, chunks, *array.shape[1:]).swapaxes(0, 1)

    result = lax.map(lambda chunk: jax.vmap(function)(*chunk), (cut(words), cut(images)))
    return result.swapaxes(0, 1).reshape(size * chunks, *images.shape[1:])[: len(images)]


def _check_images(images: _Unchecked, name: str) -> Array:
    if not hasattr(images, "dtype") or images.dtype != jnp.uint8:
        found = getattr(images, "dtype", type(images).__name__)
        raise TypeError(
            f"images are {found}, not uint8; corrupt() takes 8-bit images: round 255 * image if it is in [0, 1]"
        )
    if images.ndim != 4 or images.shape[-1] not in _CHANNELS:
        raise ValueError(
            f"images have shape {images.shape}, not [batch, height, width, channels] with 1 or 3 channels; "
            "add the missing axis with images[None] or images[..., None]"
        )
    smallest = CORRUPTIONS[name].smallest_side
    if min(images.shape[1:3]) < smallest:
        height, width = images.shape[1:3]
        raise ValueError(f"{name} needs images of at least {smallest} x {smallest} pixels, not {height} x {width}")
    return jnp.asarray(images)


def _check_integer(what: str, value: _Unchecked, allowed: range) -> Array:
    """Returns a concrete integer inside the range, or a traced one, as int32."""
    wrong_type = f"{what} is {value!r}, not an integer from {allowed[0]} to {allowed[-1]}"
    if isinstance(value, jax.core.Tracer):
        if not jnp.issubdtype(value.dtype, jnp.integer) or value.ndim:
            raise TypeError(wrong_type)
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


def _check_preset(preset: _Unchecked, longer_side: int) -> str:
    if preset is None:
        return next(name for name, limit in PRESET_LIMITS_PX.items() if longer_side <= limit)
    if preset not in PRESETS:
        raise ValueError(
            f"unknown preset {preset!r}; choose from {', '.join(PRESETS)}, or None to take it from the size"
        )
    return preset
