"""Writing so that nothing is lost: whole or not at all, on the disk before it has its name, and only where it may.

Every file and folder that jaxprune leaves behind goes through here. On a local file system

- content is written under a temporary name of its own beside the target, flushed to the disk (`fsync`), and renamed;
  the folder that holds the name is flushed too. A process that dies at any moment leaves the old content, or the new;
- two processes never share a temporary name; what a dead process of this host left behind is deleted by the next
  one that writes the same target, or by `tidy`;
- `exclusive` creates: of several processes that write one path, the first has it, the others get a FileExistsError.

Object stores (`gs://...`) publish an object when it is complete, so objects are written directly; they have neither
locks nor exclusive creation, and `exclusive` is there a check that can be overtaken.
"""

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar

import filelock
from etils import epath

LOCKS_FOLDER = ".locks"
Item = TypeVar("Item")
_IN_MEMORY_BYTES = 2**26  # what goes to an object store is held on disk from this size
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_AT_CWD, _RENAME_NO_REPLACE, _RENAME_EXCHANGE = -100, 1, 2  # of Linux's fcntl.h and fs.h


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


def write(path, content: bytes | str, *, exclusive: bool = False) -> None:
    """Writes a file, whole or not at all; text as UTF-8. See `writing`."""
    with writing(path, exclusive=exclusive) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def writing(path, *, exclusive: bool = False) -> Iterator[BinaryIO]:
    """Yields a binary file, seekable, that gets its name when the block ends without an exception.

    Missing folders are made. A symbolic link is followed: the file that it names is replaced, not the link.

    Raises:
      FileExistsError: with `exclusive`, something is at `path` when the block ends.
      OSError: the file could not be written, as on a full disk; what was at `path` is still there.
    """
    path = epath.Path(path)
    if is_remote(path):
        if exclusive and path.exists():
            raise _taken(path)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as buffer:
            yield buffer
            buffer.seek(0)
            with path.open("wb") as file:
                shutil.copyfileobj(buffer, file)
        return
    path = epath.Path(os.path.realpath(path))
    with _naming(path):
        _make_folder(path.parent)
        temporary = _temporary_name(path)
        raw = _RawFile(temporary, path)
    try:
        with io.BufferedRandom(raw) as file:
            yield file
            file.flush()
            with _naming(path):
                _sync(temporary, file.fileno())
        with _naming(path):
            if exclusive:
                _create(temporary, path)
            else:
                _rename(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path, *, replace: bool = False) -> Iterator[epath.Path]:
    """Yields a new empty folder that gets the name `path` when the block ends without an exception.

    Args:
      path: local; missing parents are made. An empty folder there counts as nothing.
      replace: whether a folder that is there gives way to the new one; `check_output` has said that it may.

    Raises:
      FileExistsError: something is at `path` when the block ends, and may not be replaced; or `path` is the current
        folder, or holds it.
      OSError: the folder could not be written, as on a full disk; what was at `path` is still there.
    """
    path = epath.Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):  # of a current folder that somebody deleted
        if epath.Path(os.getcwd()).is_relative_to(path):
            raise FileExistsError(f"{path} exists already: it is the current folder, or holds it; give another path")
    with _naming(path):
        _make_folder(path.parent)
        temporary = _temporary_name(path)
        temporary.mkdir()
    try:
        yield temporary
        with _naming(path):
            for folder, _, names in os.walk(temporary):
                for name in names:
                    _sync(epath.Path(folder) / name)
                _sync(epath.Path(folder))
            _publish(temporary, path, replace=replace)
    finally:
        _delete(temporary)


