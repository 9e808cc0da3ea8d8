"""`corrupt`: a batch of 8-bit images, checked, corrupted image by image under one compilation, and truncated."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Integer, Key, UInt8, UInt32

from jaxprune.corruptions import _checks
from jaxprune.corruptions._jpeg import EXACT, JPEG_METHODS, jpeg_round_trip, quantization_tables
from jaxprune.corruptions.frost_textures import FrostTextures
from jaxprune.corruptions.image import Severity, to_uint8
from jaxprune.corruptions.prepared import Options, Prepared
from jaxprune.corruptions.table import CORRUPTIONS, Corruption
from jaxprune.names import SEVERITIES
from jaxprune.randomness import threefry_key

_Arguments, _Result = ParamSpec("_Arguments"), TypeVar("_Result")

# Pixels that are corrupted at a time: bounds the memory that temporaries take, whatever the batch is.
_PIXELS_PER_CHUNK = 2**18


def _with_checks(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Returns `corrupt` with its arguments checked, so that our words come before those of a run-time type checker."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = given.arguments
        name = arguments["name"]
        _checks.check_name(name, CORRUPTIONS)
        arguments["key"] = threefry_key(arguments["key"])
        images = _checks.check_images(arguments["images"], name, CORRUPTIONS[name].smallest_side)
        arguments["images"] = images
        arguments["severity"] = _checks.check_severity(arguments["severity"])
        arguments["first_index"] = _checks.check_first_index(arguments["first_index"])
        arguments["preset"] = _checks.check_preset(arguments["preset"], max(images.shape[1:3]))
        _checks.check_choice("jpeg method", arguments["jpeg"], JPEG_METHODS)
        arguments["post_jpeg"] = _checks.check_jpeg_quality("post_jpeg", arguments["post_jpeg"])
        _checks.check_textures(arguments["frost_textures"])
        return function(*given.args, **given.kwargs)

    return checked


@_with_checks
def corrupt(
    key: Key[Array, ""] | UInt32[Array | np.ndarray, " words"],
    images: UInt8[Array | np.ndarray, "batch height width channels"],
    *,
    name: str,
    severity: Severity,
    preset: str | None = None,
    first_index: int | np.integer | Integer[Array | np.ndarray, ""] = 0,
    jpeg: str = EXACT,
    post_jpeg: int | None = None,
    frost_textures: FrostTextures | None = None,
) -> UInt8[Array, "batch height width channels"]:
    """Returns the corrupted images, uint8, same shape.

    Image `i` is corrupted with the random numbers of `fold_in(key, first_index + i)`, by threefry whatever the
    default generator is. So the result does not depend on how a data set is cut into batches or spread over devices:
    pass the global index of the first image as `first_index`. Nor does it depend on JAX's settings of numbers:
    `jax_enable_x64`, `jax_threefry_partitionable`, `jax_default_prng_impl`, `jax_numpy_dtype_promotion`.

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
      TypeError: images that are not uint8, a severity or index that is no integer, a key or textures that are none.
      ValueError: an unknown name, preset or method, a severity outside 1..5, a negative index, a wrong rank or number
        of channels, images too small for the corruption (`CORRUPTIONS[name].smallest_side`).

    Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261

    >>> images = jnp.full((2, 32, 32, 3), 200, jnp.uint8)
    >>> corrupt(jax.random.key(0), images, name="contrast", severity=3).shape
    (2, 32, 32, 3)
    """
    if images.shape[0] == 0:
        return images
    corruption = CORRUPTIONS[name]
    prepared = Prepared(draw={}, apply={})
    if corruption.prepare is not None:
        prepared = corruption.prepare(preset, images.shape[1:3], Options(frost_textures, jpeg))
    static = {"corruption": corruption, "preset": preset, "post_jpeg": post_jpeg, "jpeg": jpeg}
    return _corrupt_batch(key, images, severity, first_index, prepared, **static)


@functools.partial(jax.jit, static_argnames=("corruption", "preset", "post_jpeg", "jpeg"))
def _corrupt_batch(key, images, severity, first_index, prepared, *, corruption: Corruption, preset, post_jpeg, jpeg):
    # Behind the barrier a severity that is constant in a caller's jit is compiled like any other, to the same pixels.
    severity = lax.optimization_barrier(jnp.clip(severity, SEVERITIES[0], SEVERITIES[-1]))
    indices = (first_index + lax.iota(jnp.int32, len(images))).astype(jnp.uint32)
    words = jax.vmap(lambda index: jax.random.key_data(jax.random.fold_in(key, index)))(indices)

    @jax.custom_batching.custom_vmap
    def corrupt_all(words, images, severity, prepared):
        def corrupt_one(words, image):
            unit = image.astype(jnp.float32) / 255
            draws = corruption.draw(threefry_key(words), unit, severity, preset, **prepared.draw)
            corrupted = to_uint8(corruption.apply(unit, draws, severity, preset, **prepared.apply))
            return corrupted if post_jpeg is None else _recompress(corrupted, post_jpeg, jpeg)

        return _map_in_chunks(corrupt_one, words, images)

    @corrupt_all.def_vmap
    def _as_one_batch(axis_size, in_batched, words, images, severity, prepared):
        """Under a caller's vmap the batches become one: a second mapped axis would be rounded differently."""
        args = [
            array if batched else jnp.broadcast_to(array, (axis_size, *array.shape))
            for array, batched in zip((words, images, severity), in_batched[:3], strict=True)
        ]
        if in_batched[2]:
            return lax.map(lambda each: corrupt_all(*each, prepared), tuple(args)), True
        flat = (array.reshape(-1, *array.shape[2:]) for array in args[:2])
        return corrupt_all(*flat, severity, prepared).reshape(axis_size, *images.shape[-4:]), True

    return corrupt_all(words, images, severity, prepared)


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
