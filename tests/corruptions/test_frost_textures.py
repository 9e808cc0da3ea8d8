"""Where frost comes from: grown, a directory, or an installed package; at the scale that a preset asks for."""

import importlib.metadata
import types

import jax
import numpy as np
import pytest

from jaxprune.corruptions import FrostTextures, corrupt

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


def test_a_fifth_of_the_size_is_every_fifth_pixel(rng):
    image = rng.integers(0, 256, (35, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(_resize(image, (7, 10)), image[2::5, 2::5])


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


def test_a_missing_package_is_named():
    with pytest.raises(
        ModuleNotFoundError, match="imagecorruptions, whose frost textures were asked for, is not installed"
    ):
        FrostTextures.from_imagecorruptions()
