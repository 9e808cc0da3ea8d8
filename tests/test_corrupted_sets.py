import json

import jax
import numpy as np
import pytest

from jaxprune import cli, corrupted_sets, corruptions, data, evaluation, models

NAMES = ("gaussian_noise", "contrast")


@pytest.fixture(scope="module")
def test_set():
    return data.load("digits", split="test", limit=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, test_set):
    return corrupted_sets.write(tmp_path_factory.mktemp("sets") / "digits-c", test_set, seed=1, names=NAMES)


def test_the_layout_is_cifar_10_cs(folder, test_set):
    for name in NAMES:
        images = np.load(folder / f"{name}.npy")
        assert images.shape == (150, 32, 32, 3)
        assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.load(folder / "labels.npy"), np.tile(test_set.labels, 5))


@pytest.mark.parametrize("severity", [1, 4])
def test_it_reads_back_as_the_pixels_of_corrupt(folder, test_set, severity):
    loaded = data.load_cifar_c(folder, name="gaussian_noise", severity=severity)
    key = evaluation.test_set_key(jax.random.key(1), "gaussian_noise", severity)
    expected = corruptions.corrupt(key, test_set.images, name="gaussian_noise", severity=severity)
    np.testing.assert_array_equal(loaded.images, expected)
    np.testing.assert_array_equal(loaded.labels, test_set.labels)
    assert loaded.class_names == test_set.class_names
    assert len(data.load_cifar_c(folder, name="contrast", severity=severity, limit=7)) == 7


def test_evaluating_the_folder_equals_evaluating_on_the_fly(folder, test_set):
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    (fly,) = evaluation.evaluate(
        net, test_set, key=jax.random.key(1), corruptions=NAMES[:1], severities=(3,), clean=False
    )
    stored = data.load_cifar_c(folder, name=NAMES[0], severity=3)
    (disk,) = evaluation.evaluate(net, stored, key=jax.random.key(9), corruptions=())
    assert fly["num_correct"] == disk["num_correct"]
    assert fly["brier_score"] == disk["brier_score"]


def test_what_is_there_is_kept_and_what_is_missing_is_made(folder, test_set):
    kept = (folder / "contrast.npy").stat().mtime
    before = np.load(folder / "gaussian_noise.npy")
    (folder / "gaussian_noise.npy").unlink()
    (folder / ".gaussian_noise.npy.tmp").write_bytes(b"left by a killed process")
    seen = []
    corrupted_sets.write(folder, test_set, seed=1, names=NAMES, on_test_set=lambda *done: seen.append(done))
    assert (folder / "contrast.npy").stat().mtime == kept
    np.testing.assert_array_equal(np.load(folder / "gaussian_noise.npy"), before)
    assert seen == [(name, severity) for name in NAMES for severity in range(1, 6)]
    assert not list(folder.glob(".*.tmp"))


def test_frosts_textures_are_named_and_recorded(tmp_path, test_set, rng):
    from PIL import Image

    photographs = tmp_path / "textures"
    photographs.mkdir()
    Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)).save(photographs / "ice.png")
    textures = corruptions.FrostTextures.from_name(str(photographs))
    options = {"names": ("frost",), "severities": (3,), "seed": 0}
    own = corrupted_sets.write(tmp_path / "own", test_set.take(4), frost_textures=textures, **options)
    grown = corrupted_sets.write(tmp_path / "grown", test_set.take(4), **options)
    recorded = [json.loads((out / "jaxprune.json").read_text())["frost_textures"] for out in (own, grown)]
    assert recorded == [f"directory {photographs}", "procedural, version 1"]
    assert (np.load(own / "frost.npy") != np.load(grown / "frost.npy")).any()
    with pytest.raises(ValueError, match="no frost textures named 'ice'; give procedural, imagecorruptions or an"):
        corruptions.FrostTextures.from_name("ice")


def test_a_folder_of_other_images_is_refused(folder, test_set):
    with pytest.raises(ValueError, match=r"of another kind \(seed: 1 there, 2 asked for\)"):
        corrupted_sets.write(folder, test_set, seed=2, names=NAMES)
    with pytest.raises(ValueError, match=r"num_images: 30 there, 20 asked for"):
        corrupted_sets.write(folder, test_set.take(20), seed=1, names=NAMES)


def write_official(path, labels, images=None):
    images = np.arange(5 * 4, dtype=np.uint8).repeat(32 * 32 * 3).reshape(20, 32, 32, 3) if images is None else images
    np.save(path / "fog.npy", images)
    np.save(path / "labels.npy", np.asarray(labels))


def test_the_official_layout_is_read(tmp_path):
    write_official(tmp_path, np.tile([3, 8, 8, 0], 5))
    loaded = data.load_cifar_c(tmp_path, name="fog", severity=3)
    assert loaded.images[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert [loaded.class_names[label] for label in loaded.labels] == ["cat", "ship", "ship", "airplane"]
    assert loaded.split == "test"


@pytest.mark.parametrize(
    ("labels", "images", "message"),
    [
        (np.arange(20) % 10, None, "does not repeat 4 labels once per severity"),
        (np.tile([1, 2, 3, 4], 5), np.zeros((20, 32, 32, 3), np.float32), r"is float32 .*expected uint8"),
        (np.tile([1, 2, 3, 4], 5), np.zeros((19, 32, 32, 3), np.uint8), r"expected uint8 \[5 \* N"),
    ],
)
def test_folders_that_are_not_cifar_c_are_refused(tmp_path, labels, images, message):
    write_official(tmp_path, labels, images)
    with pytest.raises(ValueError, match=message):
        data.load_cifar_c(tmp_path, name="fog", severity=1)


def test_missing_names_and_severities_and_pickles_are_refused(tmp_path, test_set):
    with pytest.raises(FileNotFoundError, match="absent holds no corrupted images: there is no such folder"):
        data.load_cifar_c(tmp_path / "absent", name="fog", severity=1)
    write_official(tmp_path, np.tile([3, 8, 8, 0], 5))
    with pytest.raises(FileNotFoundError, match=r"holds no frost.npy .*it holds fog"):
        data.load_cifar_c(tmp_path, name="frost", severity=1)
    with pytest.raises(ValueError, match=r"severity 6 is not in .*which holds 1, 2, 3, 4, 5"):
        data.load_cifar_c(tmp_path, name="fog", severity=6)
    np.save(tmp_path / "fog.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"is no complete .npy file"):
        data.load_cifar_c(tmp_path, name="fog", severity=1)


def test_the_command_writes_a_folder_and_a_preview(tmp_path, capsys):
    out, picture = tmp_path / "c", tmp_path / "preview.png"
    common = ["corrupt", "--dataset", "digits", "--names", "contrast", "--severities", "2", "5"]
    assert cli.main([*common, "--out", str(out), "--limit", "6"]) == 0
    assert data.load_cifar_c(out, name="contrast", severity=5).images.shape == (6, 32, 32, 3)
    assert json.loads((out / "jaxprune.json").read_text())["severities"] == [2, 5]
    assert cli.main([*common, "--preview", str(picture), "--index", "3"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out
