"""`study.json` of a run folder: what a study says of itself; after one evaluation `evaluation.json` does.

`study.json` holds `study` (its name), `config`, `config_hash`, `precision`, `command`, `versions`, `device`, `created`,
`seconds` by kind of work, `methods` (the words of each method that was run: `title`, `granularity`) and, where there
are some, `frost_textures` and `checkpoint_sha256`. Older ones lack some of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from jaxprune import files

FILE, EVALUATION_FILE = "study.json", "evaluation.json"
LOCK = "study"


def write(run_dir: epath.Path, content: Mapping[str, Any], *, exclusive: bool = False) -> None:
    """Writes `study.json`, whole or not at all; with `exclusive`, raises FileExistsError if there is one."""
    files.write(run_dir / FILE, json.dumps(content, indent=2) + "\n", exclusive=exclusive)


def read(run_dir: epath.Path) -> dict[str, Any]:
    """Returns the content of `study.json`.

    Raises `FileNotFoundError` if there is none, `ValueError` if it is damaged, or no record of a study.
    """
    content = _read_object(run_dir / FILE)
    if not {"config", "config_hash"} <= content.keys() or not _are_seconds(content.get("seconds", {})):
        raise ValueError(f"{run_dir / FILE} is not a study's record; choose another --out, or delete {run_dir}")
    return content


def read_beside_rows(run_dir: epath.Path, *, config_hash: str) -> dict[str, Any]:
    """Returns what a run folder says of its rows: `study.json`, else `evaluation.json`, else an empty dict.

    Raises `ValueError` if it is damaged, or describes another config than that of the rows, `config_hash`.
    """
    path = next((run_dir / name for name in (FILE, EVALUATION_FILE) if (run_dir / name).exists()), None)
    if path is None:
        return {}
    content = _read_object(path)
    if content.get("config_hash", config_hash) != config_hash:
        raise ValueError(
            f"{path} has config_hash {content['config_hash']} but rows.jsonl beside it has {config_hash}, so it does "
            f"not describe these rows; restore the {path.name} that belongs to them, or delete it"
        )
    return content


def add_seconds(run_dir: epath.Path, part: str, seconds: float) -> None:
    """Adds the time that a part took to `study.json`."""
    with files.lock(run_dir, LOCK, wait=True):
        content = read(run_dir)
        total = content.setdefault("seconds", {})
        total[part] = round(total.get(part, 0.0) + seconds, 1)
        write(run_dir, content)


def _read_object(path: epath.Path) -> dict[str, Any]:
    cure = f"restore it; choose another --out, or delete {path.parent}"
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a study's record, it holds a {type(content).__name__}; {cure}")
    return content


def _are_seconds(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, int | float) for value in found.values())
