"""Folders that hold arrays and a JSON description: checkpoints of networks, and states of a training.

A folder has `description/metadata`, the JSON, and one item of arrays that orbax writes. It is made under another name
and gets its own when it is complete and on the disk (`jaxprune.files`). The description carries a check sum of itself
and lists the files of the folder, so that a file of somebody else's is found before the folder is replaced or deleted.

Orbax by itself takes a checkpoint for the common work of all processes and waits for them. Here each process reads
when it likes, and process 0 saves: the others must not, orbax 0.11 then leaves folders without a manifest.
"""

import concurrent.futures
import contextlib
import errno
import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree

from jaxprune import files

_DESCRIPTION = "description/metadata"
_CHECKSUM, _FILES = "checksum", "files"
# Of every version of orbax that could write here before the description listed the files.
_LAYOUT = (
    r"((description|{item})/)?(_CHECKPOINT_METADATA|commit_success\.txt)|description/metadata"
    r"|{item}/(_METADATA|_sharding|array_metadatas/process_\d+|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d/[0-9a-f]+))"
)
_UNFINISHED = re.compile(r"\.orbax-checkpoint-tmp(-\d+)?|\.__lock")  # how orbax names what it is at
_ESSENTIAL_FILES = ("_METADATA", "manifest.ocdbt")
_LONGEST_CAUSE = 300  # characters of another library's message that are worth showing
_SETTLED_S, _LONGEST_WAIT_S = 0.3, 5.0


class DamagedError(ValueError):
    """A folder or its description is not as it was written; says what is wrong, in a few words."""


def write(path, item: str, arrays: PyTree, description: dict, *, replace: bool) -> None:
    """Writes a folder, whole or not at all.

    Args:
      path: local or `gs://`; `files.check_output` has said that it may be written.
      item: the name of the arrays' folder.
      arrays: host arrays.
      description: JSON values.
      replace: whether a folder that is there gives way.

    Raises:
      FileExistsError: a folder is there and may not be replaced.
      OSError: the folder could not be written, as on a full disk; what was there before still is.
    """
    path = epath.Path(path).absolute()
    if files.is_remote(path):
        # The description first: what a killed process leaves is recognised by it, and lacks arrays.
        files.write(path / _DESCRIPTION, json.dumps(seal(description)))
        _write_arrays(path, path, item, arrays)
        return
    with files.writing_folder(path, replace=replace) as new:
        _write_arrays(new, path, item, arrays)
        listed = sorted([*_files_below(new), _DESCRIPTION])
        files.write(new / _DESCRIPTION, json.dumps(seal(description | {_FILES: listed})))


def _write_arrays(folder: epath.Path, path: epath.Path, item: str, arrays: PyTree) -> None:
    """Has orbax write the arrays into a folder that will be called `path`."""
    # In another thread: a signal that interrupts this one waits there for orbax, which would go on writing.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(_orbax_save, folder / item, arrays).result()
        except (OSError, ValueError, RuntimeError) as error:  # tensorstore reports a full disk as a ValueError
            _wait_for_writers(folder)
            number, cause = _cause_of(error)
            raise OSError(number, f"{path} could not be written ({cause}); what was there before still is") from error


def _orbax_save(path: epath.Path, arrays: PyTree) -> None:
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        checkpointer.save(path, args=ocp.args.StandardSave(arrays), force=True)


def read_description(path) -> dict:
    """Returns the description of a folder, which `check_seal` has not looked at.

    Raises:
      DamagedError: it is absent, or no JSON object.
    """
    try:
        description = json.loads((epath.Path(path) / _DESCRIPTION).read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"its description cannot be read: {brief(error)}") from error
    if not isinstance(description, dict):
        raise DamagedError("its description is no JSON object")
    return description


def has_description(path) -> bool:
    """Returns whether a folder has a description, readable or not."""
    return (epath.Path(path) / _DESCRIPTION).exists()


def seal(description: dict) -> dict:
    """Returns a description as it will be read back, with a check sum of all that it says."""
    description = json.loads(json.dumps(description))
    return description | {_CHECKSUM: _sum_of(description)}


