"""Everything a report leaves in a folder, each file written under a temporary name and then renamed."""

import importlib.util
import io
import os
from collections.abc import Iterator, Sequence

from etils import epath

from jaxprune.report import rows

FIGURES_DIR, TABLES_DIR, COMPARISON_DIR = "figures", "tables", "comparison"


def write(runs: epath.PathLike | Sequence[epath.PathLike], *, out: epath.PathLike | None = None) -> epath.Path:
    """Returns the path of `report.html`, made from the rows of one run folder, or of several side by side.

    A run folder holds `rows.jsonl` and, where they are known, `study.json`, the outputs per image (see `outputs`) and
    `images.npz` (see `pictures`); the page says what is missing. Written into `out`, by default the run's own folder,
    or for several runs the folder `comparison` in the first one:

    - `report.html`, which needs nothing but itself;
    - `results.csv` (every row, in one fixed order), `summary.csv` (network by network, mean and standard deviation over
      seeds; all values are fractions), `verdicts.csv` (every comparison of the verdicts), and, if pyarrow is installed,
      `results.parquet`;
    - `figures/` as PNG and PDF, `tables/` as LaTeX and Markdown.

    The same rows, in any order, give the same bytes.

    Raises `FileNotFoundError` if a folder or its rows are missing, `ValueError` if a row or an output cannot be used or
    no run is given, and `ModuleNotFoundError` if the libraries of the `study` extra are not installed.
    """
    folders = [epath.Path(runs)] if isinstance(runs, str | os.PathLike) else [epath.Path(run) for run in runs]
    if not folders:
        raise ValueError("no run folder was given; give one, or several to be put side by side")
    if len(set(map(str, folders))) < len(folders):
        raise ValueError(f"a run folder is given twice: {', '.join(map(str, folders))}; give each once")
    found = []
    for folder in folders:
        records = rows.read(folder)
        found.append((folder, records, rows.read_study(folder, config_hash=records[0]["config_hash"])))
    try:
        from jaxprune.report import drawing, page
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jaxprune"):
            raise
        raise ModuleNotFoundError(
            f"a report needs {error.name}, which is not installed; pip install 'jaxprune[study]' brings it",
            name=error.name,
        ) from error

    out = epath.Path(out) if out is not None else folders[0] if len(folders) == 1 else folders[0] / COMPARISON_DIR
    content = page.gather([page.Run(*run) for run in found])
    for name, table in content.data.items():
        _write(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n").encode())
    if importlib.util.find_spec("pyarrow"):
        buffer = io.BytesIO()
        content.data["results"].to_parquet(buffer, index=False)
        _write(out / "results.parquet", buffer.getvalue())
    plots = [*content.shared_plots, *(plot for section in content.sections for plot in section.plots)]
    for plot in plots:
        for kind, image in drawing.files(plot).items():
            _write(out / FIGURES_DIR / f"{plot.name}.{kind}", image)
    for name, text in _tables(content):
        _write(out / TABLES_DIR / name, text.encode())
    _write(out / "report.html", page.render(content).encode())
    return out / "report.html"


def _tables(content) -> Iterator[tuple[str, str]]:
    """Yields the name and text of each table, as Markdown and LaTeX."""
    from jaxprune.report import formatting, tables

    groups = [("all", content.shared_tables), *((each.prefix, each.tables) for each in content.sections)]
    for prefix, group in groups:
        for table in group:
            stem = f"{prefix}-{formatting.file_stem(table.title.lower())}"
            yield f"{stem}.md", tables.markdown(table)
            yield f"{stem}.tex", tables.latex(table)


def _write(path: epath.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
