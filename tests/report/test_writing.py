"""Where a report may write: in its run folder as before; elsewhere nothing but what a report wrote is replaced."""

import pathlib

import pytest
from etils import epath

from jaxprune import report
from jaxprune.report import writing
from tests.report.runs import fake_rows

FILES = {"report.html": b"<html>", "results.csv": b"run,schema_version,study\n", "figures/a.png": b"png"}
SUMS = ".jaxprune-report.sha256"


def contents(folder):
    files = (path for path in pathlib.Path(folder).rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def write(out, content=FILES, *, is_comparison=False):
    writing._write_where_nothing_is_lost(epath.Path(out), content, is_comparison=is_comparison)


def test_elsewhere_a_report_keeps_what_is_the_user_s_and_replaces_what_it_wrote(run_folder, tmp_path):
    run, out = (
        run_folder(fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))),
        tmp_path / "out",
    )
    out.mkdir()
    (out / "report.html").write_text("the user's")
    with pytest.raises(FileExistsError, match=r"report\.html exists already and is no file of a report that jaxprune"):
        report.write(run, out=out)
    assert contents(out) == {"report.html": b"the user's"}
    (out / "report.html").unlink()
    (out / "notes.txt").write_text("the user's")
    report.write(run, out=out)
    whole = contents(out)
    assert whole.keys() > {"report.html", "results.csv", "notes.txt", SUMS}
    listed = {line.split("  ")[1] for line in whole[SUMS].decode().splitlines()}
    assert listed == whole.keys() - {"notes.txt", SUMS}
    (out / "summary.csv").write_text("mine now")
    with pytest.raises(FileExistsError, match=r"summary\.csv exists already"):
        report.write(run, out=out)
    assert contents(out) == whole | {"summary.csv": b"mine now"}


def test_a_report_replaces_an_earlier_one_and_forgets_nothing(tmp_path):
    write(tmp_path)
    first = contents(tmp_path)
    write(tmp_path)
    assert contents(tmp_path) == first
    write(tmp_path, {"report.html": b"<html>other"})
    assert contents(tmp_path).keys() == first.keys()
    write(tmp_path)
    assert contents(tmp_path) == first


@pytest.mark.parametrize("name", ["report.html", "figures/a.png", "figures", SUMS])
def test_what_no_report_wrote_is_kept_and_nothing_else_written(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("the user's")
    with pytest.raises(OSError, match=f"{name}.*give another path"):
        write(tmp_path)
    assert contents(tmp_path) == {name: b"the user's"}


def test_what_the_user_changed_is_the_user_s(tmp_path):
    write(tmp_path)
    (tmp_path / "figures" / "a.png").write_bytes(b"png, with an arrow")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"a\.png exists already and is no file of a report"):
        write(tmp_path, {**FILES, "report.html": b"<html>other"})
    assert contents(tmp_path) == before


def test_a_comparison_of_an_earlier_release_is_replaced(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content + b"of a release before")
    with pytest.raises(FileExistsError, match="exists already"):
        write(tmp_path)
    write(tmp_path, is_comparison=True)
    assert {name: content for name, content in contents(tmp_path).items() if name != SUMS} == FILES


@pytest.mark.parametrize("where", ["run", "out"])
def test_an_empty_path_is_refused(run_folder, monkeypatch, where):
    run = run_folder(fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",)))
    monkeypatch.chdir(run)  # which "" would be
    before = contents(run)
    with pytest.raises(ValueError, match="is ''; give a name"):
        report.write("") if where == "run" else report.write(run, out="")
    assert contents(run) == before
