"""Everything that studies, evaluations, corrupted sets and reports write, small and without a device.

Each writer is `write(folder)`, which can be stopped and called again, and `check(folder)`, which asserts that whatever
is there is whole and true, and returns whether `write` claims to have finished.
"""

import dataclasses
import json
import types
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import numpy as np
from etils import epath

from jaxprune import data, study
from jaxprune.evaluation import Examples, corrupted_sets, examples, folder
from jaxprune.files import checksum
from jaxprune.report import writing
from jaxprune.results import images as stored_images
from jaxprune.results import row_parts, rows, study_file
from jaxprune.study import images, parts, provenance
from tests.study.study_rows import CONFIG, PLAN, SEVERITIES, part_path, rows_of

N = 6
DATASET = data.Dataset(
    images=np.arange(N * 4 * 4 * 3, dtype=np.uint8).reshape(N, 4, 4, 3),
    labels=np.arange(N, dtype=np.int32) % 3,
    class_names=("a", "b", "c"),
    name="small",
    split="test",
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)
KEPT = Examples(
    classifier="net",
    corruption="clean",
    severity=0,
    dataset="small",
    precision="float32",
    labels=DATASET.labels,
    prediction=DATASET.labels,
    **{
        name: np.linspace(0, 1, N, dtype=np.float32)
        for name in ("confidence", "negative_log_likelihood", "brier_score")
    },
)
FILES = {"report.html": b"<html>" + bytes(10_000), "figures/a.png": b"png", "tables/a.md": b"| a |\n"}
OLD_FILES = {name: b"old " + content for name, content in FILES.items()}


class Writer(NamedTuple):
    write: Callable
    check: Callable
    prepare: Callable = lambda folder: None


def write_examples(out):
    for severity in (0, 1):
        examples.save_examples(out, dataclasses.replace(KEPT, severity=severity), dtype="float32")


def check_examples(out):
    for path in sorted(out.glob("net/*.npz")):
        kept = examples.load_examples(path)
        np.testing.assert_array_equal(kept.prediction, KEPT.prediction)
        np.testing.assert_array_equal(kept.confidence, KEPT.confidence)
    return (out / "net" / "clean-1.npz").exists()


RECORD = {"command": "jaxprune evaluate net", "created": "now", "checkpoints": {"net": {"sha256": "ab"}}}


def write_evaluation(out):
    if (out / folder.ROWS_FILE).exists():
        return
    out = folder.check(out)
    with folder.held(out), folder.claimed(out, RECORD):
        write_examples(out / folder.EXAMPLES_FOLDER)
        folder.finish(out, RECORD, [{"classifier": "net", "accuracy": 0.5}, {"classifier": "net", "accuracy": 0.25}])


def check_evaluation(out):
    check_examples(out / folder.EXAMPLES_FOLDER)
    if not (out / folder.ROWS_FILE).exists():
        return False
    text = (out / folder.ROWS_FILE).read_text()
    record = json.loads((out / folder.RECORD_FILE).read_text())
    assert record["rows"] == {"file": "rows.jsonl", "count": 2, "sha256": checksum(text)}
    assert [json.loads(line)["accuracy"] for line in text.splitlines()] == [0.5, 0.25]
    assert check_examples(out / folder.EXAMPLES_FOLDER)
    return True


def write_study(out):
    out = epath.Path(out)
    (unit,) = PLAN.units
    parts.check_rows(PLAN, out)
    provenance.refuse_foreign(out)
    with mock.patch.object(provenance, "about_here", dict):
        provenance.claim(out, CONFIG, "test")
    for name in SEVERITIES:
        if not parts.is_done(PLAN, out, unit, name):
            parts.write_rows(part_path(out, name), rows_of(name))
            parts.gather(PLAN, out)
            study_file.add_seconds(out, "evaluation", 1.0)
    parts.gather(PLAN, out)


def check_study(out):
    out = epath.Path(out)
    missing = study.unfinished(CONFIG, out)
    done = []
    for name in SEVERITIES:
        path = part_path(out, name)
        assert path.exists() == (path.name not in missing)
        if path.exists():
            assert row_parts.decode(path.read_bytes(), "part") == rows_of(name)
            done += rows_of(name)
    if (out / "rows.jsonl").exists():
        gathered = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        assert gathered == done[: len(gathered)]
        if len(gathered) == len(done):
            assert rows.read(out) == done
    if (out / "study.json").exists():
        study_file.read(out)
    else:
        assert not done
    return not missing


def write_images(out):
    config = dataclasses.replace(CONFIG, evaluation=dataclasses.replace(CONFIG.evaluation, keep_examples=True))
    with (
        mock.patch.object(images.rows, "read", return_value=rows_of("clean")),
        mock.patch.object(images, "exemplars", return_value=[1, 3]),
    ):
        images.write_images(config, epath.Path(out), DATASET, None)


def check_images(out):
    found = stored_images.read(out)
    for index, image in found.exemplars.items():
        np.testing.assert_array_equal(image, DATASET.images[index])
    return sorted(found.exemplars) == [1, 3]


def _pixels(key, dataset, name, severities, options, on_test_set):
    for severity in severities:
        yield dataset.images ^ np.uint8(severity)


def write_corrupted(out):
    # The pixels are made without a device, which a forked process must not start for each of many moments.
    textures = types.SimpleNamespace(provenance="none")
    with mock.patch.object(corrupted_sets, "_pixels", _pixels), mock.patch("jax.random.key"):
        names = ("contrast", "fog")
        corrupted_sets.write(out, DATASET, seed=0, names=names, severities=(1, 5), frost_textures=textures)


def check_corrupted(out):
    arrays = {path.name: np.load(path) for path in out.glob("*.npy")}
    for name, array in arrays.items():
        assert (out / data.MANIFEST_FILE).exists()
        whole = np.tile(DATASET.labels, 2)
        expected = whole if name == data.LABELS_FILE else np.concatenate([DATASET.images ^ 1, DATASET.images ^ 5])
        np.testing.assert_array_equal(array, expected)
    return len(arrays) == 3


def write_gallery(out):
    corrupted_sets.draw_gallery(None, DATASET.images[0], out / "gallery.png", names=(), severities=())


def check_gallery(out):
    path = out / "gallery.png"
    assert not path.exists() or path.read_bytes().endswith(b"IEND\xaeB`\x82")
    return path.exists()


def write_report(out):
    writing._write_where_nothing_is_lost(epath.Path(out), FILES, is_comparison=False)


def prepare_report(out):
    writing._write_where_nothing_is_lost(epath.Path(out), OLD_FILES, is_comparison=False)


def check_report(out):
    found = {name: (out / name).read_bytes() for name in FILES}
    assert all(content in (FILES[name], OLD_FILES[name]) for name, content in found.items())
    return found == FILES


WRITERS = {
    "examples": Writer(write_examples, check_examples),
    "evaluation": Writer(write_evaluation, check_evaluation),
    "study": Writer(write_study, check_study),
    "images": Writer(write_images, check_images),
    "corrupted": Writer(write_corrupted, check_corrupted),
    "gallery": Writer(write_gallery, check_gallery),
    "report": Writer(write_report, check_report, prepare_report),
}
