"""TFDS sets (written here without TensorFlow), CIFAR-C folders, image folders, .npz files, validation splits."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxprune import data
from jaxprune.data import cifar, corrupted_folder
from tests.data.prepared import make_images, records_of, write_tfds

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_cifar100_is_read_from_tfds_with_fine_or_coarse_labels(tmp_path):
    images, fine, coarse = make_images(0, 6), [99, 3, 0, 50, 7, 7], [19, 0, 1, 2, 3, 4]
    names = {"label": data.CIFAR100_CLASSES, "coarse_label": data.CIFAR100_COARSE_CLASSES}
    examples = {"test": records_of(images, label=fine, coarse_label=coarse)}
    write_tfds(tmp_path, "cifar100", examples, names, version="3.0.2")
    old = {"test": records_of(images[:1], label=[0], coarse_label=[0])}
    write_tfds(tmp_path, "cifar100", old, names, version="3.0.1")
    loaded = data.load("cifar100", split="test", data_dir=tmp_path, verify=False)
    np.testing.assert_array_equal(loaded.images, images)
    assert loaded.labels.tolist() == fine
    assert loaded.class_names == data.CIFAR100_CLASSES
    loaded = data.load("cifar100_coarse", split="test", data_dir=tmp_path, limit=2)
    assert loaded.labels.tolist() == coarse[:2]
    assert loaded.class_names == data.CIFAR100_COARSE_CLASSES
    with pytest.raises(ValueError, match="has no split 'train'; it has test"):
        data.load("cifar100", split="train", data_dir=tmp_path)
    with pytest.raises(ValueError, match="cifar100 holds 6 test images, .*published split has 10000"):
        data.load("cifar100", split="test", data_dir=tmp_path)
    assert cifar.SPLIT_SIZES == {"train": 50_000, "test": 10_000}


def test_tfds_sets_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / "cifar10" / "3.0.2.incomplete").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no prepared 'cifar10' in .*prepare the set once.*tfds build cifar10"):
        data.load("cifar10", split="test", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="was not prepared to the end; prepare the set once"):
        data.stream_tfds("cifar10", split="test", data_dir=tmp_path, image_size=32)
    examples = {"test": records_of(make_images(0, 1), label=[0])}
    write_tfds(tmp_path, "cifar100", examples, {"label": 100}, file_format="tfrecord")
    with pytest.raises(ValueError, match="cannot be read without TensorFlow.*--file_format=array_record"):
        data.load("cifar100", split="test", data_dir=tmp_path)
    with pytest.raises(ValueError, match="has no feature 'coarse_label', only image, label"):
        data.load("cifar100_coarse", split="test", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "structure"])
def test_damaged_tfds_sets_are_named(tmp_path, damage):
    write_tfds(
        tmp_path, "cifar10", {"test": records_of(make_images(0, 50), label=np.arange(50) % 10)}, {"label": CIFAR10}
    )
    shard = next(tmp_path.rglob("*array_record*"))
    if damage == "missing":
        shard.unlink()
    elif damage == "structure":
        (shard.parent / "features.json").write_text("{")
    else:
        content = shard.read_bytes()
        shard.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"x" * len(content))
    with pytest.raises(ValueError, match="cifar10 is damaged or incomplete .*copy it again"):
        data.load("cifar10", split="test", data_dir=tmp_path)


def test_cifar10_corrupted_needs_a_name_and_a_severity(tmp_path):
    images = make_images(1, 4)
    # The official set declares the number of classes only.
    for config in ("fog_3", "frosted_glass_blur_1"):
        write_tfds(
            tmp_path, f"cifar10_corrupted/{config}", {"test": records_of(images, label=[3, 1, 9, 0])}, {"label": 10}
        )
    load = lambda **options: data.load("cifar10_corrupted", split="test", data_dir=tmp_path, **options)  # noqa: E731
    loaded = load(corruption="fog", severity=3)
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.name, loaded.split, loaded.class_names) == ("cifar10_corrupted/fog/3", "test", CIFAR10)
    assert len(load(corruption="glass_blur", severity=1, limit=2)) == 2
    for options in ({}, {"corruption": "fog"}, {"severity": 3}):
        with pytest.raises(
            ValueError, match="needs both corruption= .* and severity= .* holds fog_3, frosted_glass_bl"
        ):
            load(**options)
    with pytest.raises(ValueError, match=r"severity=6; give one of 1, 2, 3, 4, 5"):
        load(corruption="fog", severity=6)
    message = "no prepared 'cifar10_corrupted/fog_4' in .*there: fog_3, frosted_glass_blur_1; .*tfds build"
    with pytest.raises(FileNotFoundError, match=message):
        load(corruption="fog", severity=4)


def test_official_cifar_c_folders(tmp_path):
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    fog, labels = make_images(2, 5 * 4), [99, 0, 42, 7]
    np.save(folder / "fog.npy", fog)
    np.save(folder / "zoom_blur.npy", fog)
    np.save(folder / "labels.npy", np.array(labels * 5))
    assert data.corrupted_folder_contents(folder) == (("fog", "zoom_blur"), (1, 2, 3, 4, 5))
    third = data.load_cifar_c(folder, name="fog", severity=3)
    np.testing.assert_array_equal(third.images, fog[8:12])
    assert third.labels.tolist() == labels
    assert third.class_names == data.CIFAR100_CLASSES
    assert (third.mean, third.split, third.name) == (data.CIFAR100_MEAN, "test", "CIFAR-100-C/fog/3")
    np.save(folder / "labels.npy", np.array([9, 0, 2, 7] * 5))
    assert data.load_cifar_c(folder, name="fog", severity=3).class_names == CIFAR10
    assert data.load_cifar_c(folder, name="fog", severity=1, class_names=list("abcdefghij")).class_names[9] == "j"
    with pytest.raises(ValueError, match="limit=-1"):
        data.load_cifar_c(folder, name="fog", severity=3, limit=-1)
    for wrong in (np.array([0, 1, 2, 3] * 4 + [0, 1, 2, 4]), np.arange(18), np.array([], int)):
        np.save(folder / "labels.npy", wrong)
        with pytest.raises(ValueError, match="does not repeat 4 labels once per severity"):
            data.load_cifar_c(folder, name="fog", severity=3)
    np.save(folder / "labels.npy", np.zeros(20))
    with pytest.raises(ValueError, match="labels.npy is float64"):
        data.load_cifar_c(folder, name="fog", severity=3)
    np.save(folder / "labels.npy", np.array([-1, 0, 2, 7] * 5))
    with pytest.raises(ValueError, match="labels run from -1 to 7"):
        data.load_cifar_c(folder, name="fog", severity=3)
    with pytest.raises(FileNotFoundError, match="give the unpacked CIFAR-10-C"):
        data.corrupted_folder_contents(tmp_path / "absent")


def test_arrays_in_a_bucket_are_read_whole(tmp_path):
    class Bucket:  # as etils gives for gs://
        def __fspath__(self):
            return "gs://bucket/fog.npy"

        def open(self, mode):
            return (tmp_path / "fog.npy").open(mode)

    np.save(tmp_path / "fog.npy", np.arange(6))
    np.testing.assert_array_equal(corrupted_folder._open(Bucket()), np.arange(6))


def write_folder(root, classes, size=(8, 8), per_class=2):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.full((*size, 3), 10 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def test_image_folders_are_read_in_order(tmp_path):
    write_folder(tmp_path, ("dog", "cat"))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "deeper").mkdir()
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "cat" / "deeper" / "more.JPEG")
    (tmp_path / ".cache").mkdir()
    loaded = data.load_image_folder(tmp_path)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.labels.tolist() == [0, 0, 0, 1, 1]
    assert loaded.images[:, 0, 0, 0].tolist() == [10, 11, 255, 0, 1]
    assert loaded.images.shape == (5, 8, 8, 3)
    assert loaded.split == "unnamed"
    imposed = data.load_image_folder(tmp_path, class_names=("dog", "bird", "cat"), limit=3, split="test")
    assert (imposed.class_names, imposed.labels.tolist()) == (("dog", "bird", "cat"), [0, 0, 2])
    with pytest.raises(ValueError, match="holds classes that class_names lacks: cat; class_names are dog, bird"):
        data.load_image_folder(tmp_path, class_names=("dog", "bird"))
    assert len(data.load_image_folder(tmp_path, image_size=4, limit=0)) == 0
    with pytest.raises(ValueError, match="limit=-1; give a number of examples >= 0"):
        data.load_image_folder(tmp_path, limit=-1)


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "webp"])
def test_every_mode_and_form_becomes_rgb(tmp_path, form):
    (tmp_path / "a").mkdir()
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    image = Image.fromarray(grey)
    image.save(tmp_path / "a" / f"grey.{form}", **({"lossless": True} if form == "webp" else {}))
    (pixels,) = data.load_image_folder(tmp_path).images.astype(int)
    assert np.abs(pixels - grey[..., None]).max() <= (8 if form == "jpg" else 0)


def test_palettes_alpha_sixteen_bits_and_orientation(tmp_path):
    (tmp_path / "a").mkdir()
    rgb = make_images(0, 1, 8)[0]
    few = (rgb // 128 * 255).astype(np.uint8)
    Image.fromarray(few).quantize(8).save(tmp_path / "a" / "0_palette.png", transparency=b"\x00" * 8)
    Image.fromarray(np.dstack([rgb, rgb[..., :1]])).save(tmp_path / "a" / "1_alpha.png")
    Image.fromarray((rgb[..., 0].astype(np.uint16) << 8) + 77).save(tmp_path / "a" / "2_sixteen.png")
    turned = Image.fromarray(rgb)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    turned.save(tmp_path / "a" / "3_turned.png", exif=exif)
    palette, alpha, sixteen, turned = data.load_image_folder(tmp_path).images
    np.testing.assert_array_equal(palette, few)
    np.testing.assert_array_equal(alpha, rgb)
    np.testing.assert_array_equal(sixteen, np.repeat(rgb[..., :1], 3, axis=2))
    np.testing.assert_array_equal(turned, np.rot90(rgb, -1))


def triangle_weights(length, target):
    """Antialiased linear interpolation, from its definition."""
    scale = length / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centres[:, None]) / support)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "crop_fraction"), [(40, 61, 1.0), (9, 7, 1.0), (64, 48, 0.8)])
def test_images_are_resized_by_the_shorter_side_and_cropped_in_the_middle(tmp_path, height, width, crop_fraction):
    (tmp_path / "a").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a" / "0.png")
    (actual,) = data.load_image_folder(tmp_path, image_size=16, crop_fraction=crop_fraction).images
    side = round(16 / crop_fraction)
    new = (side * height // min(height, width), side * width // min(height, width))
    full = np.einsum("ih,hwc,jw->ijc", triangle_weights(height, new[0]), image, triangle_weights(width, new[1]))
    top, left = (new[0] - 16) // 2, (new[1] - 16) // 2
    assert np.abs(actual - full[top : top + 16, left : left + 16]).max() <= 1.5


def test_bad_image_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        data.load_image_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no sub-folders; it needs one per class"):
        data.load_image_folder(tmp_path)
    write_folder(tmp_path, ("a", "b"))
    Image.new("RGB", (9, 7)).save(tmp_path / "b" / "odd.png")
    with pytest.raises(ValueError, match=r"images of 2 sizes: 8 x 8 \(4\), 7 x 9 \(1\); give image_size="):
        data.load_image_folder(tmp_path)
    assert data.load_image_folder(tmp_path, image_size=8).images.shape == (5, 8, 8, 3)
    for wrong in ({"image_size": 0}, {"image_size": 8, "crop_fraction": 1.5}):
        with pytest.raises(ValueError, match="the size must be >= 1, the fraction in"):
            data.load_image_folder(tmp_path, **wrong)
    whole = (tmp_path / "b" / "0.png").read_bytes()
    for content in (b"", b"no image", whole[:40]):
        (tmp_path / "b" / "0.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"b/0.png cannot be read as an image"):
            data.load_image_folder(tmp_path, image_size=8)
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="class 'c' of .* has no images"):
        data.load_image_folder(tmp_path)


def test_image_folders_and_npz_files_by_split(tmp_path):
    write_folder(tmp_path / "train", ("a", "b", "c"), per_class=4)
    write_folder(tmp_path / "test", ("a", "c"))
    test = data.load("image_folder", split="test", data_dir=tmp_path, image_size=4)
    assert (test.class_names, test.labels.tolist(), test.split) == (("a", "b", "c"), [0, 0, 2, 2], "test")
    assert test.name == tmp_path.name
    with pytest.raises(FileNotFoundError, match="no sub-folder 'validation'; it has train, test"):
        data.load("image_folder", split="validation", data_dir=tmp_path)
    cut = data.load("image_folder", split="validation", data_dir=tmp_path, validation_fraction=0.25)
    assert (cut.split, sorted(cut.labels.tolist())) == ("validation", [0, 1, 2])
    np.savez(tmp_path / "train.npz", images=test.images, labels=test.labels)
    loaded = data.load("npz", split="train", data_dir=tmp_path, limit=3)
    np.testing.assert_array_equal(loaded.images, test.images[:3])
    for name in ("image_folder", "npz"):
        with pytest.raises(ValueError, match=f"{name} needs data_dir="):
            data.load(name, split="train")


def test_npz_files(tmp_path):
    path = tmp_path / "set.npz"
    images = make_images(0, 4, 5)
    np.savez(path, images=images, labels=np.array([2, 0, 1, 2], np.int8), class_names=np.array(["x", "y", "z"]))
    loaded = data.load_npz(path, split="train")
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.labels.dtype, loaded.class_names, loaded.split) == (np.int32, ("x", "y", "z"), "train")
    assert data.load_npz(path, class_names=("p", "q", "r"), limit=1).class_names == ("p", "q", "r")
    np.savez_compressed(path, images=images[..., 0], labels=np.array([2, 0, 1, 2]))
    loaded = data.load_npz(path)
    np.testing.assert_array_equal(loaded.images, np.repeat(images[..., :1], 3, axis=3))
    assert loaded.class_names == ("0", "1", "2")


def test_bad_npz_files_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(FileNotFoundError, match="no file at .*set.npz; give an .npz file"):
        data.load_npz(path)
    images, labels = make_images(0, 4, 5), np.arange(4)
    np.savez(path, images=images, labels=labels)
    whole = path.read_bytes()
    for content in (whole[:200], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no complete .npz file"):
            data.load_npz(path)
    np.save(tmp_path / "single.npy", images)
    with pytest.raises(ValueError, match="is no complete .npz file"):
        data.load_npz(tmp_path / "single.npy")
    np.savez(path, images=images, labels=np.array([0, 1, {}, 3], object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        data.load_npz(path)
    np.savez(path, x=images)
    with pytest.raises(ValueError, match="lacks images and labels; save it with np.savez"):
        data.load_npz(path)
    for wrong, error, message in (
        ({"images": images / 255, "labels": labels}, TypeError, r"images are float64 .*uint8 \[N, H, W, C\]"),
        ({"images": images, "labels": labels[:, None]}, TypeError, "one integer per image"),
        ({"images": images, "labels": labels[:3]}, TypeError, "one integer per image"),
        ({"images": images, "labels": labels, "class_names": ["a"]}, ValueError, "labels run from 0 to 3, but there"),
        ({"images": images, "labels": labels - 1}, ValueError, "labels run from -1"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(error, match=message):
            data.load_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"nonsense")
    with pytest.raises(ValueError, match=r"is no complete .npz file|lacks"):
        data.load_npz(path)


def test_channels_first_are_told_from_wrong_channels(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((6, 3, 32, 32), np.uint8), labels=np.arange(6))
    with pytest.raises(ValueError, match=r"look like \[N, C, H, W\]: give images.transpose\(0, 2, 3, 1\)"):
        data.load_npz(tmp_path / "set.npz")
    with pytest.raises(TypeError, match="look like"):
        data.Dataset(np.zeros((6, 3, 32, 32), np.float32), np.arange(6), tuple("abcdef"))


@pytest.mark.parametrize("first", [200_000, 10**8, 2**40])
def test_labels_that_are_identifiers_cost_no_memory(tmp_path, first):
    labels = np.arange(6) + first
    np.savez(tmp_path / "set.npz", images=np.zeros((6, 4, 4, 3), np.uint8), labels=labels)
    np.save(tmp_path / "fog.npy", np.zeros((30, 4, 4, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    for load in (
        lambda: data.load_npz(tmp_path / "set.npz"),
        lambda: data.load_cifar_c(tmp_path, name="fog", severity=1),
    ):
        tracemalloc.start()
        try:
            message = ""
            try:
                load()
            except (ValueError, MemoryError) as error:
                message = str(error)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2**21, f"{peak / 2**20:.0f} MiB"
        assert f"labels up to {first + 5}, as identifiers are" in message


def header_of(shape, descr="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npz_of(path, *, images=None, labels=None, class_names=None, method=zipfile.ZIP_STORED):
    def array(values):
        buffer = io.BytesIO()
        np.save(buffer, values)
        return buffer.getvalue()

    images = array(np.zeros((4, 5, 5, 3), np.uint8)) if images is None else images
    labels = array(np.arange(4)) if labels is None else labels
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (("images", images), ("labels", labels), ("class_names", class_names)):
            if content is not None:
                archive.writestr(f"{name}.npy", content)


HUGE = 10**12
HOSTILE_NPZ = {
    "an array larger than the file": {"images": header_of((HUGE, 32, 32, 3))},
    "labels larger than the file": {"labels": header_of((HUGE,), "<i8")},
    "texts of no letters": {"class_names": header_of((HUGE,), "<U0")},
    "images of no bytes": {"images": header_of((HUGE, 1, 1), "|V0")},
    "an array with more behind it": {"images": header_of((4, 5, 5, 3)) + bytes(301)},
    "a header that is no literal": {"images": b"\x93NUMPY\1\0\x10\0" + b"__import__('os')"},
    "a header of brackets": {"images": b"\x93NUMPY\1\0\x88\x13" + b"(" * 5000},
    "bzip2": {"method": zipfile.ZIP_BZIP2},
    "lzma": {"method": zipfile.ZIP_LZMA},
}


@pytest.mark.parametrize("name", HOSTILE_NPZ)
def test_hostile_npz_files_end_in_one_line_and_take_no_memory(tmp_path, name):
    path = tmp_path / "set.npz"
    npz_of(path, **HOSTILE_NPZ[name])
    with pytest.raises(ValueError, match=r"set.npz is no complete .npz file of plain arrays") as error:
        data.load_npz(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["method", "encrypted", "size"])
def test_archives_of_an_unknown_kind_are_refused(tmp_path, field):
    path = tmp_path / "set.npz"
    npz_of(path)
    content = bytearray(path.read_bytes())
    for start, signature in ((content.index(b"PK\1\2"), 8), (0, 6)):
        if field == "method":
            content[start + signature + 2 : start + signature + 4] = (99).to_bytes(2, "little")
        elif field == "encrypted":
            content[start + signature] |= 1
        else:
            content[start + signature + 16 : start + signature + 20] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"set.npz is no complete .npz file of plain arrays"):
        data.load_npz(path)


def test_compressed_and_fortran_ordered_arrays_are_read(tmp_path):
    images = np.asfortranarray(make_images(0, 4, 5))
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=np.arange(4, dtype=">i2"), class_names=list("abcd"))
    loaded = data.load_npz(tmp_path / "set.npz")
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.labels.tolist(), loaded.class_names) == ([0, 1, 2, 3], ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        "3",
        '{"severities": 3}',
        '{"severities": []}',
        '{"severities": [1, 1]}',
        '{"severities": [1, 9]}',
        '{"severities": [1.0]}',
        '{"severities": ["1"]}',
        '{"class_names": "ab"}',
        '{"class_names": [1, 2]}',
    ],
)
def test_a_damaged_description_of_a_corrupted_folder_is_named(tmp_path, text):
    np.save(tmp_path / "fog.npy", make_images(2, 5 * 4))
    np.save(tmp_path / "labels.npy", np.tile([0, 1, 2, 3], 5))
    (tmp_path / "jaxprune.json").write_text(text)
    for read in (
        lambda: data.corrupted_folder_contents(tmp_path),
        lambda: data.load_cifar_c(tmp_path, name="fog", severity=1),
    ):
        with pytest.raises(ValueError, match=r"jaxprune.json is damaged \(.*copy it again") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [header_of((HUGE, 32, 32, 3)), b"PK\3\4", b"", b"\x93NUMPY\1\0\x88\x13" + b"(" * 5000]
)
def test_arrays_of_a_corrupted_folder_that_are_none_are_named(tmp_path, content):
    (tmp_path / "fog.npy").write_bytes(content)
    np.save(tmp_path / "labels.npy", np.tile([0, 1, 2, 3], 5))
    with pytest.raises(ValueError, match=r"fog.npy is no complete .npy file"):
        data.load_cifar_c(tmp_path, name="fog", severity=1)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**63),
)
def test_a_validation_split_is_stratified_complete_and_repeatable(counts, fraction, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)
    whole = data.Dataset(images, labels, tuple(map(str, counts)), split="train")
    if not 0 < round(fraction * len(labels)) < len(labels):
        with pytest.raises(ValueError, match="leaves one of the two parts without images"):
            data.split_validation(whole, fraction=fraction, seed=seed)
        return
    train, validation = data.split_validation(whole, fraction=fraction, seed=seed)
    assert (train.split, validation.split, len(validation)) == ("train", "validation", round(fraction * len(labels)))
    sizes = np.bincount(validation.labels, minlength=len(counts))
    assert np.abs(sizes - fraction * np.array(counts)).max() < 1
    numbers = [part.images[:, 0, 0, 0] for part in (train, validation)]
    assert sorted(np.concatenate(numbers)) == list(range(len(labels)))
    for part, order in zip((train, validation), numbers, strict=True):
        assert (np.diff(order.astype(int)) > 0).all()
        np.testing.assert_array_equal(part.labels, labels[order])
    again = data.split_validation(whole, fraction=fraction, seed=seed)[1]
    np.testing.assert_array_equal(again.images, validation.images)


def test_a_validation_split_depends_on_its_seed_and_never_on_the_version():
    whole = data.load("digits", split="train")
    chosen = {seed: data.split_validation(whole, fraction=0.1, seed=seed)[1] for seed in (0, 1)}
    assert (chosen[0].images != chosen[1].images).any()
    first = [int((whole.images == image).all((1, 2, 3)).argmax()) for image in chosen[0].images[:5]]
    assert first == [2, 3, 11, 13, 20]
    for arguments, message in (
        ({"fraction": 0.0, "seed": 0}, r"fraction=0.0; give the share .* in \(0, 1\)"),
        ({"fraction": 1.0, "seed": 0}, "fraction=1.0"),
        ({"fraction": 0.5, "seed": -1}, "seed=-1; give an integer >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            data.split_validation(whole, **arguments)
    with pytest.raises(ValueError, match="the validation split was given the test split of 'digits'"):
        data.split_validation(data.load("digits", split="test"), fraction=0.1, seed=0)


def test_load_cuts_the_validation_split_from_the_training_images():
    whole = data.load("digits", split="train")
    train, validation = data.split_validation(whole, fraction=0.2, seed=5)
    options = {"validation_fraction": 0.2, "validation_seed": 5}
    np.testing.assert_array_equal(data.load("digits", split="train", **options).images, train.images)
    np.testing.assert_array_equal(data.load("digits", split="validation", **options).images, validation.images)
    few = data.load("digits", split="validation", limit=3, **options)
    np.testing.assert_array_equal(few.images, validation.images[:3])
    assert len(data.load("digits", split="test", **options)) == 400


def test_splits_and_options_that_a_set_lacks_are_refused():
    with pytest.raises(ValueError, match="has no split 'validation'; it has train, test; validation_fraction= cuts"):
        data.load("cifar10", split="validation")
    with pytest.raises(ValueError, match="has no split 'validation'; it has test$"):
        data.load("cifar10_corrupted", split="validation", validation_fraction=0.5)
    with pytest.raises(TypeError, match="'cifar10' has no option 'corruption'; it has verify"):
        data.load("cifar10", split="test", corruption="fog")
    with pytest.raises(TypeError, match="'digits' has no option 'verify'; it has none"):
        data.load("digits", split="test", verify=False)
