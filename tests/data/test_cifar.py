"""The original CIFAR archives, written here byte for byte as documented, and pickles that must not be executed."""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import pickle
import struct
import tarfile
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import data
from jaxprune.data import cifar
from jaxprune.data.python2_pickle import read_python2_pickle

PER_BATCH = 20


def make_images(seed, count=PER_BATCH):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def channels_first_rows(images):
    """Pixels as the archives store them: 1024 red, then green, then blue values, row by row."""
    return np.stack([np.concatenate([image[:, :, c].ravel() for c in range(3)]) for image in images])


class Python2Pickler:
    """Writes protocol 2 as Python 2's cPickle does: byte strings, memo from 1, lists in runs of 1000."""

    def __init__(self):
        self.out, self.memo = io.BytesIO(), 0

    def put(self):
        self.memo += 1
        self.out.write(b"q" + bytes([self.memo]) if self.memo < 256 else b"r" + struct.pack("<I", self.memo))

    def write(self, value):
        if isinstance(value, str):
            raw = value.encode()
            self.out.write(b"U" + bytes([len(raw)]) + raw)
            self.put()
        elif isinstance(value, int):
            short = 0 <= value < 256
            self.out.write(b"K" + bytes([value]) if short else b"J" + struct.pack("<i", value))
        elif isinstance(value, list):
            self.out.write(b"]")
            self.put()
            for start in range(0, len(value), 1000):
                self.out.write(b"(")
                for item in value[start : start + 1000]:
                    self.write(item)
                self.out.write(b"e")
        elif isinstance(value, dict):
            self.out.write(b"}")
            self.put()
            self.out.write(b"(")
            for key, item in value.items():
                self.write(key)
                self.write(item)
            self.out.write(b"u")
        else:
            self.write_array(value)

    def write_array(self, array):
        assert array.dtype == np.uint8
        self.out.write(b"cnumpy.core.multiarray\n_reconstruct\n")
        self.put()
        self.out.write(b"cnumpy\nndarray\n")
        self.put()
        self.out.write(b"K\x00\x85U\x01b\x87R")
        self.put()
        rows, columns = (b"M" + struct.pack("<H", side) for side in array.shape)
        self.out.write(b"(K\x01" + rows + columns + b"\x86cnumpy\ndtype\n")
        self.put()
        self.out.write(b"U\x02u1K\x00K\x01\x87R")
        self.put()
        self.out.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T")
        self.out.write(struct.pack("<i", array.size) + array.tobytes() + b"tb")

    def dumps(self, value):
        self.out.write(b"\x80\x02")
        self.write(value)
        self.out.write(b".")
        return self.out.getvalue()


def python_batch(images, label_key, labels, **more):
    fields = {"batch_label": "a batch", label_key: labels, **more, "data": channels_first_rows(images)}
    fields["filenames"] = [f"image_{index}.png" for index in range(len(images))]
    return Python2Pickler().dumps(fields)


