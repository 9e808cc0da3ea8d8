"""The folder of one evaluation: `evaluation.json` (how it was made), `examples/` if kept, and, last, `rows.jsonl`.

`evaluation.json` comes first, and claims the folder. Where there are rows, everything else is there.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from jaxprune import files
from jaxprune.results import examples, study_file
from jaxprune.results import rows as rows_file

ROWS_FILE, RECORD_FILE, EXAMPLES_FOLDER = rows_file.FILE, study_file.EVALUATION_FILE, examples.FOLDER
FORMAT_VERSION = 1
# What may differ between two calls of one command.
_PASSING = ("created", "rows")


def check(out) -> epath.Path:
    """Returns the path of a folder that an evaluation may be written into.

    Raises:
      ValueError: an empty path.
      FileExistsError: rows are there, or examples that no evaluation was begun for.
      OSError: nothing can be written there.
    """
    out = files.check_folder(out, what="evaluation")
    if files.is_there(out / ROWS_FILE):
        raise FileExistsError(f"{out / ROWS_FILE} exists already; give --out a new folder, or delete it")
    # The record is asked for last, because another process may be beginning with both.
    if files.is_there(out / EXAMPLES_FOLDER) and not files.is_there(out / RECORD_FILE):
        raise FileExistsError(
            f"{out / EXAMPLES_FOLDER} exists already, and no {RECORD_FILE} beside it says what it is of; give --out a "
            f"new folder, or move it away"
        )
    return out


@contextlib.contextmanager
def held(out: epath.Path) -> Iterator[None]:
    """Holds a folder for the block, so that no other evaluation writes into it.

    Raises:
      FileExistsError: another process holds it; or as `check`.
    """
    was_there = out.exists()
    with contextlib.ExitStack() as stack:
        try:
            mine = stack.enter_context(files.lock(out, "evaluation", wait=False))
        except FileNotFoundError:  # the other process has just deleted its lock, see below
            mine = False
        if not mine:
            raise FileExistsError(f"another process is evaluating into {out}; give --out another folder")
        try:
            check(out)
            files.tidy(out)
            yield
        finally:
            # Nothing stays of the lock, nor of a folder that got nothing. Should two processes hold locks of one name
            # by that, the record and the rows are still created by one of them alone.
            if not files.is_remote(out):
                shutil.rmtree(out / files.LOCKS_FOLDER, ignore_errors=True)
                if not was_there:
                    with contextlib.suppress(OSError):
                        os.rmdir(out)


@contextlib.contextmanager
def claimed(out: epath.Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Writes the record into a held folder. A block that fails before any example is kept leaves nothing.

    Raises:
      FileExistsError: the folder holds the record of another evaluation, or of none.
    """
    path, record = out / RECORD_FILE, _as_read(record)
    is_new = not files.is_there(path)
    if is_new:
        files.write(path, _text(record), exclusive=True)
    else:
        _refuse_another(path, record)
    try:
        yield
    except BaseException:
        if is_new and not files.is_there(out / EXAMPLES_FOLDER) and not files.is_there(out / ROWS_FILE):
            path.unlink(missing_ok=True)
        raise


def finish(out: epath.Path, record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows, after their number and SHA-256 into the record.

    Raises:
      FileExistsError: rows are there; they are kept.
    """
    check(out)
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    about = {"file": ROWS_FILE, "count": len(rows), "sha256": files.checksum(text)}
    files.write(out / RECORD_FILE, _text(_as_read(record) | {"rows": about}))
    files.write(out / ROWS_FILE, text, exclusive=True)


def _refuse_another(path: epath.Path, record: Mapping[str, Any]) -> None:
    cure = "give --out a new folder, or move away what is there"
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileExistsError(f"{path} exists already and cannot be read ({error}); {cure}") from None
    if not isinstance(found, dict) or found.get("format_version") != FORMAT_VERSION:
        raise FileExistsError(f"{path} exists already and is no record of this release's evaluations; {cure}")
    names = sorted(found.keys() | record.keys() - set(_PASSING))
    different = [name for name in names if name not in _PASSING and found.get(name) != record.get(name)]
    if different:
        name = different[0]
        raise FileExistsError(
            f"{path.parent} holds an unfinished evaluation of another kind ({name}: {found.get(name)} there, "
            f"{record.get(name)} here); {cure}"
        )


def _as_read(record: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({"format_version": FORMAT_VERSION, **record}))


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"
