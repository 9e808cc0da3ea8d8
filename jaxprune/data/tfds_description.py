"""What a prepared TFDS set says about itself, read so that its files choose no code.

TFDS makes the features of a set by importing the module that `features.json` names, and in a program started with
`python -m`, a script or a notebook a module of the working folder is among those that it finds. Here the names are
only compared with a list; nothing is imported or made by name, and TFDS does not see the file.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath

from jaxprune.data.dataset import MOST_CLASSES

INFO_FILE, FEATURES_FILE = "dataset_info.json", "features.json"
READABLE_FORMAT = "array_record"
_DEFAULT_FORMAT = "tfrecord"  # of a description that names none
_MOST_BYTES = 1 << 26  # of a file of the description; ImageNet's take 50 kB
_PACKAGE = "tensorflow_datasets.core.features"
# All that TFDS 4.9.10 knows (`FeatureConnector._registered_features`), the older name of its Tensor included.
FEATURE_NAMES = frozenset(
    f"{_PACKAGE}.{name}"
    for name in (
        "audio_feature.Audio",
        "bounding_boxes.BBoxFeature",
        "class_label_feature.ClassLabel",
        "dataset_feature.Dataset",
        "feature.Tensor",
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "labeled_image.LabeledImage",
        "scalar.Scalar",
        "sequence_feature.Sequence",
        "tensor_feature.Tensor",
        "text_feature.Text",
        "translation_feature.Translation",
        "translation_feature.TranslationVariableLanguages",
        "video_feature.Video",
    )
)
# The keys under which TFDS looks for a class: of its form until 4.4, and of the protocol buffer's two spellings.
_NAME_KEYS = ("type", "pythonClassName", "python_class_name")
# The keys under which it expects JSON inside a string.
_NESTED_KEYS = ("content", "json")
_TEMPLATE = re.compile(r"([\w./-]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})*", re.ASCII)
_PLAIN_NAME = re.compile(r"[\w-]+", re.ASCII)
_SHOWN = 200  # letters of a foreign text in an error


class Description(NamedTuple):
    """One split of a prepared version of a set, as far as it is needed to read images and labels.

    Attributes:
      files: the array_record files, in order.
      length: how many examples they hold together.
      image_shape: height and width, None where images differ.
      class_names: of the label.
    """

    files: list[epath.Path]
    length: int
    image_shape: tuple[int | None, int | None]
    class_names: tuple[str, ...]


class RefusedError(ValueError):
    """The set is not damaged, or not known to be, and is not read all the same."""


class OtherFormatError(RefusedError):
    """The examples are stored in a format that only TensorFlow reads, which the message is the name of."""


@contextlib.contextmanager
def naming_damage(folder: epath.Path) -> Iterator[None]:
    """Turns what the readers of damaged or missing files raise into a ValueError that names the set's folder."""
    try:
        yield
    except (RefusedError, ImportError):
        raise
    # Damage makes the parsers of JSON, of protocol buffers and of array_record raise almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder} is damaged or incomplete ({reason}); copy it again") from error


