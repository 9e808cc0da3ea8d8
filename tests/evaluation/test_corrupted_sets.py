import json

import jax
import numpy as np
import pytest

from jaxprune import cli, corruptions, data, evaluation, models
from jaxprune.evaluation import corrupted_sets

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


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["labels.npy", "contrast.npy", "frost.npy"])
def test_arrays_that_another_program_wrote_are_kept(tmp_path, test_set, name):
    np.save(tmp_path / name, np.arange(3))
    before = files_of(tmp_path)
    with pytest.raises(FileExistsError, match=rf"{name} exists already, and no jaxprune.json beside it says"):
        corrupted_sets.write(tmp_path, test_set, seed=1, names=("contrast",), severities=(1,))
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3", b"\xff\xfe{", b"[" * 100_000])
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path, test_set, content):
    (tmp_path / "jaxprune.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"jaxprune\.json is damaged .*; choose another folder") as caught:
        corrupted_sets.write(tmp_path, test_set, seed=1, names=("contrast",), severities=(1,))
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path) == {"jaxprune.json": content}


def test_a_manifest_that_lacks_a_key_is_of_another_kind(tmp_path, test_set):
    (tmp_path / "jaxprune.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match="holds corrupted images of another kind .*None there"):
        corrupted_sets.write(tmp_path, test_set, seed=1, names=("contrast",), severities=(1,))


DAMAGED_ARRAYS = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-7],
    "longer": lambda content: content + b"\0",
    "a header cut short": lambda content: content[:40],
    "another shape": lambda content: content.replace(b"(4, 32, 32, 3)", b"(4, 32, 16, 6)"),
    "another type": lambda content: content.replace(b"|u1", b"|i1"),
    "no array": lambda content: b"P" + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGED_ARRAYS)
def test_a_damaged_array_is_not_taken_for_a_finished_one_and_the_cure_helps(tmp_path, test_set, damage):
    def write():
        return corrupted_sets.write(tmp_path, test_set.take(4), seed=1, names=("contrast",), severities=(1,))

    write()
    path = tmp_path / "contrast.npy"
    whole = path.read_bytes()
    path.write_bytes(DAMAGED_ARRAYS[damage](whole))
    assert path.read_bytes() != whole
    with pytest.raises(ValueError, match=r"contrast\.npy is damaged .*; delete that file, and the same call writes it"):
        write()
    path.unlink()
    write()
    assert path.read_bytes() == whole


def test_labels_of_other_images_are_not_taken_for_these(tmp_path, test_set):
    few = test_set.take(4)
    corrupted_sets.write(tmp_path, few, seed=1, names=(), severities=(1,))
    np.save(tmp_path / "labels.npy", np.int64(few.labels[::-1].copy() + 1))
    with pytest.raises(ValueError, match=r"labels\.npy is damaged \(other values than those of the data set\)"):
        corrupted_sets.write(tmp_path, few, seed=1, names=(), severities=(1,))


@pytest.mark.parametrize("option", ["--out", "--preview"])
def test_an_empty_path_is_refused_and_nothing_is_written(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["corrupt", "--names", "contrast", "--severities", "1", "--limit", "2", option, ""]) == 2
    assert "is ''; give a name (is a shell variable unset?)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["png", "pdf", "svg", "eps", "jpg"])
def test_a_picture_that_is_there_is_replaced_only_if_it_was_drawn_here(tmp_path, test_set, kind):
    def draw(path, **options):
        return corrupted_sets.draw_gallery(jax.random.key(0), test_set.images[0], path, severities=(1,), **options)

    draw(tmp_path / f"ours.{kind}", names=("contrast",))
    first = (tmp_path / f"ours.{kind}").read_bytes()
    if kind == "jpg":  # a format that cannot say who wrote it
        with pytest.raises(FileExistsError, match="exists already and is no gallery that jaxprune wrote"):
            draw(tmp_path / "ours.jpg", names=("brightness",))
        assert (tmp_path / "ours.jpg").read_bytes() == first
    else:
        draw(tmp_path / f"ours.{kind}", names=("brightness",))
        assert (tmp_path / f"ours.{kind}").read_bytes() != first
    from PIL import Image

    photograph = tmp_path / f"photograph.{kind}"
    Image.new("RGB", (8, 8)).save(photograph, format="PNG")
    before = photograph.read_bytes()
    with pytest.raises(FileExistsError, match="exists already and is no gallery that jaxprune wrote; give another"):
        draw(photograph, names=("contrast",))
    assert photograph.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {f"ours.{kind}", photograph.name}


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path, test_set):
    with pytest.raises(ValueError, match=r"no pictures can be written as \.xyz; known: .*png"):
        corrupted_sets.draw_gallery(jax.random.key(0), test_set.images[0], tmp_path / "deep" / "picture.xyz", names=())
    assert not list(tmp_path.iterdir())
