"""The steps that change a local disk, each with a moment before and after it at which tests stop the program."""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from typing import Any

from etils import epath

from jaxprune.files import paths

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_AT_CWD, _RENAME_NO_REPLACE, _RENAME_EXCHANGE = -100, 1, 2  # of Linux's fcntl.h and fs.h


def moment(name: str, path: epath.Path) -> None:
    """Does nothing. Called before and after everything that changes the disk; tests stop the program here."""


def tidy(folder, target: str | None = None) -> None:
    """Deletes what dead processes of this host left unfinished in a folder: of one target, or of all by default."""
    folder = epath.Path(folder)
    if paths.is_remote(folder) or not folder.exists():
        return
    for name in os.listdir(folder):
        found = _TEMPORARY.fullmatch(name)
        is_wanted = found and target in (None, found["name"]) and found["host"] == _host()
        if is_wanted and not _is_alive(int(found["process"])):
            delete(folder / name)


@contextlib.contextmanager
def naming(path: epath.Path) -> Iterator[None]:
    """Makes an error of the operating system say what was being written: that of a full disk names no file."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        cause = error.strerror or str(error)
        raise OSError(error.errno, f"{path} could not be written ({cause}); what was there before still is") from error


def make_folder(path: epath.Path) -> None:
    """Makes a folder and what is missing above it; their names are on the disk when it returns."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        sync_folder(each.parent)


def temporary_name(path: epath.Path) -> epath.Path:
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


def delete(path: epath.Path) -> None:
    """Deletes a file, or a folder with all that is in it; nothing if neither is there."""
    if path.is_dir() and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: epath.Path, descriptor: int | None = None) -> None:
    """Returns when the content of a file, or the names in a folder, are on the disk."""
    moment("before fsync", path)
    opened = os.open(path, os.O_RDONLY) if descriptor is None else descriptor
    try:
        os.fsync(opened)
    finally:
        if descriptor is None:
            os.close(opened)
    moment("after fsync", path)


def sync_folder(path: epath.Path) -> None:
    """Returns when the names in a folder are on the disk, where the system has a way to ask for that."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders; its renames are in a journal
        sync(path)


def rename(source: epath.Path, target: epath.Path) -> None:
    """Gives `source` the name `target`, in place of a file that has it."""
    moment("before rename", target)
    os.replace(source, target)
    moment("after rename", target)


def create(source: epath.Path, target: epath.Path) -> None:
    """Gives `source` the name `target`, which must be free: asked and done in one step."""
    moment("before rename", target)
    if not _renamed(source, target, _RENAME_NO_REPLACE):
        try:
            os.link(source, target)
        except FileExistsError:
            raise taken(target) from None
        except OSError:  # a file system without hard links
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise taken(target) from None
            os.replace(source, target)
    moment("after rename", target)


def exchange(source: epath.Path, target: epath.Path) -> None:
    """Swaps two folders in one step where the system can; elsewhere `target` is missing for a moment."""
    moment("before rename", target)
    if not _renamed(source, target, _RENAME_EXCHANGE):
        # No temporary name: were this process killed here, the next one would delete the only copy.
        aside = target.parent / f".{target.name}.replaced-{secrets.token_hex(4)}"
        os.replace(target, aside)
        os.replace(source, target)
        os.replace(aside, source)
    moment("after rename", target)


def _renamed(source: epath.Path, target: epath.Path, how: int) -> bool:
    """Returns whether Linux has renamed in one step: without replacing, or by swapping two names."""
    rename2: Any = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename2 is None:
        return False
    return rename2(_AT_CWD, os.fsencode(source), _AT_CWD, os.fsencode(target), how) == 0


def taken(path: epath.Path) -> FileExistsError:
    """Returns the error that says that something has the name already."""
    return FileExistsError(
        f"{path} exists already; another process may have written it; give another path, or move it away"
    )
