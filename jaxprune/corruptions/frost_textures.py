"""Frost textures: grown from fixed seeds by default, or photographs that the user has."""

import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Int, Shaped, UInt8

from jaxprune.corruptions._procedural_frost import grow_frost, resize_grown
from jaxprune.files.images import read_rgb

# The share of a texture's size that each preset keeps.
_SCALES = {"cifar": 0.2, "tiny_imagenet": 0.3, "imagenet": 1.0}

# The reference ships six photographs and draws from the first five.
_REFERENCE_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_SUFFIXES = (".png", ".jpg", ".jpeg")


class FrostAtlas(NamedTuple):
    """Textures of different sizes in one array, each in the top left of its slot."""

    pixels: Shaped[Any, "textures height width 3"]
    sizes: Int[Any, "textures 2"]


# How OpenCV resizes 8-bit images: weights of 11 bits; 4 bits are dropped after the first pass, 16 and 2 in the second.
_WEIGHT_ONE = 2**11
_BITS_AFTER_ROWS, _BITS_AFTER_PRODUCTS, _BITS_AFTER_SUM = 4, 16, 2


def resize(image: UInt8[np.ndarray, "_ _ 3"], scale: float) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns `cv2.resize(image, (0, 0), fx=scale, fy=scale)`, bit by bit: bilinear, without antialiasing.

    Output pixel i reads position `(i + 0.5) / scale - 0.5`: 1 / scale apart, not old size / rounded new size.
    """
    (top, below, down), (left, beside, right) = (_neighbours(size, scale) for size in image.shape[:2])
    values = image.astype(np.int64)
    values = values[:, left] * (_WEIGHT_ONE - right) + values[:, beside] * right
    values >>= _BITS_AFTER_ROWS
    down = down[:, None]
    values = (values[top] * (_WEIGHT_ONE - down) >> _BITS_AFTER_PRODUCTS) + (
        values[below] * down >> _BITS_AFTER_PRODUCTS
    )
    return (values + 2 >> _BITS_AFTER_SUM).astype(np.uint8)


def _neighbours(size: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for each new pixel, the two old ones and the second one's weight, [new size, 1] and whole."""
    position = ((np.arange(round(size * scale)) + 0.5) * (1 / scale) - 0.5).astype(np.float32)
    lower = np.floor(position)
    weight = np.rint((position - lower) * np.float32(_WEIGHT_ONE)).astype(np.int64)
    lower = lower.astype(int)
    return lower.clip(0, size - 1), (lower + 1).clip(0, size - 1), weight[:, None]


@dataclass(frozen=True, eq=False)
class FrostTextures:
    """The textures that frost is cropped from: uint8 RGB images of any sizes, and where they come from.

    `resize(image, scale)` brings an image to a preset's scale.
    """

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    provenance: str
    resize: Callable[[np.ndarray, float], np.ndarray] = resize

    def __post_init__(self):
        if not len(self.images):
            raise ValueError("no frost textures; give at least one image, uint8 [height, width, 3]")
        for image in self.images:
            if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
                found = f"{image.dtype} {list(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
                raise ValueError(f"a frost texture is {found}, not uint8 [height, width, 3]")

    @staticmethod
    @functools.cache
    def procedural() -> "FrostTextures":
        """Returns five textures in the sizes and moods of the reference's photographs, the same ones everywhere.

        Grown on the host, once per process, so that they do not depend on a device's rounding.
        """
        return FrostTextures(grow_frost(), "procedural, version 1", resize_grown)

    @staticmethod
    def from_directory(path: epath.PathLike) -> "FrostTextures":
        """Returns the reference's five textures if the directory has them, else all its PNG and JPEG files by name.

        Textures are read at full size; each preset takes its share of it (0.2, 0.3 and 1), resized as OpenCV does.

        Raises:
          ValueError: the directory has no images, or one that cannot be read.
        """
        folder = epath.Path(path)
        names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not names:
            raise ValueError(f"no frost textures in {folder}; it must hold files that end in {', '.join(_SUFFIXES)}")
        if set(_REFERENCE_FILES) <= set(names):
            names = list(_REFERENCE_FILES)
        return FrostTextures(tuple(_decode(folder / name) for name in names), f"directory {folder}")

    @staticmethod
    def from_imagecorruptions() -> "FrostTextures":
        """Returns the reference's textures from an installed `imagecorruptions` package, of which only files are used.

        Raises `ModuleNotFoundError` where it is not installed or does not hold the textures.
        """
        try:
            files = importlib.metadata.files("imagecorruptions") or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        found = {file.name: file for file in files if file.name in _REFERENCE_FILES}
        if len(found) < len(_REFERENCE_FILES):
            raise ModuleNotFoundError(
                "the package imagecorruptions, whose frost textures were asked for, is not installed; install it (pip "
                "install --no-deps imagecorruptions), or use FrostTextures.from_directory(path) or "
                "FrostTextures.procedural()"
            )
        images = tuple(_decode(found[name].locate()) for name in _REFERENCE_FILES)
        return FrostTextures(images, f"imagecorruptions {importlib.metadata.version('imagecorruptions')}")

    @staticmethod
    def from_name(name: str) -> "FrostTextures":
        """Returns the textures that "procedural", "imagecorruptions" or else the path of a directory stands for."""
        if name == "procedural":
            return FrostTextures.procedural()
        if name == "imagecorruptions":
            return FrostTextures.from_imagecorruptions()
        if not epath.Path(name).is_dir():
            raise ValueError(
                f"no frost textures named {name!r}; give procedural, imagecorruptions or an existing directory"
            )
        return FrostTextures.from_directory(name)

    def atlas(self, preset: str, image_size: tuple[int, int]) -> FrostAtlas:
        """Returns the textures at a preset's scale; those that leave an image no room are enlarged until they do."""
        return _atlas(self, preset, image_size)


@functools.lru_cache(maxsize=16)
def _atlas(textures: FrostTextures, preset: str, image_size: tuple[int, int]) -> FrostAtlas:
    scaled = []
    for image in textures.images:
        scale = max(_SCALES[preset], *((need + 1) / have for need, have in zip(image_size, image.shape, strict=False)))
        scaled.append(textures.resize(image, scale))
    sizes = np.array([image.shape[:2] for image in scaled], np.int32)
    pixels = np.zeros((len(scaled), *sizes.max(axis=0), 3), np.uint8)
    for slot, image, (height, width) in zip(pixels, scaled, sizes, strict=True):
        slot[:height, :width] = image
    return FrostAtlas(pixels, sizes)


def _decode(path: epath.PathLike) -> UInt8[np.ndarray, "_ _ 3"]:
    return np.asarray(read_rgb(path))
