"""Checkpoints of a training in progress: written in the background, whole or not at all, the last few kept.

A folder holds `step_00000123/` for each kept checkpoint (`state`, the arrays; `description`, JSON) and `epochs.jsonl`,
one record per finished epoch. The description states what the run is (model, data, key, batch size, ...), so that
another run is refused, and a check sum of every array, so that a damaged checkpoint is found out and the one before is
used.
"""

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

from jaxprune import own_files

FORMAT, FORMAT_VERSION = "jaxprune training state", 1
KEPT = 2
EPOCHS_FILE = "epochs.jsonl"
_STATE, _DESCRIPTION = "state", "description"
_DESCRIBED = {"run", "shapes", "checksums", "epoch", "step", "records"}
_NAME, _NAME_PATTERN = "step_{:08d}", re.compile(r"step_(\d{8,})")
_UNFINISHED = ".orbax-checkpoint-tmp"
_ESSENTIAL_FILES = ("_METADATA", "manifest.ocdbt")
_WRITE_ERRORS = (OSError, ValueError, RuntimeError)  # tensorstore reports a full disk as a ValueError
_LONGEST_CAUSE = 300  # characters of another library's message that are worth showing


class Position(NamedTuple):
    """Where a run is: `step` steps into `epoch`, which counts from 1, and the records of the epochs before."""

    epoch: int
    step: int
    records: list


class Checkpoints:
    """The checkpoints of one run in one folder, local or `gs://`.

    Args:
      folder: made if missing.
      run: what the run is, JSON values by name; a checkpoint of another run is refused.
      steps_per_epoch: numbers the checkpoints.
      kept: how many of the last ones are kept.
    """

    def __init__(self, folder, run: dict, *, steps_per_epoch: int, kept: int = KEPT):
        import orbax.checkpoint as ocp  # half a second that a run without checkpoints does not need

        self.folder = epath.Path(folder).absolute()
        self.run, self.steps_per_epoch, self.kept = run, steps_per_epoch, kept
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.name.startswith("step_") and _UNFINISHED in path.name:
                path.rmtree()  # of a process that was killed
        self._ocp = ocp
        self._writer = own_files.background_checkpointer(_handler())
        self._good: list[epath.Path] = []
        self._pending: epath.Path | None = None

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
        found = sorted((path for path in self.folder.iterdir() if _NAME_PATTERN.fullmatch(path.name)), key=_number)
        for index, path in reversed(list(enumerate(found))):
            try:
                description = self._describe(path)
                self._refuse_another_run(path, description, template)
                state = self._read(path, description, template)
            except _Damaged as damage:
                before = f"{found[index - 1].name} is tried" if index else "there is none before it"
                warnings.warn(f"the training checkpoint at {path} is refused: {damage}; {before}", stacklevel=4)
                continue
            self._good = found[: index + 1]
            return state, Position(description["epoch"], description["step"], description["records"])
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
        arrays = dict(_named_leaves(jax.device_get(_raw(state))))
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
        args = self._ocp.args
        items = args.Composite(**{_STATE: args.StandardSave(arrays), _DESCRIPTION: args.JsonSave(description)})
        try:
            if position.step == 0:
                self._write_records(position.records)
            self._writer.save(path, items, force=True)
        except _WRITE_ERRORS as error:
            raise self._not_written(path, error) from error
        self._pending = path

    def wait(self) -> None:
        """Waits until the last checkpoint is written, and deletes the oldest of those that are too many.

        Raises:
          OSError: as for `save`.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            self._writer.wait_until_finished()
        except _WRITE_ERRORS as error:
            raise self._not_written(pending, error) from error
        self._good = [*(path for path in self._good if path != pending), pending]
        while len(self._good) > self.kept:
            self._good.pop(0).rmtree()

    def close(self) -> None:
        """Waits, and ends the background threads."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(*_WRITE_ERRORS):  # `wait` has told
                self._writer.close()

    def _describe(self, path: epath.Path) -> dict:
        try:
            description = json.loads((path / _DESCRIPTION / "metadata").read_text())
        except (OSError, ValueError) as error:
            raise _Damaged(f"its description cannot be read: {_brief(error)}") from error
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise _Damaged("it is no training state that jaxprune wrote")
        if description.get("format_version") != FORMAT_VERSION:
            raise _Damaged(f"format version {description.get('format_version')}; this release reads {FORMAT_VERSION}")
        lost = _DESCRIBED - description.keys()
        if lost:
            raise _Damaged(f"its description lacks {', '.join(sorted(lost))}")
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
        for file in _ESSENTIAL_FILES:
            # Asked first, because orbax reports a missing one in background threads too.
            if not (path / _STATE / file).exists():
                raise _Damaged(f"{_STATE}/{file} is missing")
        args, names = self._ocp.args, [name for name, _ in _named_leaves(template)]
        targets = jax.eval_shape(_raw, template)
        targets = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in _named_leaves(targets)}
        try:
            with own_files.checkpointer(_handler()) as reader:
                arrays = reader.restore(path, args.Composite(**{_STATE: args.StandardRestore(targets)}))[_STATE]
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _Damaged(_brief(error)) from error
        for name in names:
            if checksum(arrays[name]) != description["checksums"].get(name):
                raise _Damaged(f"the check sum of {name} is wrong")
        leaves = [arrays[name] for name in names]
        return jax.tree.map(_wrap, template, jax.tree.unflatten(jax.tree.structure(template), leaves))

    def _write_records(self, records: list) -> None:
        temporary = self.folder / f".{EPOCHS_FILE}.tmp"
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))
        temporary.replace(self.folder / EPOCHS_FILE)

    def _not_written(self, path: epath.Path, error: Exception) -> OSError:
        code = getattr(error, "errno", None) or errno.EIO
        kept = f"the last good checkpoint is {self.last_good}" if self._good else "there is no checkpoint yet"
        return OSError(code, f"training stopped: the checkpoint {path} could not be written ({_brief(error)}); {kept}")


def delete_checkpoints(folder) -> None:
    """Deletes the states that `fit` saved in its `checkpoint_dir`, and keeps `epochs.jsonl`; for a run that is over.

    Args:
      folder: local or `gs://`; a missing one has nothing to delete.
    """
    folder = epath.Path(folder)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.startswith("step_"):
            path.rmtree()


def _handler():
    return own_files.handler(arrays=_STATE, json=_DESCRIPTION)


class _Damaged(Exception):
    pass


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


def _brief(error: Exception) -> str:
    return (str(error) or repr(error)).split(" [")[0][:_LONGEST_CAUSE]  # tensorstore appends its whole specification
