"""The rows of a run folder: one JSON Lines file per seed, arm and corruption, and all of them in the plan's order."""

import json

from etils import epath

from jaxprune.report import schema
from jaxprune.study.configuration import ArmConfig, StudyConfig, test_set_names
from jaxprune.study.provenance import write_atomically

# A part of a study that shares no network with the others.
Unit = tuple[int, ArmConfig]


def units(config: StudyConfig) -> list[Unit]:
    """Returns every (seed, arm), in the order of the rows."""
    return [(seed, arm) for seed in config.seeds for arm in config.all_arms()]


def rows_path(out: epath.Path, unit: Unit, name: str) -> epath.Path:
    """Returns where the rows of one corruption, or of the clean images, lie."""
    seed, arm = unit
    return out / "rows" / f"seed{seed}-{arm.name}-{name}.jsonl"


def unfinished(config: StudyConfig, out) -> list[str]:
    """Returns the rows files that a run folder still lacks: none when all its shards are done."""
    return [path.name for path in _paths(config, epath.Path(out)) if not path.exists()]


def check_rows(config: StudyConfig, out: epath.Path) -> None:
    """Raises a ValueError, naming file and line, if rows that a run folder holds are cut short or of another schema."""
    for path in _paths(config, out):
        if path.exists():
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                _check_line(line, f"{path} line {number}")


def write_rows(path: epath.Path, rows: list[dict]) -> None:
    """Writes the rows of one part, each checked against the schema."""
    for row in rows:
        schema.check(row, f"the row of {path.name}", strict=True)
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def gather(config: StudyConfig, out: epath.Path) -> None:
    """Writes `rows.jsonl` from the finished parts, in the order of the plan."""
    path, text = out / "rows.jsonl", None
    # Again where another process finished a part meanwhile: whoever writes last has seen all parts.
    while text != (text := "".join(part.read_text() for part in _paths(config, out) if part.exists())):
        if not (path.exists() and path.read_text() == text):
            write_atomically(path, text)


def _paths(config: StudyConfig, out: epath.Path) -> list[epath.Path]:
    return [rows_path(out, unit, name) for unit in units(config) for name in test_set_names(config)]


def _check_line(line: str, where: str) -> None:
    cure = "delete that file, and the run measures it again"
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"{where} holds a {type(row).__name__} where a JSON object is needed")
        schema.check(row, where)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is damaged ({error}), probably cut short; {cure}") from None
    except ValueError as error:
        raise ValueError(f"{error} (or {cure})") from None
