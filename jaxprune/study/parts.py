"""The parts that a study consists of, each of which leaves a checkpoint or a file of rows in the run folder."""

import collections
import os
from collections.abc import Iterator

from etils import epath

from jaxprune import files
from jaxprune.results import row_parts
from jaxprune.results import rows as row_file
from jaxprune.study.configuration import StudyConfig
from jaxprune.study.planning import Plan, Unit, list_plan

CHECKPOINTS_FOLDER = "checkpoints"
# What a row of a part says of which measurement it is.
_IDENTITY = ("config_hash", "seed", "arm", "method", "sparsity", "stage", "corruption", "severity")
# The parts that this process has read and found intact, by path and what tells a change of the file.
_intact: dict[tuple, StudyConfig] = {}


def checkpoint_path(out: epath.Path, name: str) -> epath.Path:
    """Returns where the network that a training makes lies."""
    return out / CHECKPOINTS_FOLDER / name


def rows_path(out: epath.Path, unit: Unit, name: str) -> epath.Path:
    """Returns where the rows of one corruption, or of the clean images, lie."""
    return out / row_parts.FOLDER / unit.rows_name(name)


def is_done(plan: Plan, out: epath.Path, unit: Unit, name: str) -> bool:
    """Returns whether the rows of one corruption, or of the clean images, are there: all that the plan has, intact.

    Raises:
      ValueError: the file is there and damaged, or holds other rows; says what to do.
    """
    path = rows_path(out, unit, name)
    if not files.is_there(path):
        return False
    file = str(path), _stamp(path)
    if _intact.get(file) != plan.config:
        rows = row_parts.decode(path.read_bytes(), str(path))
        _refuse_other_rows(path, rows, _expected(plan, unit, name))
        _intact[file] = plan.config
    return True


def unfinished(config: StudyConfig, out) -> list[str]:
    """Returns the rows files that a run folder still lacks, damaged ones among them: none when all shards are done."""
    return unfinished_parts(list_plan(config), out)


def unfinished_parts(plan: Plan, out) -> list[str]:
    """Returns the rows files that a run folder lacks, as `unfinished` does."""
    return [rows_path(epath.Path(out), *part).name for part in _parts(plan) if not _is_intact(plan, out, part)]


def check_rows(plan: Plan, out: epath.Path) -> None:
    """Raises a ValueError, naming the file, if rows that a run folder holds are damaged or not those of the plan."""
    for part in _parts(plan):
        is_done(plan, out, *part)


def write_rows(path: epath.Path, rows: list[dict]) -> None:
    """Writes the rows of one part, each checked against the schema, with their number and check sum."""
    files.write(path, row_parts.encode(rows, path.name))


def gather(plan: Plan, out: epath.Path) -> None:
    """Writes `rows.jsonl` from the finished parts, in the order of the plan."""
    path, seen = out / row_file.FILE, None
    # Again where another process finished a part meanwhile: whoever writes last has seen all parts.
    while seen != (seen := _finished(plan, out)):
        text = b"".join(line for part in seen for line in row_parts.lines(epath.Path(part).read_bytes(), part))
        if not (path.exists() and path.read_bytes() == text):
            files.write(path, text)


def _finished(plan: Plan, out: epath.Path) -> list[str]:
    parts = (part for part in _parts(plan) if is_done(plan, out, *part))
    return [str(rows_path(out, *part)) for part in parts]


def _parts(plan: Plan) -> Iterator[tuple[Unit, str]]:
    return ((unit, name) for unit in plan.units for name in plan.test_sets)


def _is_intact(plan: Plan, out, part: tuple[Unit, str]) -> bool:
    try:
        return is_done(plan, epath.Path(out), *part)
    except ValueError:
        return False


def _stamp(path: epath.Path) -> tuple:
    """Returns what changes when a file is written again."""
    if files.is_remote(path):
        found = path.stat()
        return found.mtime, found.length
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _expected(plan: Plan, unit: Unit, name: str) -> list[tuple]:
    """Returns the identities of all rows of a part."""
    return [
        (plan.config_hash, unit.seed, unit.arm.name, network.method, network.sparsity, stage, name, severity)
        for severity in plan.test_sets[name]
        for network, stage in unit.evaluated
    ]


def _refuse_other_rows(path: epath.Path, rows: list[dict], expected: list[tuple]) -> None:
    found = collections.Counter(tuple(row[field] for field in _IDENTITY) for row in rows)
    study, others = expected[0][0], {row["config_hash"] for row in rows} - {expected[0][0]}
    if others:
        raise ValueError(
            f"{path} holds rows of another study (config_hash {', '.join(sorted(others))}; this one has {study}); "
            f"choose another --out, or move that file away"
        )
    planned = collections.Counter(expected)
    missing, beyond = planned - found, found - planned
    if not (missing or beyond):
        return
    first = next(iter(beyond or missing))
    named = ", ".join(f"{field}={value}" for field, value in zip(_IDENTITY, first, strict=True))
    what = "is there too often, or of another part" if beyond else "is missing"
    raise ValueError(
        f"{path} holds {len(rows)} rows, not the {len(expected)} of the plan: the row of {named} {what}; delete that "
        f"file, and the run measures it again"
    )
