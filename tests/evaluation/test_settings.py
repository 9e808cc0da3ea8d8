"""The key of an evaluation: one seed, one set of corrupted images."""

import jax
import pytest

from jaxprune import evaluation
from tests.training.test_options import dataset, net


def rows(key):
    images = dataset(count=24, split="test")
    return evaluation.evaluate(net(), images, key=key, corruptions=("gaussian_noise",), severities=(5,), clean=False)


def test_a_seed_gives_the_same_images_whatever_the_default_generator_is():
    expected = rows(jax.random.key(3))
    for generator in ("rbg", "unsafe_rbg"):
        assert rows(jax.random.key(3, impl=generator)) == expected
    assert rows(jax.random.key(4)) != expected


def test_a_seed_is_no_key():
    with pytest.raises(TypeError, match=r"key is int, not a random key; pass jax\.random\.key\(3\)"):
        rows(3)
