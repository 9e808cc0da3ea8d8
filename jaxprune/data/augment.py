"""Augmentation on the device: jittable, one key per batch, one draw per image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt8

PAD = 4  # pixels on each side, the usual CIFAR augmentation (STUDY, protocol)


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


AUGMENTATIONS = {"none": None, "crop": random_crop, "crop_and_flip": random_crop_and_flip}
