"""The JPEG round trip against the libjpeg-turbo that Pillow brings."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.corruptions import corrupt
from jaxprune.corruptions._jpeg import jpeg_round_trip, quantization_tables


def _pillow(image, quality):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


@pytest.mark.parametrize("size", [(31, 33), (48, 50), (9, 4), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_is_exact_at_any_size_and_quality(size, channels, rng, photographs):
    tile = np.tile(photographs[0], (2, 2, 1))[: size[0], : size[1], :channels]
    noise = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
    round_trip = jax.jit(lambda image, tables: jpeg_round_trip(image, tables, "exact"))
    for image in (tile, noise):
        for quality in (1, 25, 50, 75, 98, 100):
            actual = round_trip(image.astype(np.float32), quantization_tables(quality))
            np.testing.assert_array_equal(actual, _pillow(image, quality), err_msg=f"quality {quality}")


def test_the_float_method_is_near(photographs):
    for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
        actual = corrupt(jax.random.key(0), photographs, name="jpeg_compression", severity=severity, jpeg="float")
        expected = np.stack([_pillow(image, quality) for image in photographs])
        assert 0 < np.abs(np.asarray(actual, int) - expected).mean() < 0.4, f"severity {severity}"


def test_post_jpeg_encodes_the_corrupted_images(photographs):
    key = jax.random.key(0)
    plain = np.asarray(corrupt(key, photographs, name="contrast", severity=1))
    actual = corrupt(key, photographs, name="contrast", severity=1, post_jpeg=85)
    np.testing.assert_array_equal(actual, np.stack([_pillow(image, 85) for image in plain]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"jpeg": "fast"}, ValueError, "unknown jpeg method 'fast'; choose from exact, float"),
        ({"post_jpeg": 0}, ValueError, "post_jpeg is 0; it must be from 1 to 100"),
        ({"post_jpeg": 85.0}, TypeError, "post_jpeg is 85.0, not an integer"),
    ],
)
def test_says_what_is_wrong_with_an_option(options, error, message, photographs):
    with pytest.raises(error, match=message):
        corrupt(jax.random.key(0), photographs, name="jpeg_compression", severity=1, **options)


def test_tables_are_those_of_a_file(photographs):
    from PIL import Image

    for quality in (1, 49, 50, 99):
        file = io.BytesIO()
        Image.fromarray(photographs[0]).save(file, "JPEG", quality=quality)
        written = Image.open(file).quantization
        np.testing.assert_array_equal(quantization_tables(quality).reshape(2, 64), [written[0], written[1]])
    assert jnp.asarray(quantization_tables(50)).dtype == jnp.int32
