"""Where frost comes from: grown, a directory, or an installed package; at the scale that a preset asks for."""

import importlib.metadata
import types

import jax
import numpy as np
import pytest

from jaxprune.corruptions import CORRUPTIONS, FrostTextures, corrupt, to_uint8

_NAMES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def _write(folder, names, size=(300, 310)):
    from PIL import Image

    for index, name in enumerate(names):
        Image.new("RGB", size[::-1], (40 * index, 10, 200)).save(folder / name)


def test_procedural_textures_are_made_once_and_say_so():
    textures = FrostTextures.procedural()
    assert textures is FrostTextures.procedural()
    assert textures.provenance.startswith("procedural")
    assert [image.shape for image in textures.images] == [
        (600, 900, 3),
        (315, 560, 3),
        (315, 560, 3),
        (350, 527, 3),
        (495, 660, 3),
    ]


def test_procedural_frost_has_the_light_and_the_contrast_of_the_photographs(frost_photographs):
    pixels, sizes = FrostTextures.procedural().atlas("cifar", (32, 32))
    for slot, (height, width), photograph in zip(pixels, sizes, frost_photographs, strict=True):
        grown = slot[:height, :width].astype(float)
        assert grown.shape == photograph.shape
        assert np.abs(grown.mean((0, 1)) - photograph.mean((0, 1))).max() < 20
        assert 0.7 < grown.mean(-1).std() / photograph.mean(-1).std() < 1.4
        roughness = [np.abs(np.diff(texture.mean(-1), axis=1)).mean() for texture in (grown, photograph.astype(float))]
        assert 0.6 < roughness[0] / roughness[1] < 1.6


# Of the five photographs: sizes of which a fifth or three tenths are no whole number, or lie between two.
_SIZES = [(350, 527), (315, 560), (495, 660), (325, 401)]
# The reference's scripts resize by these factors.
_FACTORS = {"cifar": 0.2, "tiny_imagenet": 0.3, "imagenet": 1.0}


def _scaled(textures, preset):
    """Returns the textures of an atlas, one array each."""
    pixels, sizes = textures.atlas(preset, (32, 32))
    return [slot[:height, :width] for slot, (height, width) in zip(pixels, sizes, strict=True)]


@pytest.mark.parametrize("preset", _FACTORS)
def test_photographs_are_scaled_as_opencv_scales_by_a_factor(preset, rng):
    opencv = pytest.importorskip("cv2")
    images = tuple(rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in _SIZES)
    factor = _FACTORS[preset]
    for image, actual in zip(images, _scaled(FrostTextures(images, "noise"), preset), strict=True):
        expected = opencv.resize(image, (0, 0), fx=factor, fy=factor)
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)


def test_a_fifth_of_the_size_is_every_fifth_pixel(rng):
    image = rng.integers(0, 256, (350, 527, 3), dtype=np.uint8)
    (actual,) = _scaled(FrostTextures((image,), "noise"), "cifar")
    np.testing.assert_array_equal(actual, image[2::5, 2::5][:, :105])


@pytest.mark.parametrize("preset", ["cifar", "tiny_imagenet"])
def test_grown_textures_keep_the_scale_that_they_always_had(preset):
    opencv = pytest.importorskip("cv2")
    textures = FrostTextures.procedural()
    for image, actual in zip(textures.images, _scaled(textures, preset), strict=True):
        expected = opencv.resize(image.astype(np.float32), actual.shape[1::-1])
        assert np.abs(actual - expected).max() <= 0.51


@pytest.fixture(scope="module")
def frost_of_the_reference():
    """The five photographs of the package `imagecorruptions`, wherever Python finds it."""
    try:
        return FrostTextures.from_imagecorruptions()
    except ModuleNotFoundError:
        pytest.skip(
            "the photographs are absent: pip install --no-deps --target DIR imagecorruptions, and add DIR to PYTHONPATH"
        )


@pytest.mark.parametrize("preset", _FACTORS)
def test_the_photographs_become_the_reference_s_textures(preset, frost_of_the_reference):
    opencv = pytest.importorskip("cv2")
    factor = _FACTORS[preset]
    photographs = frost_of_the_reference.images
    assert [image.shape[:2] for image in photographs] == [(600, 900), (315, 560), (315, 560), (350, 527), (495, 660)]
    for image, actual in zip(photographs, _scaled(frost_of_the_reference, preset), strict=True):
        np.testing.assert_array_equal(actual, opencv.resize(image, (0, 0), fx=factor, fy=factor))


