"""The parts that a study consists of, each of which leaves a checkpoint or a file of rows in the run folder."""

import json
from typing import NamedTuple

from etils import epath

from jaxprune import evaluation
from jaxprune.report import schema
from jaxprune.study.configuration import (
    DENSE,
    STAGE_DENSE,
    STAGE_FINE_TUNED,
    STAGE_SCRATCH,
    ArmConfig,
    Network,
    StudyConfig,
    TrainConfig,
    networks,
    test_set_names,
)
from jaxprune.study.provenance import write_atomically

# A part of a study that shares no network with the others.
Unit = tuple[int, ArmConfig]


def units(config: StudyConfig) -> list[Unit]:
    """Returns every (seed, arm), in the order of the rows."""
    return [(seed, arm) for seed in config.seeds for arm in config.all_arms()]


class Training(NamedTuple):
    """One training of the plan: of a network of a unit to a stage, `dense` before anything is removed."""

    network: Network
    stage: str
    how: TrainConfig


def trainings(config: StudyConfig, unit: Unit) -> dict[str, Training]:
    """Returns the trainings of a unit by the name of the checkpoint that each makes; the dense network's is first."""
    seed, arm = unit
    planned = networks(config, arm, seed)
    found = {f"seed{seed}-{arm.name}-trained": Training(planned[0], STAGE_DENSE, arm.pretrain)}
    found |= {each.label: Training(each, STAGE_FINE_TUNED, arm.finetune) for each in planned}
    if config.scratch:
        pruned = [each for each in planned if each.method != DENSE]
        found |= {f"{each.label}-scratch": Training(each, STAGE_SCRATCH, arm.pretrain) for each in pruned}
    return found


def checkpoint_path(out: epath.Path, name: str) -> epath.Path:
    """Returns where the network that a training makes lies."""
    return out / "checkpoints" / name


def rows_path(out: epath.Path, unit: Unit, name: str) -> epath.Path:
    """Returns where the rows of one corruption, or of the clean images, lie."""
    seed, arm = unit
    return out / "rows" / f"seed{seed}-{arm.name}-{name}.jsonl"


def num_severities(config: StudyConfig, name: str) -> int:
    """Returns how many test sets belong to a corruption, or to `clean`."""
    return 1 if name == evaluation.CLEAN else len(config.evaluation.severities)


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
