"""Reading what a study leaves behind: `rows.jsonl` (one measured network x test set per line) and `study.json`."""

import json
import numbers
from collections.abc import Mapping
from typing import Any

from etils import epath

SCHEMA_VERSION = 2

TEXTS = ("study", "config_hash", "dataset", "arm", "model", "method", "granularity", "stage", "corruption")
COUNTS = (
    *("seed", "severity", "n", "num_parameters", "num_nonzero", "size_bytes"),
    *("multiply_accumulates", "multiply_accumulates_nonzero"),
)
FRACTIONS = ("sparsity", "sparsity_achieved")
# What names one measurement; two rows that agree in all of it would be counted twice.
IDENTITY = ("dataset", "arm", "method", "sparsity", "stage", "seed", "corruption", "severity")
# May be null where a network has diverged.
METRICS = (
    "negative_log_likelihood",
    "brier_score",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "mean_confidence",
    "signed_calibration_gap",
    "ece_equal_width_10",
    "ece_equal_width_15",
    "ece_equal_mass_10",
    "ece_equal_mass_15",
)
# The range of what is not a fraction in [0, 1].
RANGES = {
    "negative_log_likelihood": (0.0, float("inf")),
    "brier_score": (0.0, 2.0),
    "signed_calibration_gap": (-1.0, 1.0),
}

Row = dict[str, Any]


def read(run_dir: epath.Path) -> list[Row]:
    """Returns the rows of `run_dir/rows.jsonl` in the order of the file, each checked against the schema.

    Raises `FileNotFoundError` if the folder or the file is missing; `ValueError`, naming the line, if a line is damaged
    or repeated, a field is missing or impossible, the schema is of another version, or two configs are mixed.
    """
    if not run_dir.is_dir():
        raise FileNotFoundError(f"no run folder {run_dir}; give the folder that `jaxprune run ... --out` wrote")
    path = run_dir / "rows.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{run_dir} has no rows.jsonl, so nothing was measured there; run the study first")
    rows, first_line = [], {}
    for line_number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {line_number}"
        row = _parse(line, where)
        _check(row, where)
        identity = tuple(row[field] for field in IDENTITY)
        if identity in first_line:
            raise ValueError(
                f"{where} measures the same network on the same test set as line {first_line[identity]} "
                f"({', '.join(f'{field}={row[field]}' for field in IDENTITY)}); delete one of the two lines"
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
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); run the study again, finished rows are kept") from None
    if not isinstance(study, Mapping):
        raise ValueError(f"{path} holds a {type(study).__name__} where a JSON object is needed; run the study again")
    if study.get("config_hash", config_hash) != config_hash:
        raise ValueError(
            f"{path} has config_hash {study['config_hash']} but rows.jsonl beside it has {config_hash}, so it does not "
            "describe these rows; restore the study.json that belongs to them, or delete it"
        )
    return dict(study)


def _parse(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{where} is damaged ({error}), probably cut short when the run was stopped; "
            "delete that line and run the study again, the other rows are kept"
        ) from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds a {type(row).__name__} where a JSON object is needed; delete that line")
    return row


def _check(row: Row, where: str) -> None:
    version = row.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{where} has schema_version {version!r}; this jaxprune reads version {SCHEMA_VERSION}; "
            "use the jaxprune that wrote it, or run the study again in a new folder"
        )
    fields = (*TEXTS, *COUNTS, *FRACTIONS, *METRICS)
    missing = [field for field in fields if field not in row]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; run the study again in a new folder")
    problem = next(filter(None, (_problem(field, row[field]) for field in fields)), None)
    if problem is None and (row["corruption"] == "clean") != (row["severity"] == 0):
        problem = (
            f"corruption {row['corruption']!r} with severity {row['severity']}; severity 0 and 'clean' go together"
        )
    if problem:
        raise ValueError(f"{where}: {problem}; delete that line and run the study again")


def _problem(field: str, value: Any) -> str | None:
    if field in TEXTS:
        return None if isinstance(value, str) and value else f"{field} is {value!r}; it must be a name"
    if field in METRICS and (value is None or value != value):
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"{field} is {value!r}; it must be a number"
    if field in COUNTS:
        whole = isinstance(value, int) and value >= 0
        return None if whole else f"{field} is {value!r}; it must be a whole number of 0 or more"
    low, high = RANGES.get(field, (0.0, 1.0))
    return None if low <= value <= high else f"{field} is {value!r}; it must lie in [{low:g}, {high:g}]"