def test_the_photographs_are_those_of_the_fixture(frost_of_the_reference, frost_photographs):
    for actual, expected in zip(_scaled(frost_of_the_reference, "cifar"), frost_photographs, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_frost_of_the_photographs_is_the_reference_s(frost_of_the_reference, oracle, golden):
    """From the photographs to the pixels: the reference's draws, then `apply`, on images that it corrupted."""
    images, textures = golden.clean.astype(np.float32) / 255, _scaled(frost_of_the_reference, "cifar")
    apply = jax.jit(
        jax.vmap(
            lambda image, draws, severity: CORRUPTIONS["frost"].apply(image, draws, severity, "cifar"), (0, 0, None)
        )
    )
    for severity in range(1, 6):
        rng = np.random.RandomState(golden.seed)
        crops = [oracle.draw(rng, "frost", image, severity, "cifar", textures)["crop"] for image in golden.clean]
        actual = to_uint8(apply(images, {"crop": np.stack(crops).astype(np.float32)}, severity))
        difference = np.abs(np.asarray(actual, int) - golden.corrupted["frost"][severity - 1])
        assert difference.max() <= 1
        assert difference.mean() <= 0.005


def test_the_reference_names_are_preferred_in_a_directory(tmp_path):
    _write(tmp_path, [*_NAMES, "another.png"])
    (tmp_path / "readme.txt").write_text("no image")
    textures = FrostTextures.from_directory(tmp_path)
    assert len(textures.images) == len(_NAMES)
    assert textures.provenance == f"directory {tmp_path}"
    (tmp_path / _NAMES[0]).unlink()
    assert len(FrostTextures.from_directory(tmp_path).images) == len(_NAMES)


def test_frost_is_cropped_from_the_given_textures(tmp_path, photographs):
    _write(tmp_path, ["only.png"])
    textures = FrostTextures.from_directory(tmp_path)
    actual = np.asarray(corrupt(jax.random.key(0), photographs, name="frost", severity=2, frost_textures=textures), int)
    expected = np.clip(photographs + 0.3 * np.array([0, 10, 200]), 0, 255)
    assert np.abs(actual - expected).max() <= 1


def test_textures_grow_when_an_image_needs_the_room():
    images = np.zeros((1, 40, 700, 3), np.uint8)
    assert corrupt(jax.random.key(0), images, name="frost", severity=1).max() > 0


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no frost textures in .*; it must hold files that end in \.png"):
        FrostTextures.from_directory(tmp_path)


def test_an_installed_package_lends_its_files(tmp_path, monkeypatch):
    _write(tmp_path, [*_NAMES, "frost6.jpg"])
    files = [types.SimpleNamespace(name=path.name, locate=lambda path=path: path) for path in tmp_path.iterdir()]
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.1.2")
    textures = FrostTextures.from_imagecorruptions()
    assert textures.provenance == "imagecorruptions 1.1.2"
    assert [image[0, 0, 0] // 40 for image in textures.images[:3]] == [0, 1, 2]


def test_a_missing_package_is_named(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", not_installed)
    with pytest.raises(
        ModuleNotFoundError, match="imagecorruptions, whose frost textures were asked for, is not installed"
    ):
        FrostTextures.from_imagecorruptions()


@pytest.mark.parametrize("images", [(), (np.zeros((40, 40, 3), np.float32),), (np.zeros((40, 40), np.uint8),)])
def test_textures_that_are_no_8_bit_images_are_refused(images):
    with pytest.raises((ValueError, TypeError)):
        FrostTextures(images, "mine")


@pytest.mark.parametrize("name", ["frost", "contrast"])
def test_textures_by_name_are_refused_with_the_way_to_give_them(name, photographs):
    with pytest.raises(
        TypeError, match=r"^frost_textures is str, not FrostTextures; FrostTextures.from_name\(\) takes"
    ):
        corrupt(jax.random.key(0), photographs, name=name, severity=1, frost_textures="imagecorruptions")
