"""Parts of a study's rows: what is damaged, missing or foreign never counts as done, and the named cure helps."""

import json
import pathlib

import pytest
from etils import epath

from jaxprune import report, study
from jaxprune.results import rows as row_file
from jaxprune.study import parts
from tests.study.study_rows import CONFIG, PLAN, SEVERITIES, part_path, rows_of, write_parts


@pytest.fixture
def out(tmp_path):
    """A run folder without a `study.json`, whose parts are there."""
    folder = epath.Path(tmp_path / "run")
    write_parts(folder)
    return folder


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def without(rows, index):
    return rows[:index] + rows[index + 1 :]


def with_changed(rows, **changes):
    return [{**rows[0], **changes}, *rows[1:]]


# Of the content of a part, whichever release wrote it.
CUT = {
    "empty": lambda content: b"",
    "without its last newline": lambda content: content[:-1],
    "in the middle of a line": lambda content: content[:-40],
    "after a line": lambda content: content[: content.index(b"\n") + 1],
    "joined lines": lambda content: content.replace(b"\n", b"", 1),
    "a blank line": lambda content: content.replace(b"\n", b"\n\n", 1),
    "a line of another kind": lambda content: content + b"[]\n",
    "zeros, as after a power cut": lambda content: bytes(len(content)),
    "a name": lambda content: content.replace(b'"num_correct"', b'"num_corr\x65bt"', 1),
    "a value out of its range": lambda content: content.replace(b'"brier_score": 0', b'"brier_score": 9', 1),
    "not text": lambda content: content.replace(b"resnet8", b"resnet\xff", 1),
}
# Parts that are whole, but not of this place; written as releases without check sums did.
OTHER_ROWS = {
    "a row too few": lambda rows: without(rows, 1),
    "a row twice": lambda rows: [*rows, rows[0]],
    "a row for another": lambda rows: [*without(rows, 1), rows[0]],
    "another seed": lambda rows: with_changed(rows, seed=1),
    "another stage": lambda rows: with_changed(rows, stage="fine_tuned"),
    "another sparsity": lambda rows: with_changed(rows, sparsity=0.25),
    "another study": lambda rows: with_changed(rows, config_hash="0123456789ab"),
    "another test set": lambda rows: rows_of("clean"),
}


def contents(folder):
    return {path: path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def refused(out, name):
    """Asserts that a part is not finished, and that a run refuses it, changes nothing and names a cure that helps."""
    path = part_path(out, name)
    before = contents(out)
    assert study.unfinished(CONFIG, out) == [path.name]
    with pytest.raises(ValueError, match=r"(?s)rows.seed0-resnet8-.*\.jsonl.*that file") as caught:
        study.run(CONFIG, out)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert contents(out) == before
    path.unlink()
    parts.check_rows(PLAN, out)
    parts.write_rows(path, rows_of(name))
    assert study.unfinished(CONFIG, out) == []
    return message


def test_all_parts_are_finished_whichever_release_wrote_them(out):
    assert study.unfinished(CONFIG, out) == []
    for name in SEVERITIES:
        part_path(out, name).write_bytes(lines_of(rows_of(name)))
    assert study.unfinished(CONFIG, out) == []
    parts.check_rows(PLAN, out)


@pytest.mark.parametrize("release", ["this", "without check sums"])
@pytest.mark.parametrize("damage", CUT)
def test_a_damaged_part_is_not_done(out, damage, release):
    path = part_path(out, "contrast")
    if release != "this":
        path.write_bytes(lines_of(rows_of("contrast")))
    content = path.read_bytes()
    path.write_bytes(CUT[damage](content))
    assert path.read_bytes() != content
    assert "delete that file, and the run measures it again" in refused(out, "contrast")


@pytest.mark.parametrize("damage", OTHER_ROWS)
def test_a_part_of_other_rows_is_not_done(out, damage):
    part_path(out, "contrast").write_bytes(lines_of(OTHER_ROWS[damage](rows_of("contrast"))))
    refused(out, "contrast")


def test_a_flipped_bit_anywhere_in_a_part_is_found(out):
    path = part_path(out, "clean")
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 7)
        path.write_bytes(changed)
        assert study.unfinished(CONFIG, out) == [path.name], f"{whole[place - 20 : place + 20]} {place}"
    path.write_bytes(whole)
    assert study.unfinished(CONFIG, out) == []


def test_a_part_is_a_table_of_json_lines_that_says_how_many(out):
    rows = [json.loads(line) for line in part_path(out, "contrast").read_text().splitlines()]
    assert [{name: value for name, value in row.items() if name != "part"} for row in rows] == rows_of("contrast")
    assert rows[-1]["part"]["rows"] == len(rows) == 4
    gathered = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert gathered == rows_of("clean") + rows_of("contrast")


def test_a_part_without_rows_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="would hold no rows"):
        parts.write_rows(epath.Path(tmp_path / "part.jsonl"), [])
    assert not (tmp_path / "part.jsonl").exists()


DAMAGED_TABLES = {
    "a flipped digit": lambda text: text.replace(b'"accuracy": 0.85', b'"accuracy": 0.84'),
    "a lost line": lambda text: text[text.index(b"\n") + 1 :],
    "a cut": lambda text: text[:-30],
    "a repeated line": lambda text: text + text[: text.index(b"\n") + 1],
    "another's line": lambda text: text + text[: text.index(b"\n") + 1].replace(b'"seed": 0', b'"seed": 7'),
    "nothing": lambda text: b"",
}


@pytest.mark.parametrize("damage", DAMAGED_TABLES)
def test_a_damaged_table_is_refused_by_the_report_and_gathered_again_by_the_run(out, damage):
    table = out / "rows.jsonl"
    whole = table.read_bytes()
    table.write_bytes(DAMAGED_TABLES[damage](whole))
    assert table.read_bytes() != whole
    with pytest.raises(ValueError, match=r"rows\.jsonl"):
        report.write(out)
    assert not (out / "report.html").exists()
    parts.gather(PLAN, out)
    assert table.read_bytes() == whole


def test_the_report_refuses_a_damaged_part_and_reads_a_table_without_parts(out, tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    (published / "rows.jsonl").write_bytes((out / "rows.jsonl").read_bytes())
    assert len(row_file.read(epath.Path(published))) == len(row_file.read(out)) == 6
    path = part_path(out, "clean")
    path.write_bytes(path.read_bytes().replace(b'"accuracy": 0.85', b'"accuracy": 0.84'))
    with pytest.raises(ValueError, match=r"clean\.jsonl is damaged: .* its check sum; delete that file"):
        row_file.read(out)


OURS = (
    "rows.jsonl",
    "report.html",
    "results.csv",
    "images.npz",
    "checkpoints/mine",
    "examples/mine",
    "figures/mine.png",
)


@pytest.mark.parametrize("name", OURS)
def test_a_folder_that_no_study_began_is_not_taken_for_one(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("the user's")
    with pytest.raises(FileExistsError, match=r"exists already, and no study.json beside it .*; choose another --out"):
        study.run(CONFIG, tmp_path)
    assert (tmp_path / name).read_text() == "the user's"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"config": 1, "config_hash": "a", "seconds": []}', "\xff", "[" * 10**5]
)
def test_a_study_json_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"study\.json is (damaged|not a study's record).*; choose another --out"
    ) as caught:
        study.run(CONFIG, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_run_folder_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the path of the run folder is ' *'; give a name"):
        study.run(CONFIG, path)
    assert not list(tmp_path.iterdir())
