"""The reference's images, the draws that its NumPy generator made for them, and the float64 oracle."""

import importlib.util
import pathlib
from typing import NamedTuple

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_GOLDEN = _ROOT / "tests" / "data" / "cifar_c_golden.npz"


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


@pytest.fixture(scope="session")
def oracle():
    """The module `benchmarks/corruptions_oracle.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("corruptions_oracle", _ROOT / "benchmarks" / "corruptions_oracle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden():
    return _load(_GOLDEN, seed=7)


@pytest.fixture(scope="session", params=["golden", "photographs"])
def reference(request, shared, golden):
    if request.param == "golden":
        return golden
    return _load(shared("reference/cifar_c_reference.npz"), seed=0)


@pytest.fixture(scope="session")
def photographs(golden):
    """Eight photographs, uint8 [8, 32, 32, 3]."""
    return golden.clean


@pytest.fixture(scope="session")
def frost_photographs(shared):
    with np.load(shared("reference/frost_textures_cifar.npz")) as file:
        return [file[f"texture{index}"] for index in range(5)]


@pytest.fixture
def reference_draws(request, oracle):
    """Returns a function (name, severity, reference set) -> the reference's draws, stacked over the images.

    The reference seeds NumPy's legacy generator before each (corruption, severity), then takes the images in order.
    """

    def draws(name: str, severity: int, reference: ReferenceSet) -> dict:
        textures = request.getfixturevalue("frost_photographs") if name == "frost" else None
        rng = np.random.RandomState(reference.seed)
        per_image = [oracle.draw(rng, name, image, severity, "cifar", textures) for image in reference.clean]
        return _stack(per_image)

    return draws


def _stack(values: list):
    if isinstance(values[0], dict):
        return {key: _stack([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], list):
        return [_stack(list(items)) for items in zip(*values, strict=True)]
    stacked = np.stack(values)
    return stacked.astype(np.float32) if stacked.dtype == np.float64 else stacked.astype(np.int32)