def cifar10_files(form):
    """Returns {file: content}, and the images and labels of each split, of a small set in CIFAR-10's form."""
    files, images, labels = {}, {"train": [], "test": []}, {"train": [], "test": []}
    for seed, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        split = "test" if name == "test_batch" else "train"
        batch, numbers = make_images(seed), np.random.default_rng(seed).permutation(PER_BATCH) % 10
        if form == "python":
            files[f"cifar-10-batches-py/{name}"] = python_batch(batch, "labels", numbers.tolist())
        else:
            rows = np.concatenate([numbers[:, None].astype(np.uint8), channels_first_rows(batch)], axis=1)
            files[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
        images[split].append(batch)
        labels[split] += numbers.tolist()
    return files, {split: np.concatenate(parts) for split, parts in images.items()}, labels


def cifar100_files(form, count=100):
    files, images, labels = {}, {}, {}
    for seed, split in enumerate(("train", "test")):
        images[split] = make_images(seed, count)
        fine = np.random.default_rng(seed).permutation(count) % 100
        coarse = np.random.default_rng(seed + 2).permutation(count) % 20
        labels[split] = (fine.tolist(), coarse.tolist())
        if form == "python":
            more = {"coarse_labels": coarse.tolist()}
            files[f"cifar-100-python/{split}"] = python_batch(images[split], "fine_labels", fine.tolist(), **more)
        else:
            both = np.stack([coarse, fine], axis=1).astype(np.uint8)
            rows = np.concatenate([both, channels_first_rows(images[split])], axis=1)
            files[f"cifar-100-binary/{split}.bin"] = rows.tobytes()
    return files, images, labels


def write(files, folder, archive=None):
    if archive is None:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return
    with tarfile.open(folder / archive, "w:gz", compresslevel=1) as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


def test_the_python_batch_of_these_tests_is_what_pickle_reads():
    images = make_images(0)
    content = python_batch(images, "labels", list(range(10)) * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy on the form of dtype pickles of its first versions
        expected = pickle.loads(content, encoding="bytes")
    ours = read_python2_pickle(content)
    assert [key.decode() for key in expected] == list(ours)
    np.testing.assert_array_equal(ours["data"], expected[b"data"])
    assert ours["labels"] == expected[b"labels"]
    assert ours["filenames"] == [name.decode() for name in expected[b"filenames"]]


@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_is_read_from_the_original_files(tmp_path, form, packed):
    files, images, labels = cifar10_files(form)
    write(files, tmp_path, f"cifar-10-{form}.tar.gz" if packed else None)
    for split in ("train", "test"):
        loaded = data.load("cifar10", split=split, data_dir=tmp_path, verify=False)
        np.testing.assert_array_equal(loaded.images, images[split])
        np.testing.assert_array_equal(loaded.labels, labels[split])
        assert loaded.labels.dtype == np.int32
        assert loaded.images.flags.c_contiguous
        assert (loaded.class_names[3], loaded.name, loaded.split) == ("cat", "cifar10", split)
    some = data.load("cifar10", split="train", data_dir=tmp_path, limit=25, verify=False)
    np.testing.assert_array_equal(some.images, images["train"][:25])
    # The folder or archive itself may be given.
    direct = tmp_path / (f"cifar-10-{form}.tar.gz" if packed else next(iter(files)).split("/")[0])
    assert len(data.load("cifar10", split="test", data_dir=direct, verify=False)) == PER_BATCH


@pytest.mark.parametrize("form", ["python", "binary"])
def test_cifar100_has_fine_and_coarse_labels(tmp_path, form):
    files, images, labels = cifar100_files(form)
    write(files, tmp_path)
    for split in ("train", "test"):
        fine = data.load("cifar100", split=split, data_dir=tmp_path, verify=False)
        coarse = data.load("cifar100_coarse", split=split, data_dir=tmp_path, verify=False)
        np.testing.assert_array_equal(fine.images, images[split])
        np.testing.assert_array_equal(coarse.images, images[split])
        np.testing.assert_array_equal(fine.labels, labels[split][0])
        np.testing.assert_array_equal(coarse.labels, labels[split][1])
    assert (len(fine.class_names), fine.class_names[0], fine.class_names[99]) == (100, "apple", "worm")
    assert (len(coarse.class_names), coarse.class_names[0], coarse.class_names[19]) == (
        20,
        "aquatic_mammals",
        "vehicles_2",
    )
    assert list(fine.class_names) == sorted(fine.class_names)
    assert list(coarse.class_names) == sorted(coarse.class_names)


def test_python_batches_saved_again_by_python_3_are_read(tmp_path):
    images, numbers = make_images(0), np.arange(PER_BATCH) % 10
    for protocol in (2, 3, 4):
        fields = {b"labels": numbers.tolist(), b"data": channels_first_rows(images)}
        again = read_python2_pickle(pickle.dumps(fields, protocol=protocol))
        np.testing.assert_array_equal(again["data"], fields[b"data"])
        assert again["labels"] == fields[b"labels"]
    big_endian = read_python2_pickle(pickle.dumps({"labels": numbers.astype(">i4")}, protocol=4))["labels"]
    np.testing.assert_array_equal(big_endian, numbers)


def with_hashes(archive, files, content):
    """The archive's entry with the MD5s of this test's files in place of the published ones."""
    md5s = {
        split: tuple((name, hashlib.md5(files[f"{archive.folder}/{name}"]).hexdigest()) for name, _ in entries)
        for split, entries in archive.files.items()
    }
    return dataclasses.replace(archive, md5=hashlib.md5(content).hexdigest(), files=md5s)


def test_hashes_and_counts_are_checked(tmp_path, monkeypatch):
    files, images, _ = cifar10_files("python")
    write(files, tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    found = hashlib.md5(batch.read_bytes()).hexdigest()
    message = f"test_batch has the MD5 {found}, the published one is 40351d587109b95175f43aff81a1287e.*verify=False"
    with pytest.raises(ValueError, match=message):
        data.load("cifar10", split="test", data_dir=tmp_path)

    monkeypatch.setattr(cifar, "_CIFAR10_ARCHIVES", (with_hashes(cifar._CIFAR10_ARCHIVES[0], files, b""),))
    with pytest.raises(ValueError, match="20 test images, 2 to 2 per class; the published split has 10000, 1000 per"):
        data.load("cifar10", split="test", data_dir=tmp_path)
    monkeypatch.setattr(cifar, "SPLIT_SIZES", {"train": 5 * PER_BATCH, "test": PER_BATCH})
    np.testing.assert_array_equal(data.load("cifar10", split="test", data_dir=tmp_path).images, images["test"])
    damaged = bytearray(batch.read_bytes())
    damaged[-400] ^= 1
    batch.write_bytes(damaged)
    with pytest.raises(ValueError, match="it is truncated, damaged or altered"):
        data.load("cifar10", split="test", data_dir=tmp_path)


def test_unbalanced_classes_are_refused(tmp_path, monkeypatch):
    files, _, _ = cifar10_files("binary")
    content = bytearray(files["cifar-10-batches-bin/test_batch.bin"])
    content[0] = (content[0] + 1) % 10
    write({"cifar-10-batches-bin/test_batch.bin": bytes(content)}, tmp_path)
    monkeypatch.setattr(cifar, "SPLIT_SIZES", {"test": PER_BATCH})
    with pytest.raises(ValueError, match="20 test images, 1 to 3 per class; the published split has 20, 2 per class"):
        data.load("cifar10", split="test", data_dir=tmp_path)


def test_the_hash_of_a_packed_archive_is_checked(tmp_path, monkeypatch):
    files, images, _ = cifar10_files("binary")
    write(files, tmp_path, "cifar-10-binary.tar.gz")
    content = (tmp_path / "cifar-10-binary.tar.gz").read_bytes()
    with pytest.raises(ValueError, match=f"{hashlib.md5(content).hexdigest()}.*c32a1d4ab5d03f1284b67883e8d87530"):
        data.load("cifar10", split="test", data_dir=tmp_path)
    entry = dataclasses.replace(cifar._CIFAR10_ARCHIVES[1], md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar, "_CIFAR10_ARCHIVES", (entry,))
    monkeypatch.setattr(cifar, "SPLIT_SIZES", {"test": PER_BATCH})
    np.testing.assert_array_equal(data.load("cifar10", split="test", data_dir=tmp_path).images, images["test"])


def test_the_order_of_search_and_what_a_missing_set_says(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        data.load("cifar100", split="test", data_dir=tmp_path)
    for name in ("cifar100, cifar-100-python, cifar-100-binary, cifar-100-python.tar.gz, cifar-100-binary.tar.gz",):
        assert name in str(error.value)
    assert "tfds build cifar100" in str(error.value)
    assert "preparing needs TensorFlow" in str(error.value)
    packed, _, _ = cifar10_files("python")
    write(packed, tmp_path, "cifar-10-python.tar.gz")
    binary, _, _ = cifar10_files("binary")
    binary = {name: content[:3073] for name, content in binary.items()}
    write(binary, tmp_path)
    assert len(data.load("cifar10", split="test", data_dir=tmp_path, verify=False)) == 1
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match="cifar-10-batches-bin lacks test_batch.bin; unpack"):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


def damaged_sets():
    batches = cifar10_files("binary")[0]
    bad_label = bytearray(batches["cifar-10-batches-bin/test_batch.bin"])
    bad_label[3073] = 10
    python = "cifar-10-batches-py/test_batch"
    rows = channels_first_rows(make_images(0, 2))
    yield "half a record", {"cifar-10-batches-bin/test_batch.bin": bytes(5000)}, "5000 bytes are no whole number of rec"
    yield (
        "label 10",
        {"cifar-10-batches-bin/test_batch.bin": bytes(bad_label)},
        r"labels from 0 to 10; cifar10 has 0\.\.9",
    )
    truncated = python_batch(make_images(0), "labels", [0] * PER_BATCH)[:-5000]
    yield "truncated batch", {python: truncated}, "test_batch cannot be read as a batch of cifar-10-python.tar.gz"
    pickler = Python2Pickler
    yield "no labels", {python: pickler().dumps({"data": rows})}, "holds no labels, only data"
    yield "too few", {python: pickler().dumps({"data": rows, "labels": [1]})}, r"no uint8 array \[1, 3072\]"
    yield "words", {python: pickler().dumps({"data": rows, "labels": ["a", "b"]})}, "not one integer per image"
    yield "one label", {python: pickler().dumps({"data": rows, "labels": 1})}, "not one integer per image"
    yield "no dict", {python: pickler().dumps(["data"])}, "holds a list instead of a dict"
    yield "not a pickle", {python: b"\x89PNG\r\n"}, "not a pickle of plain values"


@pytest.mark.parametrize(("files", "message"), [pytest.param(*rest, id=name) for name, *rest in damaged_sets()])
def test_damaged_files_are_named(tmp_path, files, message):
    write(files, tmp_path)
    with pytest.raises(ValueError, match=message):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


def test_truncated_and_foreign_archives_are_named(tmp_path):
    files, _, _ = cifar10_files("binary")
    write(files, tmp_path, "cifar-10-binary.tar.gz")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-20], b"<html>404</html>", b"", gzip.compress(b"no tar")):
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz is no complete .tar.gz archive"):
            data.load("cifar10", split="test", data_dir=tmp_path, verify=False)
    write({"other/test_batch.bin": b""}, tmp_path, "cifar-10-binary.tar.gz")
    with pytest.raises(FileNotFoundError, match="lacks cifar-10-batches-bin/test_batch.bin"):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def hostile_pickles(marker):
    for protocol in range(6):
        yield pickle.dumps({"data": Hostile(os.system, f"touch {marker}")}, protocol=protocol)
        yield pickle.dumps({"data": Hostile(eval, f"open({str(marker)!r}, 'w')")}, protocol=protocol)
        yield pickle.dumps({"data": Hostile(pathlib.Path.touch, pathlib.Path(marker))}, protocol=protocol)
    touch = f"touch {marker}".encode()
    yield b"(S'" + touch + b"'\nios\nsystem\n."  # INST
    yield b"\x80\x02(cos\nsystem\nU" + bytes([len(touch)]) + touch + b"o."  # OBJ
    yield b"\x80\x02cos\nsystem\n(U" + bytes([len(touch)]) + touch + b"t\x81."  # NEWOBJ
    yield b"\x80\x02cnumpy\nndarray\n}U\x08__init__cos\nsystem\nsb."  # BUILD on a name
    yield b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n."
    yield b"\x80\x02\x82\x01."  # an extension code
    yield b"\x80\x02U\x01xQ."  # a persistent id


def test_malicious_pickles_are_refused_without_executing_them(tmp_path):
    marker, folder = tmp_path / "executed", tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    # The first one does what it says where it is executed.
    pickle.loads(next(hostile_pickles(marker)))
    assert marker.exists()
    marker.unlink()
    for content in hostile_pickles(marker):
        (folder / "test_batch").write_bytes(content)
        with pytest.raises(ValueError, match="test_batch cannot be read as a batch"):
            data.load("cifar10", split="test", data_dir=tmp_path, verify=False)
        assert not marker.exists()
    with pytest.raises(ValueError, match=r"names (posix|nt)\.system, which is refused and was not executed"):
        read_python2_pickle(pickle.dumps(os.system))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        b"\x80\x02}" + b"(" * 50_000 + b"t" * 50_000 + b"K\x00s.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x02e.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.",
        b"",
    ],
)
def test_pickles_made_to_exhaust_or_confuse_the_reader_are_refused(content):
    with pytest.raises(ValueError, match="pickle"):
        read_python2_pickle(content)


