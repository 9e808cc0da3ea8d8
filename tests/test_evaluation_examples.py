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
