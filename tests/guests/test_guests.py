"""Networks of four libraries, as their examples write them, through all of jaxprune: the logits stay the same."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxprune import data, evaluation, models, pruning, training
from tests.guests import equinox_guest, haiku_guest, linen_guest, nnx_guest

SCALE = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.2)}
CLASSES, SIZE = 5, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)
TRAIN = data.Dataset(PIXELS, np.arange(16, dtype=np.int32) % CLASSES, tuple("abcde"), "own", "train")
TEST = dataclasses.replace(TRAIN, split="test")
NORMALISED = ((PIXELS / 255 - SCALE["mean"]) / SCALE["std"]).astype(np.float32)


class Guest(NamedTuple):
    """What its library computes, the network as a classifier, and that pruned and trained on."""

    expected: np.ndarray
    net: models.Classifier
    trained: models.Classifier
    masks: object


def nnx():
    module, logits = nnx_guest.new()
    return models.from_nnx(module, **SCALE), logits


def linen():
    module, variables, logits = linen_guest.new()
    return models.from_linen(module, variables, **SCALE), logits


def haiku():
    params, state, logits = haiku_guest.new()
    return models.from_function(haiku_guest.apply, params, state, image_size=SIZE, **SCALE), logits


def equinox():
    apply, params, state, logits = equinox_guest.new()
    return models.from_function(apply, params, state, image_size=SIZE, **SCALE), logits


@pytest.fixture(scope="module", params=[nnx, linen, haiku, equinox], ids=lambda make: make.__name__)
def guest(request):
    net, logits = request.param()
    sparse, masks = pruning.prune(net, method="weight", sparsity=0.5, filter_fn="kernels")
    how = {"optimizer": training.sgd(schedule="constant", learning_rate=0.05), "masks": masks}
    trained = training.fit(sparse, TRAIN, epochs=1, batch_size=8, key=jax.random.key(1), **how)
    return Guest(np.asarray(logits(NORMALISED)), net, trained, masks)


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_those_of_its_own_library(guest):
    assert guest.net.num_classes == CLASSES
    assert_same(guest.net.logits(PIXELS), guest.expected)
    assert_same(jax.jit(lambda net, images: net.logits(images))(guest.net, PIXELS), guest.expected)


def test_training_moves_parameters_and_statistics_and_pruned_weights_stay_pruned(guest):
    for part in ("params", "batch_stats"):
        before, after = (jax.tree.leaves(getattr(net, part)) for net in (guest.net, guest.trained))
        pairs = zip(before, after, strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs if a.dtype == np.float32) > 1e-3
    masks, params = (jax.tree.leaves(t, is_leaf=lambda x: x is None) for t in (guest.masks, guest.trained.params))
    pruned = [(mask, leaf) for mask, leaf in zip(masks, params, strict=True) if mask is not None]
    assert [int(np.sum(leaf != 0)) for _, leaf in pruned] == [int(mask.sum()) for mask, _ in pruned]
    assert len(pruned) >= 2
    # In evaluation mode an image's logits do not depend on its batch.
    assert_same(guest.trained.logits(PIXELS[:4]), guest.trained.logits(PIXELS)[:4])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_eight_devices_measure_the_same_logits(guest, precision, tolerance):
    (row,) = evaluation.evaluate(
        guest.trained, TEST, corruptions=(), batch_size=16, devices=jax.devices(), precision=precision
    )
    losses = -jax.nn.log_softmax(guest.trained.logits(PIXELS))[np.arange(len(PIXELS)), TEST.labels]
    np.testing.assert_allclose(row["negative_log_likelihood"], losses.mean(), rtol=tolerance)
    assert (row["precision"], len(jax.devices())) == (precision, 8)


def test_it_is_saved_loaded_and_exported(guest, tmp_path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "weights", weights_of(guest.trained))
    pruning.save_masks(tmp_path / "masks.npz", guest.masks)
    with ocp.StandardCheckpointer() as checkpointer:
        loaded = guest.net.replace(**checkpointer.restore(tmp_path / "weights", weights_of(guest.net)))
    masks = pruning.load_masks(tmp_path / "masks.npz", guest.net.params)
    jax.tree.map(np.testing.assert_array_equal, masks, guest.masks)
    expected = guest.trained.logits(PIXELS)
    assert_same(loaded.logits(PIXELS), expected)
    models.export_stablehlo(tmp_path / "net.stablehlo", loaded, image_size=SIZE)
    assert_same(models.load_stablehlo(tmp_path / "net.stablehlo")(PIXELS), expected)


def weights_of(net):
    return {"params": net.params, "batch_stats": net.batch_stats}


def test_declared_channels_are_removed(guest):
    if guest.net.module is None:
        with pytest.raises(ValueError, match="does not declare its channels"):
            pruning.prune(guest.trained, method="filter_l1", sparsity=0.5)
        return
    masked, masks = pruning.prune(guest.trained, method="filter_l1", sparsity=0.5)
    small = pruning.compact(masked, masks)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(net.params)) for net in (small, masked)]
    assert sizes[0] < sizes[1]
    assert_same(small.logits(PIXELS), masked.logits(PIXELS))