def _publish(temporary: epath.Path, path: epath.Path, *, replace: bool) -> None:
    try:
        _rename(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not replace:
            raise _taken(path) from None
        _exchange(temporary, path)
    _sync_folder(path.parent)


def delete_folder(path) -> None:
    """Deletes a folder that jaxprune wrote, so that at no moment a part of it lies at `path`."""
    path = epath.Path(path)
    if is_remote(path):
        path.rmtree()
        return
    temporary = _temporary_name(path)
    try:
        _rename(path, temporary)
    finally:
        _delete(temporary)


def tidy(folder, target: str | None = None) -> None:
    """Deletes what dead processes of this host left unfinished in a folder: of one target, or of all by default."""
    folder = epath.Path(folder)
    if is_remote(folder) or not folder.exists():
        return
    for name in os.listdir(folder):
        found = _TEMPORARY.fullmatch(name)
        is_wanted = found and target in (None, found["name"]) and found["host"] == _host()
        if is_wanted and not _is_alive(int(found["process"])):
            _delete(folder / name)


@contextlib.contextmanager
def lock(folder, name: str, *, wait: bool) -> Iterator[bool]:
    """Holds the lock `name` of a folder for the block. Yields False if another process holds it and `wait` is false.

    With `wait`, blocks until it is free. The operating system releases a lock when its process dies, however it does.
    Object stores have no locks: there every process gets True, and jobs that share a folder should be given shards.
    """
    folder = epath.Path(folder)
    if is_remote(folder):
        yield True
        return
    (folder / LOCKS_FOLDER).mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(str(folder / LOCKS_FOLDER / f"{name}.lock"))
    try:
        held.acquire(blocking=wait)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def do_each(
    folder,
    items: Iterable[Item],
    *,
    name: Callable[[Item], str],
    is_done: Callable[[Item], bool],
    do: Callable[[Item], None],
    on_wait: Callable[[str], None] = lambda name: None,
) -> None:
    """Calls `do` for the items that are not done, each under its lock in `folder`, so that processes share the work.

    First come those that no other process is at, then, waiting, the rest: what another has done meanwhile is left
    alone; what it began and did not end, because it died, is done here.
    """
    items = list(items)
    for wait in (False, True):
        for item in items:
            if is_done(item):
                continue
            if wait:
                on_wait(name(item))
            with lock(folder, name(item), wait=wait) as mine:
                if mine and not is_done(item):
                    do(item)


def checksum(content: bytes | str) -> str:
    """Returns the SHA-256 of bytes, or of a text as UTF-8, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def checksum_of(path) -> str:
    """Returns the SHA-256 of a file's content, or of all the files of a folder and their names."""
    path = epath.Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for each in sorted(path.iterdir(), key=lambda each: each.name):
        whole.update(f"{each.name}\0{checksum_of(each)}\n".encode())
    return whole.hexdigest()


def is_remote(path) -> bool:
    """Returns whether a path is in an object store, `gs://` or alike."""
    return "://" in str(path)


def _moment(name: str, path: epath.Path) -> None:
    """Does nothing. Called before and after everything that changes the disk; tests stop the program here."""


class _RawFile(io.FileIO):
    def __init__(self, temporary: epath.Path, target: epath.Path):
        super().__init__(temporary, "x+")
        self.target = target

    def write(self, content) -> int:
        _moment("before write", self.name)
        with _naming(self.target):
            written = super().write(content)
        _moment("after write", self.name)
        return written


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
    """Makes an error of the operating system say what was being written: that of a full disk names no file."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        cause = error.strerror or str(error)
        raise OSError(error.errno, f"{path} could not be written ({cause}); what was there before still is") from error


def _check_writable(path: epath.Path, folders: Iterable[epath.Path], what: str) -> None:
    """Raises an OSError unless the first of the folders that is there can be written into."""
    folder = next(each for each in folders if os.path.lexists(each))
    if not folder.is_dir():
        raise NotADirectoryError(f"the {what} cannot be written to {path}: {folder} is a file; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the {what} cannot be written to {path}: no permission to write into {folder}")


def _make_folder(path: epath.Path) -> None:
    """Makes a folder and what is missing above it; their names are on the disk when it returns."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        _sync_folder(each.parent)


def _temporary_name(path: epath.Path) -> epath.Path:
    """Returns a new name beside `path`, after deleting what dead processes of this host left there for it."""
    tidy(path.parent, path.name)
    return path.parent / f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _host() -> str:
    """Returns a name of where this process's number means it: of the host and, in a container, of its processes."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        processes = 0
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{socket.gethostname()}-{processes}")


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere os.kill ends the process that it is asked about
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _delete(path: epath.Path) -> None:
    if path.is_dir() and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: epath.Path, descriptor: int | None = None) -> None:
    """Returns when the content of a file, or the names in a folder, are on the disk."""
    _moment("before fsync", path)
    opened = os.open(path, os.O_RDONLY) if descriptor is None else descriptor
    try:
        os.fsync(opened)
    finally:
        if descriptor is None:
            os.close(opened)
    _moment("after fsync", path)


def _sync_folder(path: epath.Path) -> None:
    with contextlib.suppress(PermissionError):  # Windows opens no folders; its renames are in a journal
        _sync(path)


def _rename(source: epath.Path, target: epath.Path) -> None:
    _moment("before rename", target)
    os.replace(source, target)
    _moment("after rename", target)


def _create(source: epath.Path, target: epath.Path) -> None:
    """Gives `source` the name `target`, which must be free: asked and done in one step."""
    _moment("before rename", target)
    if not _renamed(source, target, _RENAME_NO_REPLACE):
        try:
            os.link(source, target)
        except FileExistsError:
            raise _taken(target) from None
        except OSError:  # a file system without hard links
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise _taken(target) from None
            os.replace(source, target)
    _moment("after rename", target)


def _exchange(source: epath.Path, target: epath.Path) -> None:
    """Swaps two folders in one step where the system can; elsewhere `target` is missing for a moment."""
    _moment("before rename", target)
    if not _renamed(source, target, _RENAME_EXCHANGE):
        # No temporary name: were this process killed here, the next one would delete the only copy.
        aside = target.parent / f".{target.name}.replaced-{secrets.token_hex(4)}"
        os.replace(target, aside)
        os.replace(source, target)
        os.replace(aside, source)
    _moment("after rename", target)


def _renamed(source: epath.Path, target: epath.Path, how: int) -> bool:
    """Returns whether Linux has renamed in one step: without replacing, or by swapping two names."""
    rename: Any = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    return rename(_AT_CWD, os.fsencode(source), _AT_CWD, os.fsencode(target), how) == 0


def _taken(path: epath.Path) -> FileExistsError:
    return FileExistsError(
        f"{path} exists already; another process may have written it; give another path, or move it away"
    )
