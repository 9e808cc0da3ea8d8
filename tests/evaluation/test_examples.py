"""The kept numbers of every example: every metric can be computed from the files later."""

import warnings

import jax
import numpy as np
import pytest

from jaxprune import data, evaluation, metrics, models

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", split="test", limit=40)


@pytest.fixture(scope="module")
def nets():
    options = {"num_classes": 10, "stage_widths": (4, 4, 4), "mean": (0.3,) * 3, "std": (0.3,) * 3}
    return {f"net{seed}": models.create("resnet8", key=jax.random.key(seed), **options) for seed in (0, 1)}


def keep(nets, digits, folder, **options):
    how = evaluation.KeepExamples(folder, **options)
    return evaluation.evaluate(nets, digits, key=KEY, corruptions=("contrast",), severities=(3,), keep_examples=how)


def test_the_rows_metrics_follow_from_the_files(nets, digits, tmp_path):
    rows = keep(nets, digits, tmp_path, probs=True)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {f"{net}/{name}.npz" for net in nets for name in ("clean-0", "contrast-3")}
    for row in rows:
        path = evaluation.examples_path(tmp_path, row["classifier"], row["corruption"], row["severity"])
        examples = evaluation.load_examples(path)
        assert (examples.classifier, examples.corruption, examples.severity) == (
            row["classifier"],
            row["corruption"],
            row["severity"],
        )
        assert (examples.dataset, examples.precision) == (digits.name, "float32")
        np.testing.assert_array_equal(examples.labels, digits.labels)
        summary = metrics.summarize_examples(examples.statistics)
        report = metrics.calibration_report(examples.probs, examples.labels, num_bins=(10, 15))
        assert (examples.prediction == examples.labels).sum() == row["num_correct"]
        for name, value in summary.items():
            np.testing.assert_allclose(value, row[name], atol=1e-6, err_msg=name)
            np.testing.assert_allclose(report[name], row[name], atol=1e-5, err_msg=name)
        own = examples.probs[np.arange(40), examples.labels]
        np.testing.assert_allclose(examples.true_class_probability, own, rtol=1e-4)


def test_float16_is_stated_in_the_file_and_close(nets, digits, tmp_path):
    keep(nets, digits, tmp_path / "32")
    keep(nets, digits, tmp_path / "16", dtype="float16")
    paths = [evaluation.examples_path(tmp_path / kind, "net0", "contrast", 3) for kind in ("32", "16")]
    full, half = (np.load(path, allow_pickle=False) for path in paths)
    assert (str(full["dtype"]), str(half["dtype"])) == ("float32", "float16")
    assert half["confidence"].dtype == np.float16
    assert "probs" not in half.files
    np.testing.assert_allclose(half["confidence"], full["confidence"], rtol=5e-4)
    np.testing.assert_array_equal(half["prediction"], full["prediction"])
    loaded = evaluation.load_examples(paths[1])
    assert loaded.probs is None
    assert loaded.statistics.confidence.dtype == np.float32


def test_the_same_evaluation_writes_the_same_bytes(nets, digits, tmp_path):
    for kind in ("a", "b"):
        keep(nets, digits, tmp_path / kind)
    relative = "net1/contrast-3.npz"
    assert (tmp_path / "a" / relative).read_bytes() == (tmp_path / "b" / relative).read_bytes()


def test_a_classifier_that_returns_nan_is_kept_as_such(nets, digits, tmp_path):
    broken = nets["net0"].replace(params=jax.tree.map(lambda leaf: leaf * np.nan, nets["net0"].params))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        evaluation.evaluate({"broken": broken}, digits, corruptions=(), keep_examples=tmp_path, non_finite="mark")
    examples = evaluation.load_examples(evaluation.examples_path(tmp_path, "broken", "clean", 0))
    assert np.isnan(examples.confidence).all()
    assert not np.asarray(examples.statistics.correct).any()


def test_a_damaged_file_or_another_format_is_refused(nets, digits, tmp_path):
    keep(nets, digits, tmp_path)
    path = evaluation.examples_path(tmp_path, "net0", "clean", 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="clean-0.npz is damaged"):
        evaluation.load_examples(path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="other.npz holds a; this release reads examples of format 1"):
        evaluation.load_examples(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match="pickled.npz is damaged .*allow_pickle"):
        evaluation.load_examples(tmp_path / "pickled.npz")
    with pytest.raises(FileNotFoundError, match="no examples at"):
        evaluation.load_examples(tmp_path / "none.npz")


def test_names_that_are_no_file_names_and_unknown_types_are_refused(nets, digits, tmp_path):
    for name in ("../net", "a/b", "", ".hidden"):
        with pytest.raises(ValueError, match="cannot be kept: the name becomes that of a folder"):
            keep({name: nets["net0"]}, digits, tmp_path)
    with pytest.raises(ValueError, match="examples cannot be kept as 'int8'; known: float32, float16"):
        evaluation.KeepExamples(tmp_path, dtype="int8")


def test_no_flipped_bit_passes(nets, digits, tmp_path):
    keep(nets, digits, tmp_path, probs=True)
    path = evaluation.examples_path(tmp_path, "net0", "clean", 0)
    whole, kept = path.read_bytes(), evaluation.load_examples(path)
    for place in range(0, len(whole), 17):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            found = evaluation.load_examples(path)
        except ValueError:
            continue
        for name, value in vars(kept).items():
            np.testing.assert_array_equal(getattr(found, name), value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": np.zeros(39, np.float32)}, r"confidence is float32 \[39\], not float32 of \[40\] examples"),
        ({"labels": np.zeros(40, np.int64)}, r"labels is int64 \[40\], not int32"),
        ({"probs": np.zeros(40, np.float32)}, r"probs is float32 \[40\]"),
        ({"dtype": "float64"}, "its type is float64"),
        ({"dataset": np.zeros(3)}, r"dataset is float64 \[3\]"),
        ({"prediction": np.zeros((40, 1), np.int32)}, r"prediction is int32 \[40, 1\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(nets, digits, tmp_path, change, message):
    keep(nets, digits, tmp_path)
    path = evaluation.examples_path(tmp_path, "net0", "clean", 0)
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **content | change)
    with pytest.raises(ValueError, match=rf"clean-0\.npz is damaged \({message}.*; delete it and evaluate again"):
        evaluation.load_examples(path)


def test_a_file_that_holds_no_examples_is_not_replaced(nets, digits, tmp_path):
    path = evaluation.examples_path(tmp_path, "net1", "contrast", 3)
    path.parent.mkdir()
    np.savez(path, mine=np.zeros(3))
    before = path.read_bytes()
    with pytest.raises(
        FileExistsError, match=r"contrast-3\.npz exists already and is no file of examples that jaxprune"
    ):
        keep(nets, digits, tmp_path)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert path.read_bytes() == before
    path.unlink()
    first = keep(nets, digits, tmp_path)
    assert keep(nets, digits, tmp_path) == first  # its own files it does replace


def test_an_empty_folder_is_refused(nets, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the path of the examples is ''; give a name"):
        evaluation.evaluate(nets, digits, corruptions=(), keep_examples="")
    assert not list(tmp_path.iterdir())
