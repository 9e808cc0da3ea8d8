"""Resized crops, AugMix and corruption as augmentation: against Pillow and definitions, and their statistics."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import stats

from jaxprune import data
from jaxprune.data import augment as augment_module
from jaxprune.data import mixtures


@pytest.fixture(scope="module")
def photographs():
    with np.load(pathlib.Path(__file__).parent.parent / "data" / "cifar_c_golden.npz") as golden:
        return golden["clean"]


def pillow(name, image, magnitude):
    image = Image.fromarray(image)
    if name in ("autocontrast", "equalize"):
        return getattr(ImageOps, name)(image)
    if name in ("posterize", "solarize"):
        return getattr(ImageOps, name)(image, magnitude)
    if name == "rotate":
        return image.rotate(magnitude, resample=Image.Resampling.BILINEAR)
    m = magnitude
    matrix = {
        "shear_x": (1, m, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, m, 1, 0),
        "translate_x": (1, 0, m, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, m),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


MAGNITUDES = {
    "autocontrast": (0,),
    "equalize": (0,),
    "posterize": (1, 2, 3, 4, 8),
    "solarize": (0, 128, 180, 256),
    "rotate": (-30, -9, 0, 3, 30),
    "shear_x": (-0.3, 0.02, 0.3),
    "shear_y": (-0.3, 0.02, 0.3),
    "translate_x": (-10, 0, 3),
    "translate_y": (-10, 0, 3),
}
# Largest and mean difference of uint8 values. Pillow truncates float64: results on integers may differ by one.
TOLERANCE = dict.fromkeys(MAGNITUDES, (1, 0.01)) | dict.fromkeys(
    ("equalize", "posterize", "solarize", "translate_x", "translate_y"), (0, 0)
)


@pytest.mark.parametrize("name", mixtures.OPERATIONS)
def test_operations_equal_pillows(name, photographs):
    grey = np.full((32, 32, 3), 77, np.uint8)
    two = np.where(np.arange(32)[:, None, None] < 3, 10, 200).astype(np.uint8) * np.ones((32, 32, 3), np.uint8)
    images = np.concatenate([photographs, photographs // 3 + 40, [grey, two]])
    operate = jax.jit(
        jax.vmap(lambda image, m: mixtures.apply_operation(image, name=name, magnitude=m), in_axes=(0, None))
    )
    for magnitude in MAGNITUDES[name]:
        actual = np.asarray(operate(images, jnp.asarray(magnitude, jnp.float32)), int)
        expected = np.stack([np.asarray(pillow(name, image, magnitude)) for image in images])
        largest, mean = TOLERANCE[name]
        assert np.abs(actual - expected).max() <= largest
        assert np.abs(actual - expected).mean() <= mean


def test_images_need_not_be_square(photographs):
    images = photographs[:, :20]
    for name, magnitude in (("rotate", 20), ("equalize", 0), ("translate_y", 5)):
        actual = [mixtures.apply_operation(image, name=name, magnitude=magnitude) for image in images[:2]]
        expected = [np.asarray(pillow(name, image, magnitude)) for image in images[:2]]
        assert np.abs(np.asarray(actual, int) - expected).max() <= 1
    with pytest.raises(ValueError, match="unknown operation 'blur'; known: autocontrast, equalize, .*translate_y"):
        mixtures.apply_operation(images[0], name="blur", magnitude=1)


def test_strengths_become_the_magnitudes_of_the_paper():
    # At strength 10 of 10: posterize keeps 0 bits, solarize from 0, 30 degrees, shear 0.3, a third of the image.
    colour = {name: float(scale(jnp.asarray(10.0))) for name, (_, scale) in mixtures.COLOUR_OPERATIONS.items()}
    assert (colour["posterize"], colour["solarize"]) == (0, 0)
    for sign in (1, -1):
        size = (30, 60)
        scaled = {name: float(scale(sign * 10.0, size)) for name, (_, scale) in mixtures.GEOMETRIC_OPERATIONS.items()}
        expected = {"rotate": 30, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 20, "translate_y": 10}
        assert scaled == pytest.approx({name: sign * value for name, value in expected.items()})
    assert float(mixtures.COLOUR_OPERATIONS["posterize"][1](jnp.asarray(2.4))) == 4
    assert float(mixtures.GEOMETRIC_OPERATIONS["rotate"][1](-0.9, (32, 32))) == -2


def test_a_chain_applies_its_operations_in_order_and_the_mixture_adds_them_up(photographs):
    image = photographs[0]
    names = [["rotate", "equalize"], ["solarize", "shear_x"]]
    strength = np.array([[2.5, 1.0], [4.0, -7.0]], np.float32)
    used = np.array([[True, True], [True, False]])
    operation = np.array([[mixtures.OPERATIONS.index(name) for name in chain] for chain in names])
    weights, mixing = np.array([0.25, 0.75], np.float32), np.float32(0.6)
    first = np.asarray(pillow("equalize", np.asarray(pillow("rotate", image, 7)), 0))
    second = np.asarray(pillow("solarize", image, 256 - 102))
    expected = 0.4 * image + 0.6 * (0.25 * first + 0.75 * second)
    actual = mixtures._mix(image, operation, strength, used, weights, mixing)
    # Equalize spreads neighbouring values, so where rotation differs by one, it may differ by a few.
    assert np.abs(actual - expected).mean() < 0.51
    assert np.abs(actual - expected).max() <= 3


def test_augmix_draws_as_the_paper_says(monkeypatch, photographs):
    seen = {}

    def record(images, operation, strength, is_used, weights, mixing):
        seen.update(operation=operation, strength=strength, is_used=is_used, weights=weights, mixing=mixing)
        return images

    monkeypatch.setattr(jax, "vmap", lambda _: record)
    data.augmix(jax.random.key(0), np.zeros((3000, 2, 2, 3), np.uint8), severity=3.0)
    draws = {name: np.asarray(value) for name, value in seen.items()}
    assert draws["operation"].shape == draws["strength"].shape == (3000, 3, 3)
    assert stats.chisquare(np.bincount(draws["operation"].ravel(), minlength=9)).pvalue > 1e-3
    assert stats.kstest(np.abs(draws["strength"]).ravel(), stats.uniform(0.1, 2.9).cdf).pvalue > 1e-3
    assert abs((draws["strength"] > 0).mean() - 0.5) < 0.02
    lengths = draws["is_used"].sum(axis=2)
    assert stats.chisquare(np.bincount(lengths.ravel(), minlength=4)[1:]).pvalue > 1e-3
    assert (draws["is_used"] == (np.arange(3) < lengths[..., None])).all()
    np.testing.assert_allclose(draws["weights"].sum(axis=1), 1, atol=1e-5)
    assert stats.kstest(draws["weights"][:, 0], stats.beta(1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(draws["mixing"], stats.uniform.cdf).pvalue > 1e-3


def box_resize(image, top, left, height, width):
    size = image.shape[:2][::-1]
    box = Image.fromarray(image).crop((left, top, left + width, top + height))
    return np.asarray(box.resize(size, Image.Resampling.BILINEAR), int)


def test_boxes_are_resized_as_pillow_resizes_a_crop(photographs):
    resize = jax.jit(augment_module._crop_and_resize)
    for box in ((0, 0, 32, 32), (3, 5, 8, 11), (10, 0, 22, 32), (31, 31, 1, 1), (0, 7, 32, 9)):
        for image in photographs[:3]:
            actual = np.asarray(resize(image, np.array(box)), int)
            # Pillow rounds after each of the two directions, in 8 bits.
            assert np.abs(actual - box_resize(image, *box)).max() <= 1
    np.testing.assert_array_equal(resize(photographs[0], np.array([0, 0, 32, 32])), photographs[0])


@pytest.mark.parametrize(("shape", "area"), [((40, 40), (0.08, 1.0)), ((20, 60), (0.3, 1.0))])
def test_boxes_have_the_areas_shapes_and_positions_asked_for(shape, area):
    images_shape = (6000, *shape, 3)
    boxes = np.asarray(augment_module._draw_boxes(jax.random.key(1), images_shape, area, (3 / 4, 4 / 3)))
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (top + height <= shape[0]).all()
    assert (left + width <= shape[1]).all()
    shares = height * width / (shape[0] * shape[1])
    assert shares.max() <= area[1] + 0.03
    # Whole pixels: an aspect of 4/3 may become (w + 1/2) / (h - 1/2).
    assert ((width - 0.5) / (height + 0.5)).max() <= 4 / 3
    assert ((width + 0.5) / (height - 0.5)).min() >= 3 / 4
    if shape[0] == shape[1]:
        assert shares.min() >= area[0] - 0.01
        # Small boxes fit whatever their shape, so their areas stay uniform.
        small = shares[(shares > 0.1) & (shares < 0.7)]
        assert stats.kstest(small, stats.uniform(0.1, 0.6).cdf).statistic < 0.03
        room = shape[0] - height
        assert abs((top[room > 0] / room[room > 0]).mean() - 0.5) < 0.02
    else:
        # A share of 0.3 needs a side of about 19 of 20 rows: the few boxes that fit, else the largest centred one.
        fallback = (height == 20) & (width == 27)
        assert fallback.any()
        assert set(left[fallback]) >= {(60 - 27) // 2}


def test_resized_crops_refuse_ranges_that_make_no_sense():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    for options in ({"area": (0.0, 1.0)}, {"area": (0.5, 0.4)}, {"area": (0.5, 1.1)}, {"aspect": (2.0, 1.0)}):
        with pytest.raises(ValueError, match=r"areas in \(0, 1\], aspects above 0"):
            data.random_resized_crop(jax.random.key(0), images, **options)
    for options in ({"severity": 0.0}, {"severity": 11}, {"width": 0}, {"depth": 0}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match="severity must be in"):
            data.augmix(jax.random.key(0), images, **options)


@pytest.mark.parametrize("name", [name for name in data.AUGMENTATIONS if name != "none"])
def test_augmentations_are_repeatable_compile_once_and_see_one_image_at_a_time(name, photographs):
    traces = []

    @jax.jit
    def augment(key, images):
        traces.append(images.shape)
        return data.AUGMENTATIONS[name](key, images)

    once, again, other = (np.asarray(augment(jax.random.key(seed), photographs)) for seed in (0, 0, 1))
    assert len(traces) == 1
    assert (once.dtype, once.shape) == (np.uint8, photographs.shape)
    np.testing.assert_array_equal(once, again)
    assert (once != other).any(axis=(1, 2, 3)).mean() > 0.5
    # Image i depends on the key and on i: neither on its neighbours nor on how many there are.
    fewer = np.asarray(jax.jit(data.AUGMENTATIONS[name])(jax.random.key(0), photographs[:5]))
    np.testing.assert_array_equal(fewer, once[:5])
    changed = photographs.copy()
    changed[-1] = 255 - changed[-1]
    np.testing.assert_array_equal(np.asarray(augment(jax.random.key(0), changed))[:-1], once[:-1])


def test_corruption_hits_the_share_of_images_asked_for():
    images = np.full((2000, 2, 2, 1), 100, np.uint8)
    invert = lambda key, images: 255 - images  # noqa: E731
    corrupted = np.asarray(data.random_corruption(invert, probability=0.3)(jax.random.key(0), images))
    assert set(np.unique(corrupted)) == {100, 155}
    assert (corrupted == corrupted[:, :1, :1]).all()
    assert abs((corrupted[:, 0, 0, 0] == 155).mean() - 0.3) < 0.04
    for probability, value in ((0.0, 100), (1.0, 155)):
        always = data.random_corruption(invert, probability=probability)(jax.random.key(0), images)
        assert (np.asarray(always) == value).all()
    with pytest.raises(ValueError, match=r"probability=1.5; give a number in \[0, 1\]"):
        data.random_corruption(invert, probability=1.5)
    with pytest.raises(TypeError, match=r"made float32 \[2000, 2, 2, 1\] of uint8 .*it must keep both"):
        data.random_corruption(lambda key, images: images / 255, probability=1.0)(
            jax.random.key(0), jnp.asarray(images)
        )


def test_the_corruptions_of_the_package_serve_as_augmentation(photographs):
    from jaxprune import corruptions

    def brighten(key, images):
        return corruptions.corrupt(key, images, name="brightness", severity=5)

    augment = jax.jit(data.chain(data.random_flip, data.random_corruption(brighten, probability=1.0)))
    augmented = np.asarray(augment(jax.random.key(0), photographs))
    assert augmented.dtype == np.uint8
    assert augmented.mean() > photographs.mean() + 20


def test_a_chain_runs_in_order_with_different_keys():
    seen = []

    def note(add):
        def augment(key, images):
            seen.append(jax.random.key_data(key).tolist())
            return images * 2 + add

        return augment

    result = data.chain(note(1), note(5))(jax.random.key(0), jnp.full((1, 1, 1, 1), 3, jnp.uint8))
    assert int(result[0, 0, 0, 0]) == (3 * 2 + 1) * 2 + 5
    assert seen[0] != seen[1]