def check_seal(description: dict) -> None:
    """Raises a DamagedError if a description is not as `seal` returned it; one without a check sum passes."""
    if _CHECKSUM in description and description[_CHECKSUM] != _sum_of(description):
        raise DamagedError("the check sum of its description is wrong")


def _sum_of(description: dict) -> str:
    return files.checksum(
        json.dumps({name: value for name, value in description.items() if name != _CHECKSUM}, sort_keys=True)
    )


def stored_arrays(path, item: str) -> PyTree:
    """Returns the shapes and types of the arrays in a folder; a DamagedError if they cannot be told."""
    place = epath.Path(path).absolute() / item
    for file in _ESSENTIAL_FILES:
        # Asked first, because orbax reports a missing one in background threads too.
        if not (place / file).exists():
            raise DamagedError(f"{item}/{file} is missing")
    try:
        # Of the handler, as a checkpointer misses a file that older folders do not have, and says so.
        return _handler().metadata(place).tree
    except Exception as error:  # whatever the damage makes orbax stumble on
        raise DamagedError(brief(error)) from error


def read_arrays(path, item: str, targets: PyTree) -> PyTree:
    """Returns the arrays of a folder on the host, in the structure, shapes and types of `targets`.

    Raises:
      DamagedError: they cannot be read.
    """
    import orbax.checkpoint as ocp

    targets = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), targets)
    try:
        with _checkpointer() as checkpointer:
            place = epath.Path(path).absolute() / item
            return checkpointer.restore(place, args=ocp.args.StandardRestore(targets))
    except Exception as error:
        raise DamagedError(brief(error)) from error


def foreign_file(path, item: str) -> str | None:
    """Returns a file in a folder that `write` did not put there, by its name in the folder; None if there is none."""
    path = epath.Path(path)
    listed = None
    with contextlib.suppress(DamagedError):
        description = read_description(path)
        check_seal(description)
        listed = description.get(_FILES)
    layout = re.compile(_LAYOUT.format(item=re.escape(item)))
    for name in _files_below(path):
        is_ours = name in listed if listed else layout.fullmatch(_UNFINISHED.sub("", name))
        if not is_ours:
            return name
    return None


def _files_below(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _files_below(each, f"{prefix}{each.name}/")
        else:
            yield prefix + each.name


def brief(error: Exception) -> str:
    """Returns what another library says of an error, in one line without its own inner life."""
    text = (str(error) or repr(error)).split(" [")[0]  # tensorstore appends its whole specification
    return " ".join(text.split())[:_LONGEST_CAUSE]


def _cause_of(error: Exception) -> tuple[int, str]:
    """Returns the number and the words of what the operating system said, of another error its own words."""
    told = re.search(r"os_error_code='(\d+)'", str(error))
    number = getattr(error, "errno", None) or (int(told[1]) if told else None)
    return (errno.EIO, brief(error)) if number is None else (number, os.strerror(number))


def _wait_for_writers(folder: epath.Path) -> None:
    """Returns when nothing changes in a folder any more: after an error, orbax's other writes are still under way."""
    if files.is_remote(folder):
        return
    before, until = None, time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < until and before != (before := list(_files_below(folder))):
        time.sleep(_SETTLED_S)


def _checkpointer():
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(_handler(), multiprocessing_options=_alone())


def _handler():
    import orbax.checkpoint as ocp  # half a second that a run without checkpoints does not need

    _quiet_background_threads()
    return ocp.StandardCheckpointHandler(multiprocessing_options=_alone())


def _alone():
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


@functools.cache
def _quiet_background_threads() -> None:
    """Keeps orbax from printing tracebacks of its threads, on a full disk over a hundred lines, beside the error.

    For the rest of the process: reads and writes that were under way report to an event loop that is gone when the
    caller has the error already.
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return "_SignalingThread.run() raised" not in text and not (
            "never retrieved" in text and ("orbax" in text or "tensorstore" in text)
        )

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(is_wanted)
    previous = sys.unraisablehook

    def hook(unraisable):
        if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
            previous(unraisable)

    sys.unraisablehook = hook
