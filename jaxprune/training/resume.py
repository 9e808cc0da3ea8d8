"""Checkpoints of a training in progress: written in the background, whole or not at all, the last few kept.

A folder holds `step_00000123/` for each kept checkpoint (`state`, the arrays; `description`, JSON) and `epochs.jsonl`,
one record per finished epoch. The description states what the run is (model, data, key, batch size, ...), so that
another run is refused, and a check sum of every array, so that a damaged checkpoint is found out and the one before is
used. A folder or file of such a name that jaxprune did not write is never touched: training does not begin beside it.
"""

import concurrent.futures
import contextlib
import errno
import json
import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree

from jaxprune import files
from jaxprune.checkpoints import orbax_folder
from jaxprune.checkpoints.orbax_folder import DamagedError

FORMAT, FORMAT_VERSION = "jaxprune training state", 1
KEPT = 2
EPOCHS_FILE = "epochs.jsonl"
_STATE = "state"
_DESCRIBED = {"run", "shapes", "checksums", "epoch", "step", "records"}
_NAME, _NAME_PATTERN = "step_{:08d}", re.compile(r"step_(\d{8,})")
# What a process that was killed left, before checkpoints were written through `jaxprune.files`.
_UNFINISHED = re.compile(r"step_\d{8,}\.orbax-checkpoint-tmp.*")
_CURE = "give another checkpoint_dir, or move it away"


class Position(NamedTuple):
    """Where a run is: `step` steps into `epoch`, which counts from 1, and the records of the epochs before."""

    epoch: int
    step: int
    records: list


