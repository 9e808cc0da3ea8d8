"""Everything a report leaves in a folder: each file whole or not at all, and none of somebody else's replaced."""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from jaxprune import files
from jaxprune.results import rows, study_file

FIGURES_DIR, TABLES_DIR, COMPARISON_DIR = "figures", "tables", "comparison"
# Lists a report's files outside of run folders, as `sha256sum` writes and checks it.
SUMS_FILE = ".jaxprune-report.sha256"
_LOCK = "report"
_ALWAYS_WRITTEN = ("report.html", "results.csv", "summary.csv", "verdicts.csv")
# How the first file of a comparison begins; those that were written without check sums are recognised by it.
_COMPARED_ROWS = "results.csv", b"run,schema_version,"


def write(runs: epath.PathLike | Sequence[epath.PathLike], *, out: epath.PathLike | None = None) -> epath.Path:
    """Returns the path of `report.html`, made from the rows of one run folder, or of several side by side.

    A run folder holds `rows.jsonl` and, where they are known, `study.json`, the outputs per image (see
    `results.outputs`) and `images.npz` (see `results.images`); the page says what is missing. Written into `out`, by
    default the run's own folder, or for several runs the folder `comparison` in the first one:

    - `report.html`, which needs nothing but itself;
    - `results.csv` (every row, in one fixed order), `summary.csv` (network by network, mean and standard deviation over
      seeds; all values are fractions), `verdicts.csv` (every comparison of the verdicts), and, if pyarrow is installed,
      `results.parquet`;
    - `figures/` as PNG and PDF, `tables/` as LaTeX and Markdown;
    - outside of the runs' own folders `.jaxprune-report.sha256`, the check sums of all these. There, files that it does
      not list, or that were changed, are not replaced.

    The same rows, in any order, give the same bytes.

    Raises `FileNotFoundError` if a folder or its rows are missing, `FileExistsError` if a file would be replaced that
    no report wrote, `ValueError` if a path is empty, a row or an output cannot be used or no run is given, and
    `ModuleNotFoundError` if the libraries of the `study` extra are not installed.
    """
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    folders = [files.named(run, what="run folder") for run in given]
    if not folders:
        raise ValueError("no run folder was given; give one, or several to be put side by side")
    if len(set(map(str, folders))) < len(folders):
        raise ValueError(f"a run folder is given twice: {', '.join(map(str, folders))}; give each once")
    is_comparison = out is None and len(folders) > 1
    if out is None:
        out = folders[0] / COMPARISON_DIR if is_comparison else folders[0]
    out = files.named(out, what="report")
    found = []
    for folder in folders:
        records = rows.read(folder)
        found.append((folder, records, study_file.read_beside_rows(folder, config_hash=records[0]["config_hash"])))
    try:
        from jaxprune.report import drawing, page
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jaxprune"):
            raise
        raise ModuleNotFoundError(
            f"a report needs {error.name}, which is not installed; pip install 'jaxprune[study]' brings it",
            name=error.name,
        ) from error

    files.check_folder(out, what="report")
    is_elsewhere = _place(out) not in map(_place, folders)
    if is_elsewhere:
        # Before minutes of drawing; the figures' names are not known yet. No lock is left in a folder of the user's.
        is_of_a_report = files.is_there(out / SUMS_FILE)
        with files.lock(out, _LOCK, wait=True) if is_of_a_report else contextlib.nullcontext():
            _refuse_foreign(out, _ALWAYS_WRITTEN, is_comparison=is_comparison)
    content = dict(_rendered(page.gather([page.Run(*run) for run in found]), page, drawing))
    if is_elsewhere:
        _write_where_nothing_is_lost(out, content, is_comparison=is_comparison)
    else:
        _write_all(out, content)
    return out / "report.html"


def _rendered(content, page, drawing) -> Iterator[tuple[str, bytes]]:
    """Yields the path of every file in the report's folder, and what goes into it."""
    for name, table in content.data.items():
        yield f"{name}.csv", table.to_csv(index=False, lineterminator="\n").encode()
    if importlib.util.find_spec("pyarrow"):
        buffer = io.BytesIO()
        content.data["results"].to_parquet(buffer, index=False)
        yield "results.parquet", buffer.getvalue()
    for plot in [*content.shared_plots, *(plot for section in content.sections for plot in section.plots)]:
        for kind, image in drawing.files(plot).items():
            yield f"{FIGURES_DIR}/{plot.name}.{kind}", image
    for name, text in _tables(content):
        yield f"{TABLES_DIR}/{name}", text.encode()
    yield "report.html", page.render(content).encode()


def _tables(content) -> Iterator[tuple[str, str]]:
    """Yields the name and text of each table, as Markdown and LaTeX."""
    from jaxprune.report import formatting, tables

    groups = [("all", content.shared_tables), *((each.prefix, each.tables) for each in content.sections)]
    for prefix, group in groups:
        for table in group:
            stem = f"{prefix}-{formatting.file_stem(table.title.lower())}"
            yield f"{stem}.md", tables.markdown(table)
            yield f"{stem}.tex", tables.latex(table)


def _place(path: epath.Path) -> str:
    return str(path) if files.is_remote(path) else os.path.realpath(path)


def _write_all(out: epath.Path, content: Mapping[str, bytes]) -> None:
    for name, each in content.items():
        files.write(out / name, each)


def _write_where_nothing_is_lost(out: epath.Path, content: Mapping[str, bytes], *, is_comparison: bool) -> None:
    """Writes the files and their check sums, unless one is there that the check sums there do not know."""
    with files.lock(out, _LOCK, wait=True):
        known = _refuse_foreign(out, content, is_comparison=is_comparison)
        new = {name: {files.checksum(each)} for name, each in content.items()}
        both = {name: known.get(name, set()) | new.get(name, set()) for name in {**known, **new}}
        files.write(out / SUMS_FILE, _sums_text(both))
        _write_all(out, content)
        others = {name: sums for name, sums in known.items() if name not in new and (out / name).is_file()}
        files.write(out / SUMS_FILE, _sums_text(others | new))


def _refuse_foreign(out: epath.Path, names: Iterable[str], *, is_comparison: bool) -> dict[str, set[str]]:
    """Returns the check sums of a report's files, by name, after making sure that no other files have these names."""
    # Before the list is read, in which a new report is entered before it is written.
    there = [name for name in names if files.is_there(out / name)]
    present = {name: files.checksum_of(out / name) for name in there if (out / name).is_file()}
    known = _read_sums(out / SUMS_FILE)
    rows_file, begin = _COMPARED_ROWS
    if not known and is_comparison and rows_file in present and (out / rows_file).read_bytes().startswith(begin):
        known = {name: {checksum} for name, checksum in present.items()}
    for name in names:
        # Known are the old content and, where a report was interrupted, the new.
        is_ours = name not in there or (name in present and present[name] in known.get(name, ()))
        files.check_output(out / name, what="file of a report", is_ours=lambda path, is_ours=is_ours: is_ours)
    return known


def _sums_text(sums: Mapping[str, set[str]]) -> str:
    return "".join(f"{each}  {name}\n" for name in sorted(sums) for each in sorted(sums[name]))


def _read_sums(path: epath.Path) -> dict[str, set[str]]:
    """Returns the check sums by file name; none where there is no list of them."""
    sums = {}
    if not path.exists():
        return sums
    try:
        for line in path.read_text().splitlines():
            checksum, name = line.split("  ", 1)
            sums.setdefault(name, set()).add(checksum)
    except ValueError:
        raise FileExistsError(
            f"{path} exists already and is no list of a report's check sums; give another path, or move it away"
        ) from None
    return sums
