"""Rows of every version are read; what is newer says what to do."""

import csv
import json
import pathlib
import re

import pytest

from jaxprune import report
from tests.report.runs import fake_rows

# What a study of 2026-11-22, of the last commit with version 1, wrote into its folder.
VERSION_1 = pathlib.Path(__file__).parent / "rows_version_1.jsonl"


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def results_of(folder):
    report.write(folder)
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_is_made_of_rows_of_version_1(tmp_path):
    written = lines_of(VERSION_1)
    (tmp_path / "rows.jsonl").write_bytes(VERSION_1.read_bytes())
    found = results_of(tmp_path)
    keys = ("method", "stage", "corruption")
    by_key = {tuple(row[key] for key in keys): row for row in found}
    assert len(by_key) == len(found) == len(written)
    for row in written:
        read = by_key[tuple(row[key] for key in keys)]
        assert float(read["accuracy"]) == row["accuracy"]
        assert read["arm"] == row["model"]
        assert read["granularity"] == ("none" if row["method"] == "dense" else "weights")
        assert (read["size_bytes"], read["multiply_accumulates"]) == (str(4 * row["num_parameters"]), "")
    # What is not known is said not to be; no page shows a "nan".
    text = re.sub(r"src=\"data:[^\"]*\"", "", (tmp_path / "report.html").read_text())
    assert not re.search(r">[^<]*\bnan\b", text)


def test_the_old_temperature_and_stages_of_several_steps_are_read(run_folder):
    rows = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())
    fine_tuned = [row for row in rows if row["stage"] == "fine_tuned"]
    stages = ("temperature", "fine_tuned+temperature", "fine_tuned+recalibrated")
    rows += [row | {"stage": stage} for stage in stages for row in fine_tuned]
    folder = run_folder(rows)
    found = results_of(folder)
    assert {row["stage"] for row in found} == {"dense", "pruned", "fine_tuned", *stages}
    assert "after fine-tuning, with a temperature" in (folder / "report.html").read_text()


@pytest.mark.parametrize("stage", ["fine_tuned+", "frozen+fine_tuned", "pruned+pruned", "fine_tuned+dense"])
def test_a_stage_of_unknown_or_repeated_steps_is_named(run_folder, stage):
    rows = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())
    with pytest.raises(ValueError, match=rf"line 1: stage is '{re.escape(stage)}'; it must be one of dense, pruned"):
        report.write(run_folder([rows[0] | {"stage": stage}]))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (3, "has schema_version 3, newer than the 2 that this jaxprune reads; upgrade jaxprune"),
        (99, "has schema_version 99, newer than the 2 that this jaxprune reads; upgrade jaxprune"),
        (0, "has schema_version 0; there are 1 to 2"),
        ("2", "has schema_version '2'; there are 1 to 2"),
        (True, "has schema_version True; there are 1 to 2"),
        ([2], "has schema_version [2]; there are 1 to 2"),
        (None, "has no schema_version and lacks classifier"),
    ],
)
def test_a_version_that_is_not_known_says_what_to_do(run_folder, version, expected):
    rows = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())
    folder = run_folder([rows[0], rows[1] | {"schema_version": version}])
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        report.write(folder)
    assert "line 2" in str(caught.value)
    assert "\n" not in str(caught.value)
