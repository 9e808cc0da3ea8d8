"""Prepared TFDS sets: their files choose no code, whatever they say, and what cannot be read says what to do."""

import copy
import json
import sys

import numpy as np
import pytest

from jaxprune import data
from jaxprune.cli import installation
from tests.data.prepared import PACKAGE, make_images, records_of, write_tfds

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOSTILE = "hostile_features.Hostile"
CODE = "import pathlib\npathlib.Path('executed').touch()\nclass Hostile: pass\n"
LABELS = [3, 1, 2]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The folder of a prepared CIFAR-10 of three images."""
    root = tmp_path_factory.mktemp("tfds")
    write_tfds(root, "cifar10", {"test": records_of(make_images(0, 3), label=LABELS)}, {"label": CLASSES})
    return root


@pytest.fixture
def prepared(original):
    """The folder of the version, whose descriptions are put back afterwards."""
    folder = original / "cifar10" / "1.0.0"
    before = {file: file.read_bytes() for file in folder.iterdir()}
    yield folder
    for file in folder.iterdir():
        file.unlink()
    for file, content in before.items():
        file.write_bytes(content)


def load(folder, **options):
    return data.load("cifar10", split="test", data_dir=folder.parent.parent, verify=False, **options)


def features(folder):
    return json.loads((folder / "features.json").read_text())


def with_feature(feature, name="more"):
    def change(structure):
        structure["featuresDict"]["features"][name] = feature
        return structure

    return change


def inside(kind, field, value):
    return {"pythonClassName": f"{PACKAGE}.{kind}", field: value}


LEAF = {"pythonClassName": HOSTILE, "text": {}}
SEQUENCE = inside("sequence_feature.Sequence", "sequence", {"feature": LEAF, "length": "-1"})
FEATURES_DICT = f"{PACKAGE}.features_dict.FeaturesDict"
LEGACY_LEAF = {"type": HOSTILE, "content": {}}
LEGACY_JSON = {"json": json.dumps({"deeper": LEGACY_LEAF})}


def nested(depth):
    feature = LEAF
    for _ in range(depth):
        feature = inside("sequence_feature.Sequence", "sequence", {"feature": feature, "length": "-1"})
    return feature


def doubled(position):
    def change(structure):
        text = json.dumps(structure)[1:-1]
        foreign = f'"pythonClassName": "{HOSTILE}"'
        return f"{{{foreign}, {text}}}" if position == "first" else f"{{{text}, {foreign}}}"

    return change


HOSTILE_FEATURES = {
    "the whole": lambda structure: {**structure, "pythonClassName": HOSTILE},
    "a feature": with_feature(LEAF),
    "the label": with_feature({"pythonClassName": HOSTILE, "classLabel": {"numClasses": "10"}}, "label"),
    "the protocol buffer's spelling": with_feature({"python_class_name": HOSTILE, "text": {}}),
    "in a sequence": with_feature(SEQUENCE),
    "in a data set": with_feature({**SEQUENCE, "pythonClassName": f"{PACKAGE}.dataset_feature.Dataset"}),
    "in a dict": with_feature(inside("features_dict.FeaturesDict", "featuresDict", {"features": {"deeper": LEAF}})),
    "deep": with_feature(nested(30)),
    "in JSON within a string": with_feature(inside("features_dict.FeaturesDict", "jsonFeature", LEGACY_JSON)),
    "the form until 4.4": lambda _: LEGACY_LEAF,
    "within that form": lambda _: {"type": FEATURES_DICT, "content": {"image": LEGACY_LEAF}},
    "a string in that form": lambda _: {
        "type": FEATURES_DICT,
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps({"features": {"image": LEAF}}),
    },
    "escaped letters": lambda structure: json.dumps(with_feature(LEAF)(structure)).replace("host", "\\u0068ost"),
    "a key twice, the last counts": doubled("last"),
}


@pytest.mark.parametrize("name", HOSTILE_FEATURES)
def test_no_class_that_a_description_names_is_imported(prepared, tmp_path, monkeypatch, name):
    (tmp_path / "hostile_features.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as in `python -m jaxprune`
    monkeypatch.delitem(sys.modules, "hostile_features", raising=False)
    changed = HOSTILE_FEATURES[name](features(prepared))
    (prepared / "features.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    message = ""
    try:
        load(prepared)
    except Exception as error:
        message = str(error)
    assert not (tmp_path / "executed").exists(), "a module of the working folder was executed"
    assert "\n" not in message
    expected = "a key stands twice" if "twice" in name else f"names the class {HOSTILE!r}, which is none of TFDS's own"
    assert expected in message


def test_the_description_of_the_set_is_not_a_way_in_either(prepared, tmp_path, monkeypatch):
    (tmp_path / "hostile_features.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.delitem(sys.modules, "hostile_features", raising=False)
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(
        json.dumps({**info, "features": with_feature(LEAF)(features(prepared))})
    )
    with pytest.raises(ValueError, match=r"dataset_info\.json names the class 'hostile_features.Hostile'"):
        load(prepared)
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "moduleName": "hostile_features"}))
    (prepared / "metadata.json").write_text(json.dumps(LEGACY_LEAF))
    assert len(load(prepared)) == 3
    assert not (tmp_path / "executed").exists()


def test_the_list_of_features_is_that_of_tfds():
    from tensorflow_datasets.core.features import feature

    from jaxprune.data import tfds_description

    abstract = {f"{PACKAGE}.top_level_feature.TopLevelFeature"}
    ours = {name for name in feature.FeatureConnector._registered_features if name.startswith(PACKAGE)}
    assert ours - abstract == tfds_description.FEATURE_NAMES


LEGACY = {
    "type": FEATURES_DICT,
    "content": {
        "image": {
            "type": f"{PACKAGE}.image_feature.Image",
            "content": {"shape": [None, None, 3], "dtype": "uint8", "encoding_format": "png"},
            "proto_cls": "",
        },
        "label": {"type": f"{PACKAGE}.class_label_feature.ClassLabel", "content": {"num_classes": 10}},
        "id": {"type": f"{PACKAGE}.text_feature.Text", "content": {}},
    },
}


def of_the_form_until_4_4(structure):
    return {
        "type": FEATURES_DICT,
        "proto_cls": "tensorflow_datasets.FeaturesDict",
        "content": json.dumps(structure["featuresDict"]),
    }


def with_more(structure):
    box = inside("bounding_boxes.BBoxFeature", "jsonFeature", {"json": "{}"})
    objects = inside("features_dict.FeaturesDict", "featuresDict", {"features": {"box": box, "type": box}})
    with_feature({**SEQUENCE, "sequence": {"feature": objects, "length": "-1"}})(structure)
    with_feature(inside("text_feature.Text", "text", {}), "type")(structure)  # a feature's name, not a class's
    return with_feature(inside("video_feature.Video", "video", {"ffmpegExtraArgs": ["-f"]}), "video")(structure)


@pytest.mark.parametrize("change", [lambda _: LEGACY, of_the_form_until_4_4, with_more])
def test_sets_of_other_features_and_of_older_versions_are_read(prepared, change):
    expected = load(prepared)
    (prepared / "features.json").write_text(json.dumps(change(features(prepared))))
    found = load(prepared)
    np.testing.assert_array_equal(found.images, expected.images)
    assert (found.labels.tolist(), found.class_names) == (LABELS, CLASSES)


def with_split(**fields):
    def change(info):
        info["splits"][0].update(fields)
        return info

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("features.json", lambda _: "{" * 100_000, "is damaged or incomplete"),
        ("features.json", lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000, "is damaged or incomplete .*recursion"),
        ("features.json", lambda _: "[]", "is damaged or incomplete"),
        ("features.json", lambda _: "null", "is damaged or incomplete"),
        (
            "features.json",
            with_feature(inside("image_feature.Image", "image", {"dtype": "hostile_features"}), "image"),
            "its pixels are 'hostile_features'; images are read from features of the kind Image with uint8",
        ),
        (
            "features.json",
            with_feature(inside("tensor_feature.Tensor", "tensor", {}), "label"),
            "feature 'label' of .* is of the kind Tensor; labels are read from features of the kind ClassLabel",
        ),
        (
            "features.json",
            with_feature(inside("class_label_feature.ClassLabel", "classLabel", {"numClasses": str(10**12)}), "label"),
            "label.labels.txt names 10 classes, its features.json has 1000000000000",
        ),
        ("dataset_info.json", with_split(filepathTemplate="{SPLIT:>9999999999}"), "is damaged or incomplete"),
        ("dataset_info.json", with_split(filepathTemplate="{SPLIT.__class__}"), "is damaged or incomplete"),
        ("dataset_info.json", with_split(filepathTemplate="../{SPLIT}"), "names files outside of its folder"),
        ("dataset_info.json", with_split(shardLengths=[str(10**12)]), "hold 3 examples, its .* says 1000000000000"),
        ("dataset_info.json", lambda info: {**info, "name": "../cifar10"}, "is damaged or incomplete"),
        ("dataset_info.json", lambda info: {**info, "splits": 3}, "is damaged or incomplete"),
    ],
)
def test_what_a_description_claims_costs_neither_memory_nor_a_traceback(prepared, file, change, message):
    changed = change(json.loads((prepared / file).read_text()))
    (prepared / file).write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(ValueError, match=message) as error:
        load(prepared)
    assert "\n" not in str(error.value)


def test_numbered_classes_have_a_limit(prepared):
    (prepared / "label.labels.txt").unlink()
    many = inside("class_label_feature.ClassLabel", "classLabel", {"numClasses": str(10**12)})
    (prepared / "features.json").write_text(json.dumps(with_feature(many, "label")(features(prepared))))
    with pytest.raises(ValueError, match="has 1000000000000 classes, more than 100000"):
        load(prepared)


def test_an_image_of_a_record_is_opened_like_any_other_file(tmp_path):
    examples = {"test": [{"image": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "label": 1}]}
    write_tfds(tmp_path, "cifar10", examples, {"label": CLASSES})
    with pytest.raises(ValueError, match=r"image 0 of .*cifar10 cannot be read as an image \(its content is none of"):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


def test_a_label_beyond_32_bits_is_refused(tmp_path):
    write_tfds(tmp_path, "cifar10", {"test": records_of(make_images(0, 1), label=[2**32 + 3])}, {"label": CLASSES})
    with pytest.raises(ValueError, match="labels run from 4294967299 to 4294967299"):
        data.load("cifar10", split="test", data_dir=tmp_path, verify=False)


def test_what_is_not_prepared_is_named_with_its_set(tmp_path):
    root = tmp_path / "cifar10_corrupted"
    write_tfds(tmp_path, "cifar10_corrupted/fog_3", {"test": records_of(make_images(0, 1), label=[0])}, {"label": 10})
    (root / ".config").mkdir()
    (root / "snow_1").mkdir()  # not finished
    options = {"split": "test", "data_dir": tmp_path}
    with pytest.raises(FileNotFoundError) as error:
        data.load("cifar10_corrupted", corruption="frost", severity=1, **options)
    assert "there: fog_3;" in str(error.value)
    assert "tfds build cifar10_corrupted/frost_1 " in str(error.value)
    with pytest.raises(FileNotFoundError, match="not prepared to the end; .*tfds build cifar10_corrupted/snow_1 "):
        data.load("cifar10_corrupted", corruption="snow", severity=1, **options)
    with pytest.raises(ValueError, match=r"holds fog_3$"):
        data.load("cifar10_corrupted", **options)


def test_another_format_is_converted_not_downloaded_again(prepared):
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="stored as tfrecord.*") as error:
        load(prepared)
    assert f"tfds convert_format --dataset_version_dir={prepared} --out_file_format=array_record" in str(error.value)
    # What that command leaves behind: the old files with the new ones beside them.
    both = {**info, "fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
    (prepared / "dataset_info.json").write_text(json.dumps(both))
    assert load(prepared).labels.tolist() == LABELS
    (found,) = (
        each for each in installation.examine(data_dir=prepared.parent.parent) if each.subject == "prepared data sets"
    )
    assert found.found.startswith("cifar10 1.0.0 in")


def test_folders_with_brackets_in_their_names_are_no_patterns(tmp_path):
    root = tmp_path / "A[1]"
    records = records_of(make_images(0, 3), label=LABELS)
    write_tfds(root, "cifar10", {"test": copy.deepcopy(records)}, {"label": CLASSES})
    assert data.load("cifar10", split="test", data_dir=root, verify=False).labels.tolist() == LABELS
    (found,) = (each for each in installation.examine(data_dir=str(root)) if each.subject == "prepared data sets")
    assert found.found == f"cifar10 1.0.0 in {root}"
