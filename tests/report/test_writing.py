"""Where a report may write: in its run folder as before; elsewhere nothing but what a report wrote is replaced."""

import pathlib

import pytest

from jaxprune import report


@pytest.fixture(scope="module")
def rows(make_rows):
    return make_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))


def contents(folder):
    files = (path for path in pathlib.Path(folder).rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_report_elsewhere_replaces_its_own_files_and_no_others(run_folder, rows, tmp_path):
    run, out = run_folder(rows), tmp_path / "elsewhere"
    report.write(run, out=out)
    first = contents(out)
    assert "report.html" in first
    report.write(run, out=out)
    assert contents(out) == first
    (out / "notes.txt").write_text("the user's")
    # Fewer rows: other bytes of the same files.
    fewer = run_folder([row for row in rows if row["stage"] != "pruned"], name="fewer")
    report.write(fewer, out=out)
    changed = contents(out)
    assert changed["report.html"] != first["report.html"]
    assert changed["notes.txt"] == b"the user's"
    # What the user has changed is the user's.
    (out / "summary.csv").write_text("mine now")
    before = contents(out)
    with pytest.raises(FileExistsError, match=r"summary\.csv exists already and is no file of a report that jaxprune"):
        report.write(run, out=out)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["report.html", "results.csv", "figures", ".jaxprune-report.sha256"])
def test_what_no_report_wrote_is_kept_and_nothing_else_written(run_folder, rows, tmp_path, name):
    run, out = run_folder(rows), tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("the user's")
    with pytest.raises(OSError, match=f"{name}.*give another path"):
        report.write(run, out=out)
    assert contents(out) == {name: b"the user's"}


def test_a_report_in_its_run_folder_is_replaced_whoever_wrote_it(run_folder, rows):
    run = run_folder(rows)
    (run / "report.html").write_text("of a release before")
    report.write(run)
    whole = contents(run)
    assert b"<html" in whole["report.html"]
    assert ".jaxprune-report.sha256" not in whole
    report.write(run, out=run / ".." / run.name)
    assert contents(run) == whole


def test_a_comparison_of_an_earlier_release_is_replaced(run_folder, rows):
    runs = [run_folder(rows, name=name) for name in ("a", "b")]
    report.write(runs)
    whole = contents(runs[0] / "comparison")
    (runs[0] / "comparison" / ".jaxprune-report.sha256").unlink()
    (runs[0] / "comparison" / "report.html").write_text("of a release before")
    report.write(runs)
    assert contents(runs[0] / "comparison") == whole


@pytest.mark.parametrize("where", ["run", "out"])
def test_an_empty_path_is_refused(run_folder, rows, monkeypatch, where):
    run = run_folder(rows)
    monkeypatch.chdir(run)  # which "" would be
    before = contents(run)
    with pytest.raises(ValueError, match="is ''; give a name"):
        report.write("") if where == "run" else report.write(run, out="")
    assert contents(run) == before
