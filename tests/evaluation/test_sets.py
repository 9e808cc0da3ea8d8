"""Test sets that are read instead of generated: CIFAR-10-C folders and the user's own."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxprune import data, evaluation, models, report
from jaxprune.evaluation import corrupted_sets

SEED = 5
NAMES = ("contrast", "gaussian_noise")


@pytest.fixture(scope="module")
def net():
    return models.create(
        "resnet8",
        num_classes=10,
        key=jax.random.key(0),
        stage_widths=(4, 4, 4),
        mean=data.CIFAR10_MEAN,
        std=data.CIFAR10_STD,
    )


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", split="test", limit=30)


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "digits-c"
    return corrupted_sets.write(out, digits, seed=SEED, names=NAMES, severities=(2, 4))


def test_a_folder_gives_the_rows_of_the_generated_sets(net, digits, folder):
    read = evaluation.evaluate(net, digits, corrupted=folder)
    generated = evaluation.evaluate(
        net, digits, key=jax.random.key(SEED), corruptions=("gaussian_noise", "contrast"), severities=(2, 4)
    )
    assert read == generated  # the order too: that of the table of corruptions, whatever the files are named


def test_names_and_severities_select_in_a_folder(net, digits, folder):
    rows = evaluation.evaluate(net, digits, corrupted=str(folder), corruptions=("contrast",), severities=(4,))
    assert [(row["corruption"], row["severity"]) for row in rows] == [("clean", 0), ("contrast", 4)]


def test_a_folder_can_be_read_in_part(folder):
    ((name, read),) = evaluation.folder_test_sets(folder, ("contrast",), (2,), limit=7)
    assert (name, len(read())) == (("contrast", 2), 7)


@pytest.mark.parametrize(
    ("selection", "kind", "message"),
    [
        ({"corruptions": ("fog",)}, FileNotFoundError, "holds no fog.npy; it holds gaussian_noise, contrast"),
        ({"severities": (1,)}, ValueError, "severity 1 is not in .*, which holds 2, 4"),
    ],
)
def test_what_a_folder_lacks_is_refused_before_anything_is_computed(net, digits, folder, selection, kind, message):
    seen = []
    with pytest.raises(kind, match=message):
        evaluation.evaluate(net, digits, corrupted=folder, on_test_set=lambda *each: seen.append(each), **selection)
    assert not seen


@pytest.mark.parametrize("selection", [{}, {"corruptions": ("fog",)}, {"corruptions": ()}, {"clean": False}])
def test_a_folder_without_corrupted_images_is_refused(net, digits, tmp_path, selection):
    # Clean rows alone would look like a finished evaluation.
    with pytest.raises(FileNotFoundError, match="none holds no corrupted images: there is no such folder"):
        evaluation.evaluate(net, digits, corrupted=tmp_path / "none", **selection)
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    (tmp_path / "._fog.npy").touch()
    with pytest.raises(FileNotFoundError, match="holds no corrupted images: no <corruption>.npy is there"):
        evaluation.evaluate(net, digits, corrupted=tmp_path, **selection)


def test_a_folder_with_brackets_in_its_name_is_no_pattern(digits, tmp_path):
    folder = tmp_path / "A[1]"
    folder.mkdir()
    np.save(folder / "fog.npy", np.tile(digits.images, (5, 1, 1, 1)))
    np.save(folder / "labels.npy", np.tile(digits.labels, 5))
    assert data.corrupted_folder_contents(folder) == (("fog",), (1, 2, 3, 4, 5))
    ((name, read),) = evaluation.folder_test_sets(folder, severities=(2,))
    assert (name, len(read())) == (("fog", 2), 30)
    (folder / "clean-0.npz").write_bytes(b"no archive")
    with pytest.raises(Exception, match="clean-0.npz"):  # it was found, at least
        report.compare(folder, folder)


def shuffled(digits):
    return dataclasses.replace(digits, images=digits.images[::-1], labels=digits.labels[::-1], name="backwards")


@pytest.mark.parametrize("kind", ["folder", "in memory", "read in its turn", "shorter"])
def test_sets_whose_labels_are_not_the_clean_ones_are_refused(net, digits, tmp_path, kind):
    other = shuffled(digits)
    corrupted = {
        "in memory": {("dusk", 1): other},
        "read in its turn": {("dusk", 1): lambda: other},
        "shorter": {("dusk", 1): other.take(7)},
    }.get(kind, tmp_path)
    np.save(tmp_path / "fog.npy", np.tile(other.images, (5, 1, 1, 1)))
    np.save(tmp_path / "labels.npy", np.tile(other.labels, 5))
    seen = []
    with pytest.raises(ValueError, match=r"has other labels than data set 'digits', at .* images \(first: image"):
        evaluation.evaluate(net, digits, corrupted=corrupted, on_test_set=lambda *each: seen.append(each))
    if kind != "read in its turn":  # which nothing is known about before
        assert not seen


def test_own_sets_are_read_in_their_turn_and_may_have_another_size(net, digits):
    dark = dataclasses.replace(digits.take(17), images=digits.images[:17] // 2, name="dark")
    order = []

    def read_night():
        order.append("read night 3")
        return dark

    rows = evaluation.evaluate(
        net,
        digits,
        corrupted={("dusk", 1): dark, ("night", 3): read_night},
        on_test_set=lambda name, severity: order.append(f"{name} {severity}"),
    )
    assert order == ["clean 0", "dusk 1", "read night 3", "night 3"]
    assert [(row["corruption"], row["severity"], row["n"]) for row in rows] == [
        ("clean", 0, 30),
        ("dusk", 1, 17),
        ("night", 3, 17),
    ]
    (alone,) = evaluation.evaluate(net, dark, corruptions=())
    assert [row["num_correct"] for row in rows[1:]] == [alone["num_correct"]] * 2
    np.testing.assert_allclose(rows[1]["brier_score"], alone["brier_score"], atol=1e-6)
    assert rows[0].keys() == rows[1].keys()
    pairs = evaluation.evaluate(net, digits, clean=False, corrupted=(pair for pair in [(("dusk", 1), dark)]))
    assert pairs == rows[1:2]


def of_other_classes(digits):
    return dataclasses.replace(digits, class_names=(*digits.class_names, "eleventh"), name="eleven")


@pytest.mark.parametrize(
    ("corrupted", "message"),
    [
        (lambda digits: {("clean", 1): digits}, "a corrupted test set is named 'clean'"),
        (lambda digits: {("dusk", 0): digits}, "test set 'dusk' has severity 0; give an integer from 1"),
        (lambda digits: [digits], "corrupted= has an entry"),
        (lambda digits: [(("dusk", 1), digits)] * 2, "test set dusk 1 is named twice"),
        (lambda digits: {("dusk", 1): of_other_classes(digits)}, "has 10 classes, data set 'eleven' has 11"),
        (lambda digits: {("dusk", 1): digits.take(0)}, "has no images"),
    ],
)
def test_unusable_sets_are_refused(net, digits, corrupted, message):
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(net, digits, corrupted=corrupted(digits), clean=False)


def test_own_sets_and_a_selection_of_corruptions_exclude_each_other(net, digits):
    with pytest.raises(ValueError, match="give one or the other"):
        evaluation.evaluate(net, digits, corrupted={("dusk", 1): digits}, corruptions=("fog",))
