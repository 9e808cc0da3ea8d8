"""Where something may be written: paths that people give, and what lies there already."""

import os
from collections.abc import Callable, Iterable

from etils import epath


def check_output(path, *, what: str, is_ours: Callable[[epath.Path], bool] | None = None) -> epath.Path:
    """Returns the path of something to be written, after making sure that nothing of the user's would be lost.

    Args:
      path: a file or folder, local or `gs://`.
      what: what will be there, for the error, such as "checkpoint folder".
      is_ours: whether what lies at the path already is a `what` that jaxprune wrote, and may be replaced; None if
        nothing may lie there.

    Raises:
      TypeError: not a path.
      ValueError: an empty path, as from an unset shell variable, or one that begins with ~.
      FileExistsError: something is there that may not be replaced.
      NotADirectoryError: the path leads through a file.
      PermissionError: the folder that would hold it cannot be written.
    """
    path = named(path, what=what)
    if not is_remote(path):
        _check_writable(path, path.absolute().parents, what)
    if is_there(path) and (is_ours is None or not is_ours(path)):
        kept = "" if is_ours is None else f" and is no {what} that jaxprune wrote"
        raise FileExistsError(f"{path} exists already{kept}; give another path, or move away what is there")
    return path


def check_folder(path, *, what: str) -> epath.Path:
    """Returns the path of a folder to write into, which may be there already, with other things in it.

    Raises:
      TypeError: not a path.
      ValueError: an empty path, as from an unset shell variable, or one that begins with ~.
      NotADirectoryError: a file is there, or the path leads through one.
      PermissionError: nothing can be written there.
    """
    path = named(path, what=what)
    if not is_remote(path):
        _check_writable(path, (path.absolute(), *path.absolute().parents), what)
    return path


def named(path, *, what: str) -> epath.Path:
    """Returns a path that somebody has given.

    Raises:
      TypeError: not a path.
      ValueError: an empty path, as from an unset shell variable, which pathlib turns into the current folder; or one
        that begins with ~.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"the path of the {what} is a {type(path).__name__}; give a string or a path")
    text = os.fspath(path)
    if not text.strip() or "\0" in text:
        raise ValueError(f"the path of the {what} is {text!r}; give a name (is a shell variable unset?)")
    if os.path.expanduser(text) != text:
        raise ValueError(f"the path of the {what} is {text!r}; write the home folder out, only shells replace ~")
    return epath.Path(path)


def is_there(path) -> bool:
    """Returns whether anything has a name, be it a symbolic link that leads nowhere."""
    return epath.Path(path).exists() if is_remote(path) else os.path.lexists(path)


def is_remote(path) -> bool:
    """Returns whether a path is in an object store, `gs://` or alike."""
    return "://" in str(path)


def _check_writable(path: epath.Path, folders: Iterable[epath.Path], what: str) -> None:
    """Raises an OSError unless the first of the folders that is there can be written into."""
    folder = next(each for each in folders if os.path.lexists(each))
    if not folder.is_dir():
        raise NotADirectoryError(f"the {what} cannot be written to {path}: {folder} is a file; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the {what} cannot be written to {path}: no permission to write into {folder}")