def describe(folder: epath.Path, *, split: str, image_key: str, label_key: str) -> Description:
    """Returns what the files in the folder of a version say about a split.

    Raises:
      RefusedError: they name a class that is none of TFDS's own, or lack the split or one of the two features.
      OtherFormatError: the examples are not stored as array_record.
      Exception: the files are damaged.
    """
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import dataset_info_pb2

    text = _read(folder / INFO_FILE)
    info, structure = _parse(text), _parse(_read(folder / FEATURES_FILE))
    for file, value in ((INFO_FILE, info.get("features")), (FEATURES_FILE, structure)):
        _refuse_foreign_names(folder / file, value)
    info = json_format.Parse(text, dataset_info_pb2.DatasetInfo())
    features = _features(structure)
    missing = [key for key in (image_key, label_key) if key not in features]
    if missing:
        raise RefusedError(f"{folder} has no feature {missing[0]!r}, only {', '.join(sorted(features))}")
    splits = {each.name: each for each in info.splits}
    if split not in splits:
        raise RefusedError(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
    formats = [info.file_format or _DEFAULT_FORMAT, *info.alternative_file_formats]
    if READABLE_FORMAT not in formats:
        raise OtherFormatError(formats[0])
    return Description(
        files=_files(folder, info.name, splits[split]),
        length=sum(splits[split].shard_lengths),
        image_shape=_image_shape(folder, image_key, features[image_key]),
        class_names=_class_names(folder, label_key, features[label_key]),
    )


def _read(path: epath.Path) -> str:
    size = path.stat().length
    if size > _MOST_BYTES:
        raise ValueError(f"its {path.name} has {size} bytes, which no description needs")
    return path.read_text()


def _parse(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):  # which of them counts would depend on the reader
            raise ValueError("a key stands twice in one place")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def _refuse_foreign_names(path: epath.Path, value: Any) -> None:
    foreign = next((name for name in _names(value) if name not in FEATURE_NAMES), None)
    if foreign is not None:
        raise RefusedError(
            f"{path} names the class {foreign[:_SHOWN]!r}, which is none of TFDS's own features; it was not imported. "
            f"The file may be hostile: get the set from where it is published"
        )


def _names(value: Any) -> Iterator[str]:
    """Yields every name of a class in parsed JSON, at any depth and in the JSON that stands in strings."""
    waiting = [value]  # not a recursion, which a deep file would exhaust
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            named = [value[key] for key in _NAME_KEYS if key in value]
            yield from (str(name) for name in named if not isinstance(name, dict))  # a feature may have such a name
            waiting += value.values()
            waiting += [_parse(value[key]) for key in _NESTED_KEYS if isinstance(value.get(key), str)]


def _features(structure: dict) -> dict[str, Any]:
    """Returns the features of the set, by name, as TFDS's protocol buffers."""
    if isinstance(structure.get("content"), dict) and not structure.get("proto_cls"):
        return {name: _feature(value) for name, value in structure["content"].items()}
    return dict(_feature(structure).features_dict.features)


def _feature(value: dict) -> Any:
    """Returns a feature, in either of TFDS's forms, as a protocol buffer."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import feature_pb2

    if "type" not in value:
        return json_format.ParseDict(value, feature_pb2.Feature())
    # Until TFDS 4.4: {"type": name, "content": a dict or JSON, "proto_cls": the kind of protocol buffer, if it is one}.
    name, content = value["type"], value["content"]
    if isinstance(content, str):
        content = _parse(content)
    new: dict[str, Any] = {"python_class_name": name}
    if value.get("proto_cls"):
        fields = feature_pb2.Feature.DESCRIPTOR.oneofs_by_name["content"].fields
        new |= {field.name: content for field in fields if field.message_type.full_name == value["proto_cls"]}
    elif name.endswith(".Image"):
        sides = {"dimensions": [-1 if side is None else side for side in content["shape"]]}
        new["image"] = {"shape": sides, "dtype": content["dtype"]}
    elif name.endswith(".ClassLabel"):
        new["class_label"] = {"num_classes": content["num_classes"]}
    return json_format.ParseDict(new, feature_pb2.Feature())


def _kind(feature: Any) -> str:
    return feature.python_class_name.rpartition(".")[2]


def _image_shape(folder: epath.Path, key: str, feature: Any) -> tuple[int | None, int | None]:
    if feature.WhichOneof("content") != "image" or feature.image.dtype not in ("", "uint8"):
        raise RefusedError(
            f"the feature {key!r} of {folder} is of the kind {_kind(feature)}, its pixels are {feature.image.dtype!r}; "
            f"images are read from features of the kind Image with uint8 pixels"
        )
    height, width, _ = list(feature.image.shape.dimensions) or (-1, -1, 3)
    return (None if height < 0 else height), (None if width < 0 else width)


def _class_names(folder: epath.Path, key: str, feature: Any) -> tuple[str, ...]:
    if feature.WhichOneof("content") != "class_label":
        raise RefusedError(
            f"the feature {key!r} of {folder} is of the kind {_kind(feature)}; labels are read from features of "
            f"the kind ClassLabel"
        )
    count, path = feature.class_label.num_classes, folder / f"{key.replace('/', '.')}.labels.txt"
    if path.exists():
        names = tuple(line.strip() for line in _read(path).split("\n") if line.strip())
        if count not in (0, len(names)):
            raise ValueError(f"its {path.name} names {len(names)} classes, its {FEATURES_FILE} has {count}")
        return names
    if count > MOST_CLASSES:
        raise ValueError(f"its {FEATURES_FILE} has {count} classes, more than {MOST_CLASSES}, and no {path.name}")
    return tuple(map(str, range(count)))


def _files(folder: epath.Path, name: str, split: Any) -> list[epath.Path]:
    from tensorflow_datasets import core

    template = split.filepath_template or core.naming.DEFAULT_FILENAME_TEMPLATE
    # Anything else that a format string can do is no part of a file's name: attributes, widths, other folders.
    if not _TEMPLATE.fullmatch(template) or not all(map(_PLAIN_NAME.fullmatch, (name, split.name))):
        raise ValueError(f"its {INFO_FILE} names the files of {name[:_SHOWN]!r} as {template[:_SHOWN]!r}")
    if template.startswith("/") or ".." in template:
        raise ValueError(f"its {INFO_FILE} names files outside of its folder, {template[:_SHOWN]!r}")
    shards = core.ShardedFileTemplate(
        data_dir=folder, template=template, dataset_name=name, split=split.name, filetype_suffix=READABLE_FORMAT
    )
    return shards.sharded_filepaths(len(split.shard_lengths))
