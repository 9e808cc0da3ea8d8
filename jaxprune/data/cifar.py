"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from TFDS and from the original python and binary archives."""

import dataclasses
import functools
import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable

import numpy as np
from etils import epath

from jaxprune.data import tfds_source
from jaxprune.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_COARSE_CLASSES
from jaxprune.data.dataset import CIFAR10_MEAN, CIFAR10_STD, CIFAR100_MEAN, CIFAR100_STD, Dataset
from jaxprune.data.python2_pickle import read_python2_pickle

SPLITS = ("train", "test")
SPLIT_SIZES = {"train": 50_000, "test": 10_000}
_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_HASH_CHUNK = 1 << 20
_MOST_BYTES = 1 << 29  # of a file inside an archive; CIFAR-100's 50,000 images take 155 MB


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Which labels of a set: their class names and where the formats keep them."""

    name: str
    tfds_name: str
    class_names: tuple[str, ...]
    tfds_key: str
    python_key: str
    binary_column: int  # of the label bytes that precede each binary record's pixels
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class _Archive:
    """One of the original archives: its files per split with their MD5 (None where none is published)."""

    file: str
    md5: str
    folder: str
    files: dict[str, tuple[tuple[str, str | None], ...]]
    parse: Callable  # (content, labels) -> images [n, 32, 32, 3], labels [n]


def _parse_python(content: bytes, labels: _Labels):
    batch = read_python2_pickle(content)
    missing = [key for key in ("data", labels.python_key) if key not in batch]
    if missing:
        raise ValueError(f"it holds no {' and no '.join(missing)}, only {', '.join(sorted(batch))}")
    pixels, numbers = batch["data"], batch[labels.python_key]
    # Looked at before NumPy does: a list of lists of the same list needs no length to be without end.
    if isinstance(numbers, list) and all(type(number) is int and number.bit_length() < 63 for number in numbers):
        numbers = np.array(numbers, np.int64)
    if not isinstance(numbers, np.ndarray) or numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"its {labels.python_key} are not one integer per image")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(numbers), _PIXELS):
        raise ValueError(f"its data is no uint8 array [{len(numbers)}, {_PIXELS}], as its {len(numbers)} labels need")
    return _channels_last(pixels), numbers


def _parse_binary(content: bytes, labels: _Labels, *, label_bytes: int):
    record = label_bytes + _PIXELS
    if len(content) % record:
        raise ValueError(
            f"its {len(content)} bytes are no whole number of records of {record} bytes ({label_bytes} label, "
            f"{_PIXELS} pixels); the file is truncated or of another format"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _channels_last(records[:, label_bytes:]), records[:, labels.binary_column]


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, _CHANNELS, _SIDE, _SIDE).transpose(0, 2, 3, 1)


# MD5 of the archives: the sets' home page (cs.toronto.edu, Krizhevsky); of the python batches: torchvision's
# `datasets/cifar.py`. For the unpacked binary batches none is published: their counts per class are checked.
_CIFAR10_ARCHIVES = (
    _Archive(
        file="cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        files={
            "train": (
                ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
                ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
                ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
                ("data_batch_4", "634d18415352ddfa80567beed471001a"),
                ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
            ),
            "test": (("test_batch", "40351d587109b95175f43aff81a1287e"),),
        },
        parse=_parse_python,
    ),
    _Archive(
        file="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        files={
            "train": tuple((f"data_batch_{number}.bin", None) for number in range(1, 6)),
            "test": (("test_batch.bin", None),),
        },
        parse=functools.partial(_parse_binary, label_bytes=1),
    ),
)
_CIFAR100_ARCHIVES = (
    _Archive(
        file="cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        files={
            "train": (("train", "16019d7e3df5f24257cddd939b257f8d"),),
            "test": (("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
        },
        parse=_parse_python,
    ),
    _Archive(
        file="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        files={"train": (("train.bin", None),), "test": (("test.bin", None),)},
        parse=functools.partial(_parse_binary, label_bytes=2),
    ),
)

_CIFAR10 = _Labels(
    name="cifar10",
    tfds_name="cifar10",
    class_names=CIFAR10_CLASSES,
    tfds_key="label",
    python_key="labels",
    binary_column=0,
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
)
_CIFAR100 = _Labels(
    name="cifar100",
    tfds_name="cifar100",
    class_names=CIFAR100_CLASSES,
    tfds_key="label",
    python_key="fine_labels",
    binary_column=1,
    mean=CIFAR100_MEAN,
    std=CIFAR100_STD,
)
_CIFAR100_COARSE = dataclasses.replace(
    _CIFAR100,
    name="cifar100_coarse",
    class_names=CIFAR100_COARSE_CLASSES,
    tfds_key="coarse_label",
    python_key="coarse_labels",
    binary_column=0,
)


def load_cifar10(*, split: str, data_dir=None, limit: int | None = None, verify: bool = True) -> Dataset:
    """Returns CIFAR-10, from the first of these that `data_dir` holds, in the files' order.

    1. `cifar10/<version>/`, a TFDS set prepared to the end in a random-access format (array_record);
    2. `cifar-10-batches-py/`, then `cifar-10-batches-bin/`, the unpacked archives;
    3. `cifar-10-python.tar.gz`, then `cifar-10-binary.tar.gz`, read without unpacking them to disk.

    `data_dir` may also be one of 2 and 3 itself; by default it is TFDS's own folder (`TFDS_DATA_DIR` or
    `~/tensorflow_datasets`). Nothing in the python batches' pickles is executed.

    Args:
      split: "train" (50,000 images) or "test" (10,000).
      data_dir: the folder to look into, local or `gs://`.
      limit: read the first `limit` images only.
      verify: compare with the published MD5 (of the archive, or of each python batch) and, without `limit`, check
        that the split is complete and its classes balanced; False for copies that were re-encoded or cut.

    Raises:
      FileNotFoundError: `data_dir` holds none of these, or an unpacked folder lacks a file.
      ValueError: a wrong hash, a truncated or foreign file, a label out of range, a wrong number of images.
    """
    return _load(_CIFAR10, _CIFAR10_ARCHIVES, split=split, data_dir=data_dir, limit=limit, verify=verify)


def load_cifar100(*, split: str, data_dir=None, limit: int | None = None, verify: bool = True) -> Dataset:
    """Returns CIFAR-100 with its 100 fine labels; looked for and checked as `load_cifar10` does.

    The names are `cifar100/`, `cifar-100-python/`, `cifar-100-binary/`, `cifar-100-python.tar.gz` and
    `cifar-100-binary.tar.gz`.
    """
    return _load(_CIFAR100, _CIFAR100_ARCHIVES, split=split, data_dir=data_dir, limit=limit, verify=verify)


def load_cifar100_coarse(*, split: str, data_dir=None, limit: int | None = None, verify: bool = True) -> Dataset:
    """Returns CIFAR-100 with its 20 coarse labels; looked for and checked as `load_cifar100` does."""
    return _load(_CIFAR100_COARSE, _CIFAR100_ARCHIVES, split=split, data_dir=data_dir, limit=limit, verify=verify)


def _load(kind: _Labels, archives: tuple[_Archive, ...], *, split, data_dir, limit, verify) -> Dataset:
    root = tfds_source.data_folder(data_dir)
    wanted = [kind.tfds_name, *(archive.folder for archive in archives), *(archive.file for archive in archives)]
    places = [root / name for name in wanted[1:]] + ([root] if root.name in wanted[1:] else [])
    tfds_set = root / kind.tfds_name
    is_prepared = bool(tfds_source.versions(tfds_set))
    place = tfds_set if is_prepared else next((place for place in places if place.exists()), None)
    if place is None:
        raise FileNotFoundError(
            f"no prepared {kind.tfds_name!r} in {root}: looked for {', '.join(wanted)}; give data_dir= (or "
            f"--study.data.data-dir) the folder that holds one of them, or {tfds_source.how_to_prepare(kind.tfds_name)}"
        )
    class_names = kind.class_names
    if is_prepared:
        images, labels, class_names = tfds_source.read(
            place, kind.tfds_name, split=split, limit=limit, label_key=kind.tfds_key
        )
    else:
        archive = next(archive for archive in archives if place.name in (archive.folder, archive.file))
        parts = _read_archive(place, archive, kind, split=split, limit=limit, verify=verify)
        images, labels = (np.concatenate(part)[:limit] for part in zip(*parts, strict=True))
    dataset = Dataset(
        images=np.ascontiguousarray(images),
        labels=labels,
        class_names=class_names,
        name=kind.name,
        split=split,
        mean=kind.mean,
        std=kind.std,
    )
    if verify and limit is None:
        _check_counts(place, dataset.labels, split, len(kind.class_names))
    return dataset


def _read_archive(place: epath.Path, archive: _Archive, kind: _Labels, *, split, limit, verify):
    files, parts, count = archive.files[split], [], 0
    is_packed = place.name == archive.file
    if is_packed and verify:
        _check_md5(place, archive.md5)
    contents = _members(place, archive, [name for name, _ in files]) if is_packed else {}
    for name, md5 in files:
        path = place / name
        if is_packed:
            content = contents[name]
        elif path.exists():
            content = path.read_bytes()
        else:
            raise FileNotFoundError(f"{place} lacks {name}; unpack {archive.file} again")
        if verify and not is_packed and md5 is not None:
            _compare_md5(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), md5)
        try:
            images, labels = archive.parse(content, kind)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as a batch of {archive.file}: {error}") from error
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(kind.class_names):
            raise ValueError(
                f"{path} has labels from {labels.min()} to {labels.max()}; "
                f"{kind.name} has 0..{len(kind.class_names) - 1}"
            )
        parts.append((images, labels))
        count += len(labels)
        if limit is not None and count >= limit:
            break
    return parts


def _members(place: epath.Path, archive: _Archive, names: list[str]) -> dict[str, bytes]:
    wanted, found = {f"{archive.folder}/{name}": name for name in names}, {}
    try:
        with (
            place.open("rb") as file,
            gzip.open(file) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as members,
        ):
            for member in members:
                name = wanted.get(member.name.removeprefix("./"))
                if name is not None and member.isfile() and member.size > _MOST_BYTES:
                    raise tarfile.TarError(f"{member.name} claims {member.size} bytes")
                if name is not None and member.isfile():
                    found[name] = members.extractfile(member).read()
            while unpacked.read(_HASH_CHUNK):  # to the end, where gzip compares its checksum
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{place} is no complete .tar.gz archive ({error}); download it again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise FileNotFoundError(f"{place} lacks {', '.join(f'{archive.folder}/{name}' for name in missing)}")
    return found


def _check_md5(path: epath.Path, expected: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    _compare_md5(path, digest.hexdigest(), expected)


def _compare_md5(path: epath.Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path} has the MD5 {found}, the published one is {expected}: it is truncated, damaged or altered; "
            f"get it again, or pass verify=False for a copy that was re-encoded on purpose"
        )


def _check_counts(place: epath.Path, labels: np.ndarray, split: str, num_classes: int) -> None:
    expected = SPLIT_SIZES[split] // num_classes
    counts = np.bincount(labels, minlength=num_classes)
    if len(labels) != SPLIT_SIZES[split] or (counts != expected).any():
        raise ValueError(
            f"{place} holds {len(labels)} {split} images, {counts.min()} to {counts.max()} per class; the published "
            f"split has {SPLIT_SIZES[split]}, {expected} per class; get it again, or pass verify=False for a part of it"
        )
