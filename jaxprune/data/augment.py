"""Augmentation on the device: jittable functions `(key, images) -> images` on uint8 [n, h, w, c].

What happens to image i depends on the key and on i only (with JAX's threefry keys), not on how many images there are.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from jaxprune.data.mixtures import augmix

PAD = 4  # pixels on each side, the usual CIFAR augmentation (STUDY, protocol)
CROP_AREA, CROP_ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # Szegedy et al. 2015, Sec. 6
_CROP_ATTEMPTS = 10  # boxes drawn before the centre is taken, as in the implementations people compare with

Augmentation = Callable[[Key[Array, ""], UInt8[Array, "n h w c"]], UInt8[Array, "n h w c"]]


def random_crop(key: Key[Array, ""], images: UInt8[Array, "n h w c"], *, pad: int = PAD) -> UInt8[Array, "n h w c"]:
    """Returns each image padded with zeros by `pad` and cropped back to its size at a random position."""
    count, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (count, 2), 0, 2 * pad + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners)


def random_flip(key: Key[Array, ""], images: UInt8[Array, "n h w c"]) -> UInt8[Array, "n h w c"]:
    """Returns each image mirrored left to right with probability one half."""
    flip = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def random_crop_and_flip(key: Key[Array, ""], images: UInt8[Array, "n h w c"]) -> UInt8[Array, "n h w c"]:
    """Returns randomly cropped and mirrored images: the study's augmentation."""
    crop_key, flip_key = jax.random.split(key)
    return random_flip(flip_key, random_crop(crop_key, images))


def random_resized_crop(
    key: Key[Array, ""],
    images: UInt8[Array, "n h w c"],
    *,
    area: tuple[float, float] = CROP_AREA,
    aspect: tuple[float, float] = CROP_ASPECT,
) -> UInt8[Array, "n h w c"]:
    r"""Returns a random part of each image, resized to the image's size.

    The box has whole-pixel sides $\sqrt{a r} \cdot \sqrt{h w}$ by $\sqrt{a / r} \cdot \sqrt{h w}$ (width, height)
    with $a$ uniform in `area` and $\log r$ uniform in the logarithms of `aspect`; of ten draws the first that fits
    into the image counts, else the largest centred box of an allowed shape. Its position is uniform. Resizing is
    linear, antialiased where it shrinks, and sees nothing outside the box (Szegedy et al. 2015; the usual
    implementations). For 32 x 32 images an area of (0.25, 1) is the usual choice.

    Args:
      key: seeds the boxes.
      images: uint8 [n, h, w, c].
      area: smallest and largest share of the image's area, in (0, 1].
      aspect: smallest and largest width / height of the box.

    Raises:
      ValueError: a range that is empty, or outside these limits.
    """
    if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
        raise ValueError(f"area={area}, aspect={aspect}; give (smallest, largest), areas in (0, 1], aspects above 0")
    boxes = _draw_boxes(key, images.shape, area, aspect)
    return jax.vmap(_crop_and_resize)(images, boxes)