class Checkpoints:
    """The checkpoints of one run in one folder, local or `gs://`; of one process at a time.

    Args:
      folder: made if missing.
      run: what the run is, JSON values by name; a checkpoint of another run is refused.
      steps_per_epoch: numbers the checkpoints.
      kept: how many of the last ones are kept.

    Raises:
      ValueError: an empty path, or another process trains in that folder.
      FileExistsError: the folder holds something of a checkpoint's name that jaxprune did not write.
    """

    def __init__(self, folder, run: dict, *, steps_per_epoch: int, kept: int = KEPT):
        folder = files.check_folder(folder, what="checkpoint_dir")
        self.folder = folder.absolute()
        self.run, self.steps_per_epoch, self.kept = run, steps_per_epoch, kept
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(files.lock(self.folder, "training", wait=False)):
                raise ValueError(f"another process trains in {folder}; give another checkpoint_dir, or wait for it")
            self._refuse_foreign()
            _delete_unfinished(self.folder)
            self._writer = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
            self._open = stack.pop_all()
        self._good: list[epath.Path] = []
        self._pending: tuple[epath.Path, concurrent.futures.Future] | None = None

    @property
    def last_good(self) -> epath.Path | None:
        """The newest checkpoint that is complete, None before the first."""
        return self._good[-1] if self._good else None

    def restore(self, template: PyTree) -> tuple[PyTree, Position] | None:
        """Returns the newest intact state, as host arrays in the structure of `template`, and where the run was.

        None in a folder without checkpoints. A damaged checkpoint is left where it is, with a warning.

        Raises:
          ValueError: the newest readable checkpoint is of another run, or none is intact.
        """
        found = _states(self.folder)
        for index, path in reversed(list(enumerate(found))):
            try:
                description = self._describe(path)
                self._refuse_another_run(path, description, template)
                state = self._read(path, description, template)
            except DamagedError as damage:
                before = f"{found[index - 1].name} is tried" if index else "there is none before it"
                warnings.warn(f"the training checkpoint at {path} is refused: {damage}; {before}", stacklevel=4)
                continue
            self._good = found[: index + 1]
            position = Position(description["epoch"], description["step"], description["records"])
            if position.step == 0:
                self._write_records(position.records)  # the process may have died before it did
            return state, position
        if found:
            raise ValueError(
                f"no checkpoint in {self.folder} is intact; delete that folder to train from the start, or give another"
            )
        return None

    def save(self, state: PyTree, position: Position) -> None:
        """Starts writing a checkpoint, after waiting for the one before; `state` may be changed afterwards.

        Raises:
          OSError: a checkpoint could not be written, as on a full disk; names the last good one.
        """
        self.wait()
        path = self.folder / _NAME.format((position.epoch - 1) * self.steps_per_epoch + position.step)
        if path in self._good:
            return  # where the run was resumed; the same bits
        # Copies: the next step may have the device's memory, which NumPy sees on a CPU.
        arrays = {name: np.array(leaf) for name, leaf in _named_leaves(jax.device_get(_raw(state)))}
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "run": self.run,
            "shapes": _shapes(state),
            "checksums": {name: checksum(array) for name, array in arrays.items()},
            "epoch": position.epoch,
            "step": position.step,
            "records": position.records,
        }
        self._pending = path, self._writer.submit(self._write, path, arrays, description)

    def _write(self, path: epath.Path, arrays: dict[str, np.ndarray], description: dict) -> None:
        files.check_output(path, what="training state", is_ours=lambda path: _foreign(path) is None)
        orbax_folder.write(path, _STATE, arrays, description, replace=files.is_there(path))
        if description["step"] == 0:
            self._write_records(description["records"])

    def wait(self) -> None:
        """Waits until the last checkpoint is written, and deletes the oldest of those that are too many.

        Raises:
          OSError: as for `save`.
        """
        if self._pending is None:
            return
        (path, written), self._pending = self._pending, None
        try:
            written.result()
        except OSError as error:
            raise self._not_written(error) from error
        self._good = [*(each for each in self._good if each != path), path]
        while len(self._good) > self.kept:
            _delete(self._good.pop(0))

    def close(self) -> None:
        """Waits, ends the background thread, and lets other processes train in the folder."""
        try:
            self.wait()
        finally:
            self._open.close()

    def _refuse_foreign(self) -> None:
        """Raises a FileExistsError for anything that a checkpoint would replace, or its rotation delete."""
        for path in _states(self.folder):
            foreign = _foreign(path)
            if foreign is not None:
                raise FileExistsError(f"{path} {foreign}; {_CURE}")
        path = self.folder / EPOCHS_FILE
        if path.exists() and not _holds_records(path):
            raise FileExistsError(f"{path} holds no records of epochs that jaxprune wrote; {_CURE}")

    def _describe(self, path: epath.Path) -> dict:
        description = orbax_folder.read_description(path)
        if description.get("format") != FORMAT:
            raise DamagedError("it is no training state that jaxprune wrote")
        if description.get("format_version") != FORMAT_VERSION:
            raise DamagedError(
                f"format version {description.get('format_version')}; this release reads {FORMAT_VERSION}"
            )
        lost = _DESCRIBED - description.keys()
        if lost:
            raise DamagedError(f"its description lacks {', '.join(sorted(lost))}")
        orbax_folder.check_seal(description)
        return description

    def _refuse_another_run(self, path: epath.Path, description: dict, template: PyTree) -> None:
        there = description["run"] | {"state": description["shapes"]}
        here = json.loads(json.dumps(self.run)) | {"state": _shapes(template)}
        differences = [
            f"{name}: {_difference(there.get(name), here.get(name))}"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        if differences:
            raise ValueError(
                f"the checkpoint at {path} is of another training run ({'; '.join(differences)}); "
                f"give another checkpoint_dir, or delete {self.folder} to train from the start"
            )

    def _read(self, path: epath.Path, description: dict, template: PyTree) -> PyTree:
        targets = dict(_named_leaves(jax.eval_shape(_raw, template)))
        stored = dict(orbax_folder.stored_arrays(path, _STATE))
        for name, leaf in targets.items():
            if name not in stored or (tuple(stored[name].shape), stored[name].dtype) != (leaf.shape, leaf.dtype):
                raise DamagedError(f"{name} is missing, or of another shape or type than its description says")
        arrays = orbax_folder.read_arrays(path, _STATE, targets)
        for name in targets:
            if checksum(arrays[name]) != description["checksums"].get(name):
                raise DamagedError(f"the check sum of {name} is wrong")
        leaves = [arrays[name] for name, _ in _named_leaves(template)]
        return jax.tree.map(_wrap, template, jax.tree.unflatten(jax.tree.structure(template), leaves))

    def _write_records(self, records: list) -> None:
        path, text = self.folder / EPOCHS_FILE, "".join(json.dumps(record) + "\n" for record in records)
        if not (path.exists() and path.read_text() == text):
            files.write(path, text)

    def _not_written(self, error: OSError) -> OSError:
        kept = f"the last good checkpoint is {self.last_good}" if self._good else "there is no checkpoint yet"
        return OSError(error.errno or errno.EIO, f"training stopped: {error.strerror or error}; {kept}")


def delete_checkpoints(folder) -> None:
    """Deletes the states that `fit` saved in its `checkpoint_dir`, and keeps `epochs.jsonl`; for a run that is over.

    Args:
      folder: local or `gs://`; a missing one has nothing to delete. What jaxprune did not write stays.
    """
    folder = files.check_folder(folder, what="checkpoint_dir")
    if not folder.exists():
        return
    for path in _states(folder):
        if _foreign(path) is None:
            files.delete_folder(path)
    _delete_unfinished(folder)


def _states(folder: epath.Path) -> list[epath.Path]:
    """Returns what has the name of a checkpoint, in the order of the steps."""
    return sorted((path for path in folder.iterdir() if _NAME_PATTERN.fullmatch(path.name)), key=_number)


def _foreign(path: epath.Path) -> str | None:
    """Returns why something with the name of a checkpoint is none that jaxprune wrote, in words; None if it is one.

    A damaged one is one: its files are those of a checkpoint.
    """
    if not path.is_dir():
        return "is no folder"
    foreign = orbax_folder.foreign_file(path, _STATE)
    if foreign is not None:
        return f"holds {foreign}, which jaxprune did not write and would delete"
    try:
        is_other = orbax_folder.read_description(path).get("format") != FORMAT
    except DamagedError:
        is_other = next(path.iterdir(), None) is not None and not orbax_folder.has_description(path)
    return "is no training state that jaxprune wrote" if is_other else None


def _delete(path: epath.Path) -> None:
    """Deletes a checkpoint, unless somebody has put something into it, or has deleted it."""
    if not path.exists():
        return
    foreign = _foreign(path)
    if foreign is None:
        files.delete_folder(path)
    else:
        warnings.warn(f"{path} is kept: it {foreign}", stacklevel=4)


def _delete_unfinished(folder: epath.Path) -> None:
    """Deletes what processes that were killed left unfinished."""
    files.tidy(folder)
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_dir() and orbax_folder.foreign_file(path, _STATE) is None:
            path.rmtree()


def _holds_records(path: epath.Path) -> bool:
    try:
        records = [json.loads(line) for line in path.read_bytes().decode().splitlines()]
    except (OSError, ValueError, RecursionError):
        return False
    return all(isinstance(record, dict) and {"epoch", "loss"} <= record.keys() for record in records)


def checksum(tree: PyTree) -> int:
    """Returns the CRC-32 of all arrays of a tree, in order; 0 for a tree without arrays."""
    result = 0
    for leaf in jax.tree.leaves(jax.device_get(_raw(tree))):
        result = zlib.crc32(np.asarray(leaf).tobytes(), result)
    return result


def _named_leaves(tree: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf


def _shapes(tree: PyTree) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named_leaves(tree)}


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(tree: PyTree) -> PyTree:
    """Returns the tree with random keys as the integers that they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _wrap(template, array: np.ndarray):
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(template)) if _is_key(template) else array


def _difference(there, here) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        name = next(name for name in [*here, *there] if there.get(name) != here.get(name))
        return f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
    return f"{there} there, {here} here"


def _number(path: epath.Path) -> int:
    return int(_NAME_PATTERN.fullmatch(path.name)[1])
