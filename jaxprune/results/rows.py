"""`rows.jsonl` of a run folder: one measured network on one test set per line."""

import json
from typing import Any

from etils import epath

from jaxprune import names
from jaxprune.results import row_parts, schema, versions

Row = dict[str, Any]
FILE = "rows.jsonl"


def read(run_dir: epath.Path) -> list[Row]:
    """Returns the rows of `run_dir/rows.jsonl` in the order of the file, each checked against the schema.

    Rows of earlier versions are returned as of the present one, see `versions`.

    Where the parts that the file was made of are there too, in `rows/`, it must hold their rows and no others.

    Raises `FileNotFoundError` if the folder or the file is missing; `ValueError`, naming the line, if a line is damaged
    or repeated, a field is missing or impossible, the schema is of a later version, two configs are mixed, or the parts
    say otherwise.
    """
    if not run_dir.is_dir():
        raise FileNotFoundError(f"no run folder {run_dir}; give the folder that `jaxprune run ... --out` wrote")
    path = run_dir / FILE
    if not path.exists():
        raise FileNotFoundError(f"{run_dir} has no rows.jsonl, so nothing was measured there; run the study first")
    rows, first_line = [], {}
    lines = list(enumerate(path.read_bytes().split(b"\n"), start=1))
    _compare_with_parts(run_dir, path, lines)
    for line_number, line in lines:
        if not line.strip():
            continue
        where = f"{path} line {line_number}"
        row = versions.upgraded(_parse(line, where), where)
        schema.check(row, where)
        identity = tuple(row[field] for field in names.IDENTITY)
        if identity in first_line:
            raise ValueError(
                f"{where} measures the same network on the same test set as line {first_line[identity]} "
                f"({', '.join(f'{field}={row[field]}' for field in names.IDENTITY)}); delete one of the two lines"
            )
        first_line[identity] = line_number
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no rows, so nothing was measured yet; run the study first")
    hashes = sorted({row["config_hash"] for row in rows})
    if len(hashes) > 1:
        raise ValueError(
            f"{path} mixes rows of several configs (config_hash {', '.join(hashes)}), which are not comparable; "
            "keep one folder per config"
        )
    return rows


def _compare_with_parts(run_dir: epath.Path, path: epath.Path, lines: list[tuple[int, bytes]]) -> None:
    folder = run_dir / row_parts.FOLDER
    parts = sorted(file for file in folder.iterdir() if file.suffix == ".jsonl") if folder.exists() else []
    if not parts:
        return
    cure = "rows.jsonl is made of them: run the study again, which gathers them; finished parts are kept"
    known = {line.strip(): part for part in parts for line in row_parts.lines(part.read_bytes(), str(part))}
    for number, line in lines:
        if line.strip() and line.strip() not in known:
            raise ValueError(f"{path} line {number} is in none of the parts in {folder}; {cure}")
    missing = known.keys() - {line.strip() for _, line in lines}
    if missing:
        part = min(known[line] for line in missing)
        raise ValueError(f"{path} lacks {len(missing)} rows of the parts in {folder} (first: {part.name}); {cure}")


def _parse(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is damaged ({error}), probably cut short when the run was stopped; "
            "delete that line and run the study again, the other rows are kept"
        ) from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds a {type(row).__name__} where a JSON object is needed; delete that line")
    return row