def _draw_boxes(key, shape, area, aspect) -> Int[Array, "n 4"]:
    """Returns top, left, height and width of one box per image."""
    count, height, width, _ = shape
    size_key, position_key = jax.random.split(key)
    draws = jax.random.uniform(size_key, (count, _CROP_ATTEMPTS, 2))
    areas = height * width * (area[0] + draws[..., 0] * (area[1] - area[0]))
    low, high = math.log(aspect[0]), math.log(aspect[1])
    aspects = jnp.exp(low + draws[..., 1] * (high - low))
    sides = jnp.stack([jnp.sqrt(areas / aspects), jnp.sqrt(areas * aspects)], axis=-1)
    sides = jnp.maximum(jnp.rint(sides).astype(jnp.int32), 1)
    limits = jnp.array([height, width])
    fits = (sides <= limits[None, None]).all(axis=-1)
    first = jnp.take_along_axis(sides, fits.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    shape_limits = (min(height, round(width / aspect[0])), min(width, round(height * aspect[1])))
    sides = jnp.where(fits.any(axis=1, keepdims=True), first, jnp.array(shape_limits)[None])
    room = limits[None] - sides
    offsets = jnp.floor(jax.random.uniform(position_key, (count, 2)) * (room + 1)).astype(jnp.int32)
    offsets = jnp.where(fits.any(axis=1, keepdims=True), jnp.minimum(offsets, room), room // 2)
    return jnp.concatenate([offsets, sides], axis=1)


def _crop_and_resize(image: UInt8[Array, "h w c"], box: Int[Array, "4"]) -> UInt8[Array, "h w c"]:
    top, left, box_height, box_width = box
    rows = _linear_weights(image.shape[0], top, box_height)
    columns = _linear_weights(image.shape[1], left, box_width)
    resized = jnp.einsum("ih,hwc->iwc", rows, image.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    resized = jnp.einsum("jw,iwc->ijc", columns, resized, precision=jax.lax.Precision.HIGHEST)
    return jnp.rint(jnp.clip(resized, 0, 255)).astype(jnp.uint8)


def _linear_weights(size: int, start: Int[Array, ""], length: Int[Array, ""]) -> Float[Array, "size size"]:
    """Returns how much each of `size` outputs takes of each input in `[start, start + length)`; rows sum to 1."""
    scale = length / size
    support = jnp.maximum(scale, 1.0)
    centres = start + (jnp.arange(size) + 0.5) * scale
    inputs = jnp.arange(size)
    weights = jnp.maximum(0, 1 - jnp.abs(inputs[None] + 0.5 - centres[:, None]) / support)
    weights = jnp.where((inputs >= start) & (inputs < start + length), 1.0, 0.0)[None] * weights
    return weights / weights.sum(axis=1, keepdims=True)


def random_corruption(corrupt_fn: Augmentation, *, probability: float) -> Augmentation:
    """Returns an augmentation that gives each image to `corrupt_fn` with some probability.

    Args:
      corrupt_fn: `corrupt_fn(key, images) -> images`, such as
        `lambda key, images: corruptions.corrupt(key, images, name="fog", severity=3)`.
      probability: of an image being corrupted, in [0, 1].

    Raises:
      ValueError: a probability outside [0, 1].
      TypeError: at the first call, if `corrupt_fn` changes the images' shape or type.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability}; give a number in [0, 1]")

    def augment(key, images):
        choice_key, corrupt_key = jax.random.split(key)
        corrupted = corrupt_fn(corrupt_key, images)
        if corrupted.shape != images.shape or corrupted.dtype != images.dtype:
            raise TypeError(
                f"corrupt_fn made {corrupted.dtype} {list(corrupted.shape)} of {images.dtype} {list(images.shape)}; "
                f"it must keep both"
            )
        chosen = jax.random.bernoulli(choice_key, probability, (len(images), 1, 1, 1))
        return jnp.where(chosen, corrupted, images)

    return augment


def chain(*augmentations: Augmentation) -> Augmentation:
    """Returns an augmentation that applies the given ones in order, each with a key of its own.

    Make it once and pass the same object again: a new one is compiled anew.
    """

    def augment(key, images):
        for one, one_key in zip(augmentations, jax.random.split(key, len(augmentations)), strict=True):
            images = one(one_key, images)
        return images

    return augment


AUGMENTATIONS = {
    "none": None,
    "crop": random_crop,
    "crop_and_flip": random_crop_and_flip,
    "resized_crop_and_flip": chain(random_resized_crop, random_flip),
    # for small images, such as 32 x 32: at least a quarter of the area
    "small_resized_crop_and_flip": chain(functools.partial(random_resized_crop, area=(0.25, 1.0)), random_flip),
    "crop_flip_and_augmix": chain(random_crop_and_flip, augmix),
}
