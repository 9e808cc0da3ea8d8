"""Corruptions and severities that are chosen for a whole test set: a sequence each, of names and of whole numbers."""

import jax
import numpy as np
import pytest

from jaxprune import data, evaluation, models
from jaxprune.evaluation import corrupted_sets


@pytest.fixture(scope="module")
def digits():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return data.Dataset(images, np.arange(4, dtype=np.int32), tuple("abcd"))


@pytest.mark.parametrize(
    ("names", "severities", "message"),
    [
        ("fog", [1], r"^corruptions is 'fog'; give a sequence, also of one: \['fog'\]$"),
        (["fog"], 3, r"^severities is 3; give a sequence, also of one: \[3\]$"),
        (["fog"], [2.5], "^severity 2.5 is outside 1..5; give integers"),
        (["fog"], [2.0], "^severity 2.0 is outside 1..5; give integers"),
        (["fog"], [True], "^severity True is outside 1..5; give integers"),
        (["fog"], [0], "^severity 0 is outside 1..5"),
        (["fog"], ["3"], "^severity '3' is outside 1..5"),
        (["fogg"], [1], "^unknown corruption 'fogg'; known: gaussian_noise"),
    ],
)
def test_says_what_is_wrong_before_anything_is_computed(names, severities, message, digits, tmp_path):
    network = models.create("resnet20", num_classes=4, key=jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(network, digits, corruptions=names, severities=severities, key=jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        corrupted_sets.write(tmp_path / "out", digits, seed=0, names=names, severities=severities)
    assert not (tmp_path / "out").exists()


def test_numpy_s_integers_are_integers():
    evaluation.check_corruptions(["fog"], np.arange(1, 6))
