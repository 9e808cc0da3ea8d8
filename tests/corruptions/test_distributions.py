"""The library's own random numbers: the distributions that NumPy's have, over a thousand images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprune.corruptions import CORRUPTIONS, _random, corrupt, severities

_IMAGES = 1000
_LEVELS = np.array([0, 1, 25, 128, 250, 255], np.uint8)


@pytest.fixture(scope="module")
def keys():
    return jax.vmap(lambda index: jax.random.fold_in(jax.random.key(1), index))(jnp.arange(_IMAGES))


def _draws(keys, name, severity=5, preset="cifar", value=0.5):
    image = jnp.full((16, 16, 3), value)
    return jax.jit(jax.vmap(lambda key: CORRUPTIONS[name].draw(key, image, severity, preset)))(keys)


# Of the Kolmogorov-Smirnov statistic, times the square root of the sample size: exceeded once in a million.
_CRITICAL = 2.7


def _distance(sample, distribution):
    sample = np.sort(np.asarray(sample).reshape(-1))
    below = np.arange(len(sample)) / len(sample)
    return np.abs(distribution.cdf(sample) - below).max() * np.sqrt(len(sample))


def test_normal_draws_are_normal(keys):
    noise = _draws(keys, "gaussian_noise")["noise"]
    assert _distance(noise, stats.norm) < _CRITICAL
    assert np.abs(np.corrcoef(noise[:, 0, 0, 0], noise[:, 0, 0, 1])[0, 1]) < 0.15
    assert len(np.unique(noise[:, 0, 0, 0])) == _IMAGES


def test_uniform_draws_are_uniform(keys):
    impulse = _draws(keys, "impulse_noise")
    assert _distance(impulse["replace"], stats.uniform) < _CRITICAL
    assert _distance(impulse["salt"], stats.uniform) < _CRITICAL
    assert np.abs(np.corrcoef(impulse["replace"].reshape(-1), impulse["salt"].reshape(-1))[0, 1]) < 0.01
    assert _distance(_draws(keys, "motion_blur")["angle"], stats.uniform(-45, 90)) < _CRITICAL
    assert _distance(_draws(keys, "snow")["angle"], stats.uniform(-135, 90)) < _CRITICAL
    assert _distance(_draws(keys, "elastic_transform")["dx"], stats.uniform(-1, 2)) < _CRITICAL


@pytest.mark.parametrize("preset", severities.PRESETS)
def test_photon_counts_are_poisson(preset):
    images = np.broadcast_to(_LEVELS[None, :, None, None], (_IMAGES, len(_LEVELS), 64, 1))
    draw = jax.jit(
        jax.vmap(
            lambda key, image, severity: CORRUPTIONS["shot_noise"].draw(key, image, severity, preset), (0, 0, None)
        )
    )
    keys = jax.random.split(jax.random.key(2), _IMAGES)
    for severity, photons in enumerate(severities.SHOT_NOISE_PHOTONS[preset], start=1):
        counts = np.asarray(draw(keys, images.astype(np.float32) / 255, severity)["counts"])
        for index, level in enumerate(_LEVELS.tolist()):
            mean = photons * level / 255
            sample = counts[:, index].reshape(-1)
            assert abs(sample.mean() - mean) <= 5 * np.sqrt(mean / sample.size)
            assert abs(sample.var() - mean) <= 5 * np.sqrt((mean + 2 * mean**2) / sample.size)
            values, found = np.unique(sample, return_counts=True)
            expected = stats.poisson(mean).pmf(values)
            # Each bin within five of its own standard deviations, and never an impossible count.
            assert (
                np.abs(found / sample.size - expected) <= 5 * np.sqrt(expected / sample.size) + 1 / sample.size
            ).all()
            assert (expected > 1e-12).all()


def test_glass_offsets_leave_out_their_upper_end(keys):
    offsets = np.asarray(_draws(keys[:200], "glass_blur", preset="imagenet")["offsets"])
    reach = 4
    assert offsets.shape == (200, 3, 16, 16, 2)
    visited = offsets[:, :, reach + 1 : 16 - reach + 1, reach + 1 : 16 - reach + 1]
    values, found = np.unique(visited, return_counts=True)
    assert values.tolist() == list(range(-reach, reach))
    assert np.abs(found / found.sum() - 1 / (2 * reach)).max() < 0.01
    assert not offsets[:, :, : reach + 1].any()
    assert not offsets[:, :, 16 - reach + 1 :].any()


def test_frost_crops_all_textures_alike(keys):
    crops = np.asarray(_draws(keys, "frost")["crop"])
    assert crops.shape == (_IMAGES, 16, 16, 3)
    blue_minus_red = (crops[..., 2] - crops[..., 0]).mean((1, 2))
    # Only the first of the five textures is teal.
    assert abs((blue_minus_red > 40).mean() - 0.2) < 0.08
    assert len(np.unique(crops.sum((1, 2, 3)))) > 0.95 * _IMAGES


# Sum over 32 bins of the difference of two histograms; the plasma of a whole image is correlated.
_HISTOGRAM_DISTANCE = {"fog": 0.05, "spatter": 0.03}


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "fog", "spatter"])
def test_corrupted_pixels_are_distributed_like_the_oracle_s(name, photographs, oracle):
    if name == "spatter":
        pytest.importorskip("cv2")
    severity = 4
    images = np.tile(photographs, (_IMAGES // len(photographs), 1, 1, 1))
    actual = np.asarray(corrupt(jax.random.key(0), images, name=name, severity=severity), float)
    rng = np.random.RandomState(0)
    expected = np.stack(
        [
            oracle.apply(name, image, oracle.draw(rng, name, image, severity, "cifar"), severity, "cifar")
            for image in images
        ]
    ).astype(float)
    assert abs(actual.mean() - expected.mean()) < 0.5
    assert abs(actual.var() / expected.var() - 1) < 0.02
    histograms = [np.histogram(values, bins=32, range=(0, 256))[0] / values.size for values in (actual, expected)]
    assert np.abs(histograms[0] - histograms[1]).sum() < _HISTOGRAM_DISTANCE.get(name, 0.01)


def test_keys_of_all_kinds_become_threefry():
    words = jax.random.bits(jax.random.key(0), (4,), jnp.uint32)
    hashed = _random.threefry_key(jax.random.wrap_key_data(words, impl="rbg"))
    assert "threefry" in str(jax.random.key_impl(hashed))
    other = _random.threefry_key(jax.random.wrap_key_data(words.at[3].add(1), impl="rbg"))
    assert (jax.random.key_data(hashed) != jax.random.key_data(other)).any()
