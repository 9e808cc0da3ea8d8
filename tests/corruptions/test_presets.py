"""The larger presets, odd sizes and grey images, against the float64 oracle with the library's own draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.corruptions import CORRUPTIONS, corrupt, to_uint8

# What truncates differently in float32: values of which many are whole numbers in float64.
_LARGER_MEANS = {"frost": 0.05, "brightness": 0.06, "saturate": 0.25, "defocus_blur": 0.05, "elastic_transform": 0.01}
_MEAN = 0.002

_NEEDS_OPENCV = ("spatter",)


@partial(jax.jit, static_argnames=("name", "preset"))
def _draw_and_apply(image, severity, *, name, preset):
    draws = CORRUPTIONS[name].draw(jax.random.key(0), image, severity, preset)
    return draws, to_uint8(CORRUPTIONS[name].apply(image, draws, severity, preset))


def _assert_near_oracle(oracle, image, name, preset):
    if name in _NEEDS_OPENCV:
        pytest.importorskip("cv2")
    for severity in range(1, 6):
        draws, actual = _draw_and_apply(image.astype(np.float32) / 255, severity, name=name, preset=preset)
        expected = oracle.apply(name, image, jax.tree.map(np.asarray, draws), severity, preset)
        difference = np.abs(np.asarray(actual, int) - expected)
        assert difference.max() <= 2, f"severity {severity}"
        assert difference.mean() <= _LARGER_MEANS.get(name, _MEAN), f"severity {severity}"


@pytest.fixture(scope="module")
def collage(photographs):
    """One picture of 64 x 64 pixels."""
    return photographs[:4].reshape(2, 2, 32, 32, 3).swapaxes(1, 2).reshape(64, 64, 3)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_matches_the_oracle_at_an_odd_size_that_is_not_square(name, oracle, collage):
    _assert_near_oracle(oracle, collage[:50, :37], name, "tiny_imagenet")


@pytest.mark.parametrize("name", ["glass_blur", "defocus_blur", "zoom_blur", "snow", "shot_noise", "pixelate"])
def test_matches_the_oracle_with_the_numbers_of_imagenet(name, oracle, collage):
    _assert_near_oracle(oracle, collage, name, "imagenet")


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "motion_blur", "pixelate", "jpeg_compression", "fog"])
def test_a_grey_image_is_its_only_channel(name, oracle, collage):
    _assert_near_oracle(oracle, collage[:33, :29, :1], name, "cifar")


@pytest.mark.parametrize("name", ["brightness", "saturate", "snow", "frost", "spatter"])
def test_a_grey_image_gets_the_luma_of_what_its_colors_become(name, photographs):
    grey = photographs[:2, :, :, :1]
    key = jax.random.key(0)
    for severity in (1, 4):
        colored = np.asarray(corrupt(key, np.repeat(grey, 3, axis=-1), name=name, severity=severity))
        actual = np.asarray(corrupt(key, grey, name=name, severity=severity), float)[..., 0]
        is_unclipped = (colored.max(-1) < 255) & (colored.min(-1) > 0)
        assert is_unclipped.mean() > 0.3
        assert np.abs(actual - colored @ [0.299, 0.587, 0.114])[is_unclipped].max() <= 2


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if CORRUPTIONS[name].smallest_side > 1])
def test_the_smallest_images_work_and_smaller_ones_are_refused(name, rng):
    side = CORRUPTIONS[name].smallest_side
    images = rng.integers(0, 256, (1, side, side + 1, 3), dtype=np.uint8)
    assert corrupt(jax.random.key(0), images, name=name, severity=5).shape == images.shape
    with pytest.raises(ValueError, match=f"{name} needs images of at least {side} x {side} pixels"):
        corrupt(jax.random.key(0), images[:, 1:], name=name, severity=5)


def test_an_integer_severity_is_as_good_as_an_array(photographs):
    image = photographs[0] / 255
    for severity in (2, np.int64(2), jnp.asarray(2)):
        result = CORRUPTIONS["contrast"].apply(jnp.asarray(image, jnp.float32), {}, severity, "imagenet")
        np.testing.assert_allclose(
            result, (image - image.mean((0, 1))[None, None]) * 0.3 + image.mean((0, 1)), atol=1e-6
        )
