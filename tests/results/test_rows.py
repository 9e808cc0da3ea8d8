"""Reading rows: what is refused, and that the message says where, what is allowed and what to do."""

import json

import pytest

from jaxprune import report, study
from tests.report import runs
from tests.report.runs import fake_rows


def line_with(row, **changes):
    return json.dumps({**row, **changes})


@pytest.fixture
def rows():
    return fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))


def refuse(run_folder, text, *expected):
    folder = run_folder([])
    (folder / "rows.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"rows\.jsonl") as caught:
        report.write(folder)
    message = str(caught.value)
    assert "\n" not in message
    for words in expected:
        assert words in message
    assert not (folder / "report.html").exists()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run folder .*nowhere; give the folder that `jaxprune run"):
        report.write(tmp_path / "nowhere")


def test_a_folder_without_rows_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no rows.jsonl.*run the study first"):
        report.write(tmp_path)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_rows_are_refused(run_folder, text):
    refuse(run_folder, text, "holds no rows", "run the study first")


def test_a_line_cut_short_is_named_with_its_number(run_folder, rows):
    text = f"{json.dumps(rows[0])}\n{json.dumps(rows[1])[:60]}"
    refuse(run_folder, text, "line 2 is damaged", "delete that line and run the study again")


def test_a_line_cut_within_a_character_is_damaged_too(run_folder, rows):
    folder = run_folder([])
    (folder / "rows.jsonl").write_bytes(json.dumps(rows[0]).encode() + b'\n{"study": "\xc3')
    with pytest.raises(ValueError, match="line 2 is damaged"):
        report.write(folder)


def test_a_missing_field_is_named(run_folder, rows):
    del rows[0]["ece_equal_mass_10"]
    refuse(run_folder, json.dumps(rows[0]), "line 1 lacks ece_equal_mass_10")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("accuracy", 93.5, "accuracy is 93.5; it must lie in [0, 1]"),
        ("accuracy", "0.9", "accuracy is '0.9'; it must be a number"),
        ("signed_calibration_gap", -1.5, "it must lie in [-1, 1]"),
        ("sparsity", None, "sparsity is None; it must be a number"),
        ("seed", 0.5, "seed is 0.5; it must be a whole number"),
        ("seed", True, "seed is True; it must be a number"),
        ("n", float("inf"), "n is inf; it must be a whole number of 1 or more"),
        ("method", "", "method is ''; it must be a name"),
        ("severity", 3, "severity 0 and 'clean' go together"),
        ("granularity", "blocks", "granularity is 'blocks'; it must be one of none, weights, channels"),
        ("stage", "fine-tuned", "must be one of dense, pruned, recalibrated, fine_tuned, scratch, temperature"),
        ("num_nonzero", 10**9, "num_nonzero is 1000000000, more than num_parameters"),
        ("accuracy", 0.1, "accuracy is 0.1, outside its own interval"),
        ("num_correct", 401, "num_correct is 401, more than n, 400"),
        ("finite", 1, "finite is 1; it must be true or false"),
    ],
)
def test_an_impossible_value_is_named(run_folder, rows, field, value, expected):
    refuse(run_folder, line_with(rows[0], **{field: value}), "line 1", expected, "delete that line")


def test_a_line_that_is_no_object_is_refused(run_folder):
    refuse(run_folder, "[1, 2]", "line 1 holds a list")


def test_a_repeated_measurement_is_refused(run_folder, rows):
    text = "\n".join(map(json.dumps, [*rows, rows[2]]))
    refuse(run_folder, text, f"line {len(rows) + 1} measures the same network", "as line 3", "delete one of the two")


def test_rows_of_two_configs_are_refused(run_folder, rows):
    mixed = ", ".join(sorted(("ffff", rows[0]["config_hash"])))
    text = f"{json.dumps(rows[0])}\n{line_with(rows[1], config_hash='ffff')}"
    refuse(run_folder, text, f"mixes rows of several configs (config_hash {mixed})", "one folder per config")


@pytest.mark.parametrize(("text", "words"), [("{", "study.json is damaged"), ("[]", "holds a list")])
def test_a_damaged_study_is_refused(run_folder, rows, text, words):
    folder = run_folder(rows)
    (folder / "study.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        report.write(folder)


def test_a_study_of_another_config_is_refused(run_folder, rows):
    folder = run_folder([row | {"config_hash": "0000"} for row in rows])
    with pytest.raises(ValueError, match=rf"config_hash {study.config_hash(runs.CONFIG)}.*rows.jsonl.*0000"):
        report.write(folder)
