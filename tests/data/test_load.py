import hashlib

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxprune import data


def test_digits_splits_are_disjoint_complete_and_stratified():
    splits = {name: data.load("digits", split=name) for name in ("train", "validation", "test")}
    assert {name: len(split) for name, split in splits.items()} == {"train": 1200, "validation": 197, "test": 400}
    whole = np.bincount(load_digits().target)
    for split in splits.values():
        expected = whole * len(split) / whole.sum()
        assert np.abs(np.bincount(split.labels) - expected).max() < 1.5
    distinct = {image.tobytes() for split in splits.values() for image in split.images}
    originals = {image.tobytes() for image in load_digits().images}
    assert len(distinct) == len(originals)


def test_digits_are_enlarged_faithfully_and_never_change():
    test = data.load("digits", split="test")
    assert test.images.shape == (400, 32, 32, 3)
    assert test.images.dtype == np.uint8
    assert test.labels.dtype == np.int32
    assert (test.images[..., 0] == test.images[..., 2]).all()
    # Linear interpolation by 4 puts an original's value between the two middle pixels of its 4 x 4 block.
    middle = test.images[:, 1::4, 1::4, 0].astype(int)
    shrunk = test.images.astype(float).reshape(400, 8, 4, 8, 4, 3).mean((2, 4, 5))
    assert np.abs(middle - shrunk).mean() < 12
    assert hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest()[:16] == "541a14926e64de1f"


def test_the_input_normalisation_of_digits_is_the_train_splits():
    train = data.load("digits", split="train")
    np.testing.assert_allclose(train.mean[0], (train.images / 255).mean(), atol=1e-4)
    np.testing.assert_allclose(train.std[0], (train.images / 255).std(), atol=1e-4)


def test_cifar10_is_read_without_tensorflow(shared):
    test = data.load("cifar10", split="test", data_dir=shared("data/tfds"), limit=500)
    fixture = np.load(shared("reference/cifar_c_reference.npz"))
    assert test.images.shape == (500, 32, 32, 3)
    assert test.class_names[test.labels[0]] == "automobile"
    # Three of the fixture's images are among the first 500: the same pixels, decoded elsewhere.
    place = {image.tobytes(): index for index, image in enumerate(test.images)}
    found = {
        place[image.tobytes()]: label
        for image, label in zip(fixture["clean"], fixture["labels"], strict=True)
        if image.tobytes() in place
    }
    assert {index: test.labels[index] for index in found} == found
    assert sorted(found) == [174, 189, 339, 409]


def test_limit_and_take_keep_the_order():
    whole, some = data.load("digits", split="test"), data.load("digits", split="test", limit=7)
    np.testing.assert_array_equal(some.images, whole.take(7).images)
    assert len(data.load("digits", split="test", limit=0)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "digit", "split": "test"},
            "unknown data set 'digit'; known: digits, cifar10, .*; did you mean 'digits'",
        ),
        ({"name": "digits", "split": "dev"}, "has no split 'dev'; it has train, validation, test"),
        ({"name": "digits", "split": "test", "limit": -1}, "limit=-1"),
    ],
)
def test_unknown_names_are_refused_with_what_is_known(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_a_set_that_is_not_prepared_is_refused_with_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no prepared 'cifar10'.*data_dir=.*tfds build"):
        data.load("cifar10", split="test", data_dir=tmp_path)


def test_a_dataset_checks_its_arrays():
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1], np.int32)
    with pytest.raises(TypeError, match=r"uint8 \[N, H, W, C\]"):
        data.Dataset(images / 255, labels, ("a", "b"))
    with pytest.raises(TypeError, match="one integer per image"):
        data.Dataset(images, labels[:1], ("a", "b"))
    with pytest.raises(ValueError, match="labels run from 0 to 1, but there are 1 class names"):
        data.Dataset(images, labels, ("a",))
    with pytest.raises(ValueError, match="one of each per channel"):
        data.Dataset(images, labels, ("a", "b"), mean=(0.5,))


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", ">u2")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_may_be_integers_of_any_type(tmp_path, dtype):
    images, labels = np.zeros((4, 4, 4, 3), np.uint8), np.array([2, 0, 1, 2], dtype)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    np.save(tmp_path / "fog.npy", np.tile(images, (5, 1, 1, 1)))
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    for load in (
        lambda: data.load_npz(tmp_path / "set.npz"),
        lambda: data.load_cifar_c(tmp_path, name="fog", severity=3),
        lambda: data.Dataset(images, labels, ("a", "b", "c")),
    ):
        try:
            found = load().labels
        except OverflowError as error:
            found = np.array(str(error))
        assert found.tolist() == [2, 0, 1, 2]
        assert found.dtype == np.dtype(np.int32)


@pytest.mark.parametrize(
    "labels", [np.zeros(4), np.zeros(4, bool), np.array(list("0120")), np.array([0, 1, 2, 0], object), ["0"] * 4]
)
def test_labels_that_are_no_integers_are_refused(tmp_path, labels):
    images = np.zeros((4, 4, 4, 3), np.uint8)
    with pytest.raises(TypeError, match="give one integer per image"):
        data.Dataset(images, labels, ("a", "b", "c"))
    if np.asarray(labels).dtype == object:
        return
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    with pytest.raises(TypeError, match="give one integer per image"):
        data.load_npz(tmp_path / "set.npz")
    np.save(tmp_path / "fog.npy", np.tile(images, (5, 1, 1, 1)))
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    with pytest.raises(ValueError, match="expected integers"):
        data.load_cifar_c(tmp_path, name="fog", severity=3)


def test_labels_are_never_cut_to_32_bits(tmp_path):
    np.save(tmp_path / "fog.npy", np.zeros((10, 4, 4, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.tile([2**32, 2**32 + 1], 5))
    with pytest.raises(ValueError, match="labels run from 4294967296 to 4294967297"):
        data.load_cifar_c(tmp_path, name="fog", severity=1, class_names=("a", "b"))


@pytest.mark.parametrize("name", ["crop", "crop_and_flip"])
def test_augmentation_moves_pixels_and_invents_none(name):
    images = data.load("digits", split="train", limit=32).images
    augment = jax.jit(data.AUGMENTATIONS[name])
    once, again, other = (np.asarray(augment(jax.random.key(seed), images)) for seed in (0, 0, 1))
    assert once.shape == images.shape
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    for before, after in zip(images, once, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before)) | {0}


def test_crops_are_shifts_by_at_most_the_padding():
    image = np.random.default_rng(0).integers(1, 255, (1, 8, 8, 3), np.uint8)
    padded = np.pad(image[0], ((2, 2), (2, 2), (0, 0)))
    windows = [padded[r : r + 8, c : c + 8] for r in range(5) for c in range(5)]
    crops = data.random_crop(jax.random.key(0), np.repeat(image, 200, axis=0), pad=2)
    found = {next(i for i, window in enumerate(windows) if (window == crop).all()) for crop in np.asarray(crops)}
    assert found == set(range(25))


def test_half_of_the_images_are_mirrored():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(1, 1, 6, 1).repeat(400, axis=0)
    flipped = np.asarray(data.random_flip(jax.random.key(0), images))[:, 0, 0, 0] == 5
    assert 160 < flipped.sum() < 240