def nested_lists(depth):
    """A list that holds ten times a list that holds ten times ..., each written once and remembered."""
    if depth == 0:
        return b"K\x01q\x00"
    again = b"h" + bytes([depth - 1])
    return b"]q" + bytes([depth]) + b"(" + nested_lists(depth - 1) + again * 9 + b"e"


@pytest.mark.parametrize(
    "labels", [nested_lists(12), b"](K\x01\x88e", b"](K\x01K\x02\x85e", b"](\x8a\x09" + b"\1" * 9 + b"K\x01e"]
)
def test_labels_that_are_no_flat_list_of_integers_are_refused(tmp_path, labels):
    # Nested, they are 10^12 labels for NumPy, in 300 bytes.
    pixels = Python2Pickler()
    pixels.write(channels_first_rows(make_images(0, 2)))
    content = b"\x80\x02}(U\x06labels" + labels + b"U\x04data" + pixels.out.getvalue() + b"u."
    write({"cifar-10-batches-py/test_batch": content}, tmp_path)
    with pytest.raises(ValueError, match="test_batch cannot be read .* labels are not one integer per image"):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


def test_a_memo_index_costs_no_memory():
    # Python's own unpickler makes a table of 2^32 entries here.
    assert read_python2_pickle(b"\x80\x02}r\xff\xff\xff\xff.") == {}


@given(st.data())
def test_no_damage_makes_the_reader_do_anything_but_refuse(draw):
    content = bytearray(Python2Pickler().dumps({"labels": [1, 300], "data": np.ones((2, 5), np.uint8), "x": "y"}))
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(2, len(content) - 1))] = draw.draw(st.integers(0, 255))
    try:
        result = read_python2_pickle(bytes(content))
    except ValueError:
        return
    assert all(isinstance(key, str) for key in result)
