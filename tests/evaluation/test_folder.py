"""`jaxprune evaluate --out`: one evaluation, whole, and nothing of another's replaced or mixed in."""

import hashlib
import json

import jax
import pytest

from jaxprune import checkpoints, cli, models

DIGITS = ("--dataset", "digits", "--limit", "20", "--corruptions")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net"
    checkpoints.save(path, models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4)))
    return path


def evaluate(saved, out, *options):
    return cli.main(["evaluate", str(saved), *DIGITS, "--out", str(out), *options])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_record_has_the_number_and_check_sum_of_the_rows(saved, tmp_path):
    assert evaluate(saved, tmp_path / "out", "--keep-examples") == 0
    found = contents(tmp_path / "out")
    assert set(found) == {"rows.jsonl", "evaluation.json", "examples/net/clean-0.npz"}
    about = json.loads(found["evaluation.json"])["rows"]
    sha256 = hashlib.sha256(found["rows.jsonl"]).hexdigest()
    assert about == {"file": "rows.jsonl", "count": 1, "sha256": sha256}


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_refused_and_nothing_is_written(saved, tmp_path, monkeypatch, capsys, path):
    monkeypatch.chdir(tmp_path)
    assert evaluate(saved, path) == 2
    assert "the path of the evaluation is '" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


THEIRS = {
    "examples of somebody else": "examples/net/clean-0.npz",
    "a file named like the folder": "examples",
    "a record of another program": "evaluation.json",
}


@pytest.mark.parametrize("options", [(), ("--keep-examples",)], ids=["rows", "examples"])
@pytest.mark.parametrize("name", THEIRS)
def test_what_is_of_another_is_neither_replaced_nor_mixed_in(saved, tmp_path, capsys, name, options):
    path = tmp_path / "out" / THEIRS[name]
    path.parent.mkdir(parents=True)
    path.write_text('{"theirs": true}')
    assert evaluate(saved, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "exists already" in error
    assert "give --out a new folder" in error
    assert contents(tmp_path) == {f"out/{THEIRS[name]}": b'{"theirs": true}'}


def test_an_unfinished_evaluation_is_continued_by_the_same_command_alone(saved, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate(saved, out, "--keep-examples") == 0
    whole = contents(out)
    (out / "rows.jsonl").unlink()  # the last step of those that a killed process had not taken
    left = contents(out)
    assert evaluate(saved, out, "--keep-examples", "--batch-size", "10") == 2
    assert "holds an unfinished evaluation of another kind (batch_size: 1000 there, 10 here)" in capsys.readouterr().err
    assert contents(out) == left
    assert evaluate(saved, out, "--keep-examples") == 0
    again = contents(out)
    assert again.keys() == whole.keys()
    records = [json.loads(each.pop("evaluation.json")) | {"created": None} for each in (whole, again)]
    assert again == whole
    assert records[0] == records[1]


def test_other_things_in_the_folder_stay(saved, tmp_path):
    (tmp_path / "notes.txt").write_text("the user's")
    assert evaluate(saved, tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "rows.jsonl", "evaluation.json"}
    assert (tmp_path / "notes.txt").read_text() == "the user's"


def test_a_folder_in_which_another_process_evaluates_is_refused_at_once(saved, tmp_path, capsys):
    from jaxprune import files

    with files.lock(tmp_path / "out", "evaluation", wait=False) as mine:
        assert mine
        assert evaluate("absent.pt", tmp_path / "out") == 2
    assert f"another process is evaluating into {tmp_path / 'out'}" in capsys.readouterr().err
    assert contents(tmp_path / "out").keys() <= {".locks/evaluation.lock"}


def test_a_failure_leaves_the_folder_as_it_was(saved, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        assert evaluate("absent.pt", out) == 2
        assert evaluate(saved, out, "--precision", "float8") == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert capsys.readouterr().err.count("\n") == 4
