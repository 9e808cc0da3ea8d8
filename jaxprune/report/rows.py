"""Reading what a study leaves behind: `rows.jsonl` (one measured network x test set per line) and `study.json`."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from jaxprune.report import row_parts, schema

Row = dict[str, Any]


def read(run_dir: epath.Path) -> list[Row]:
    """Returns the rows of `run_dir/rows.jsonl` in the order of the file, each checked against the schema.

    Where the parts that the file was made of are there too, in `rows/`, it must hold their rows and no others.

    Raises `FileNotFoundError` if the folder or the file is missing; `ValueError`, naming the line, if a line is damaged
    or repeated, a field is missing or impossible, the schema is of another version, two configs are mixed, or the parts
    say otherwise.
    """
    if not run_dir.is_dir():
        raise FileNotFoundError(f"no run folder {run_dir}; give the folder that `jaxprune run ... --out` wrote")
    path = run_dir / "rows.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{run_dir} has no rows.jsonl, so nothing was measured there; run the study first")
    rows, first_line = [], {}
    lines = list(enumerate(path.read_bytes().split(b"\n"), start=1))
    _compare_with_parts(run_dir, path, lines)
    for line_number, line in lines:
        if not line.strip():
            continue
        where = f"{path} line {line_number}"
        row = _parse(line, where)
        schema.check(row, where)
        identity = tuple(row[field] for field in schema.IDENTITY)
        if identity in first_line:
            raise ValueError(
                f"{where} measures the same network on the same test set as line {first_line[identity]} "
                f"({', '.join(f'{field}={row[field]}' for field in schema.IDENTITY)}); delete one of the two lines"
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


def read_study(run_dir: epath.Path, *, config_hash: str) -> dict[str, Any]:
    """Returns `run_dir/study.json`, or an empty dict if there is none.

    Raises `ValueError` if it is damaged, or describes another config than that of the rows, `config_hash`.
    """
    path = run_dir / "study.json"
    if not path.exists():
        return {}
    try:
        study = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the study again, finished rows are kept") from None
    if not isinstance(study, Mapping):
        raise ValueError(f"{path} holds a {type(study).__name__} where a JSON object is needed; run the study again")
    if study.get("config_hash", config_hash) != config_hash:
        raise ValueError(
            f"{path} has config_hash {study['config_hash']} but rows.jsonl beside it has {config_hash}, so it does not "
            "describe these rows; restore the study.json that belongs to them, or delete it"
        )
    return dict(study)


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
