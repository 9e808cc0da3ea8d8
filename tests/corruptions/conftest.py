"""The reference's images, and the draws that its NumPy generator made for them."""

import pathlib
from typing import NamedTuple

import numpy as np
import pytest

from jaxprune.corruptions import severities

_GOLDEN = pathlib.Path(__file__).parents[1] / "data" / "cifar_c_golden.npz"


class ReferenceSet(NamedTuple):
    """Images and their corrupted versions, uint8 [severity, image, height, width, channel], made from one seed."""

    seed: int
    clean: np.ndarray
    corrupted: dict[str, np.ndarray]

    def __repr__(self):
        return f"ReferenceSet(seed={self.seed}, images={len(self.clean)})"


def _load(path, seed: int) -> ReferenceSet:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "labels"}
    return ReferenceSet(seed, arrays.pop("clean"), arrays)


@pytest.fixture(scope="session", params=["golden", "photographs"])
def reference(request, shared):
    if request.param == "golden":
        return _load(_GOLDEN, seed=7)
    return _load(shared("reference/cifar_c_reference.npz"), seed=0)


@pytest.fixture(scope="session")
def photographs():
    """Eight photographs, uint8 [8, 32, 32, 3]."""
    return _load(_GOLDEN, seed=7).clean


@pytest.fixture(scope="session")
def frost_photographs(shared):
    with np.load(shared("reference/frost_textures_cifar.npz")) as file:
        return [file[f"texture{index}"] for index in range(5)]


@pytest.fixture
def reference_draws(request):
    """Returns a function (name, severity, reference set) -> the reference's draws, stacked over the images.

    The reference seeds NumPy's legacy generator before each (corruption, severity), then takes the images in order.
    """

    def draws(name: str, severity: int, reference: ReferenceSet) -> dict:
        textures = request.getfixturevalue("frost_photographs") if name == "frost" else None
        rng = np.random.RandomState(reference.seed)
        per_image = [_draw(rng, name, severity, image, textures) for image in reference.clean]
        return _stack(per_image)

    return draws


def _stack(values: list):
    if isinstance(values[0], dict):
        return {key: _stack([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], list):
        return [_stack(list(items)) for items in zip(*values, strict=True)]
    stacked = np.stack(values)
    return stacked.astype(np.float32) if stacked.dtype == np.float64 else stacked.astype(np.int32)


def _draw(rng: np.random.RandomState, name: str, severity: int, image: np.ndarray, textures) -> dict:
    height, width, _ = image.shape
    if name in ("gaussian_noise", "speckle_noise"):
        return {"noise": rng.normal(size=image.shape)}
    if name == "shot_noise":
        return {"counts": rng.poisson(image / 255 * severities.SHOT_NOISE_PHOTONS["cifar"][severity - 1]).astype(float)}
    if name == "impulse_noise":
        return {"replace": rng.random_sample(image.shape), "salt": rng.random_sample(image.shape)}
    if name == "glass_blur":
        return {"offsets": _glass_offsets(rng, severity, height, width)}
    if name == "motion_blur":
        return {"angle": rng.uniform(-45, 45)}
    if name == "snow":
        return {"layer": rng.normal(size=(height, width)), "angle": rng.uniform(-135, -45)}
    if name == "frost":
        texture = textures[rng.randint(5)]
        row = rng.randint(0, texture.shape[0] - height)
        column = rng.randint(0, texture.shape[1] - width)
        return {"crop": texture[row : row + height, column : column + width].astype(float)}
    if name == "fog":
        levels = [2**level for level in range(5)]
        return {"plasma": [rng.uniform(-1, 1, size=(3, n, n)) for n in levels]}
    if name == "elastic_transform":
        affine = rng.uniform(-1, 1, size=(3, 2))
        return {"affine": affine, "dx": rng.uniform(-1, 1, (height, width)), "dy": rng.uniform(-1, 1, (height, width))}
    if name == "spatter":
        return {"layer": rng.normal(size=(height, width))}
    return {}


def _glass_offsets(rng: np.random.RandomState, severity: int, height: int, width: int) -> np.ndarray:
    table = severities.GLASS_BLUR["cifar"]
    _, reach, iterations = table[severity - 1]
    offsets = np.zeros((max(row[2] for row in table), height, width, 2), int)
    for iteration in range(iterations):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                offsets[iteration, row, column] = rng.randint(-reach, reach, size=2)
    return offsets
