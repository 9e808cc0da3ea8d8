"""Everything a report leaves in the run's folder, each file written under a temporary name and then renamed."""

import os

from etils import epath

from jaxprune.report import rows

FIGURES_DIR = "figures"


def write(run_dir: epath.PathLike) -> epath.Path:
    """Returns the path of `report.html`, made from `rows.jsonl` and `study.json` of the folder `run_dir`.

    Writes `results.csv` (every row, in one fixed order), `summary.csv` (network by network, mean and standard
    deviation over seeds; all values are fractions), `figures/*.png` and `report.html`. The same rows, in any order,
    give the same bytes. `study.json` is optional: without it the page says that the provenance is unknown.

    Raises `FileNotFoundError` if the folder or its rows are missing, `ValueError` if a row cannot be used, and
    `ModuleNotFoundError` if the libraries of the `study` extra are not installed.
    """
    run_dir = epath.Path(run_dir)
    records = rows.read(run_dir)
    study = rows.read_study(run_dir, config_hash=records[0]["config_hash"])
    try:
        from jaxprune.report import figures, page, tables, theme
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jaxprune"):
            raise
        raise ModuleNotFoundError(
            f"a report needs {error.name}, which is not installed; pip install 'jaxprune[study]' brings it",
            name=error.name,
        ) from error

    results = tables.results(records)
    sections = [page.Section(family, figures.plots(family)) for family in tables.families(results)]
    _write(run_dir / "results.csv", _csv(results))
    _write(run_dir / "summary.csv", _csv(tables.summary(results)))
    (run_dir / FIGURES_DIR).mkdir(parents=True, exist_ok=True)
    for section in sections:
        for plot in section.plots:
            _write(run_dir / FIGURES_DIR / f"{plot.name}.png", theme.png(plot))
    _write(run_dir / "report.html", page.render(study, sections).encode())
    return run_dir / "report.html"


def _csv(table) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _write(path: epath.Path, content: bytes) -> None:
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
