"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

from jaxprune.files import disk, paths

_IN_MEMORY_BYTES = 2**26  # what goes to an object store is held on disk from this size


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
    if paths.is_remote(path):
        if exclusive and path.exists():
            raise disk.taken(path)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as buffer:
            yield buffer
            buffer.seek(0)
            with path.open("wb") as file:
                shutil.copyfileobj(buffer, file)
        return
    path = epath.Path(os.path.realpath(path))
    with disk.naming(path):
        disk.make_folder(path.parent)
        temporary = disk.temporary_name(path)
        raw = _RawFile(temporary, path)
    try:
        with io.BufferedRandom(raw) as file:
            yield file
            file.flush()
            with disk.naming(path):
                disk.sync(temporary, file.fileno())
        with disk.naming(path):
            if exclusive:
                disk.create(temporary, path)
            else:
                disk.rename(temporary, path)
            disk.sync_folder(path.parent)
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
    with disk.naming(path):
        disk.make_folder(path.parent)
        temporary = disk.temporary_name(path)
        temporary.mkdir()
    try:
        yield temporary
        with disk.naming(path):
            for folder, _, names in os.walk(temporary):
                for name in names:
                    disk.sync(epath.Path(folder) / name)
                disk.sync(epath.Path(folder))
            _publish(temporary, path, replace=replace)
    finally:
        disk.delete(temporary)


def _publish(temporary: epath.Path, path: epath.Path, *, replace: bool) -> None:
    try:
        disk.rename(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not replace:
            raise disk.taken(path) from None
        disk.exchange(temporary, path)
    disk.sync_folder(path.parent)


def delete_folder(path) -> None:
    """Deletes a folder that jaxprune wrote, so that at no moment a part of it lies at `path`."""
    path = epath.Path(path)
    if paths.is_remote(path):
        path.rmtree()
        return
    temporary = disk.temporary_name(path)
    try:
        disk.rename(path, temporary)
    finally:
        disk.delete(temporary)


class _RawFile(io.FileIO):
    def __init__(self, temporary: epath.Path, target: epath.Path):
        super().__init__(temporary, "x+")
        self.target = target

    def write(self, content) -> int:
        disk.moment("before write", self.name)
        with disk.naming(self.target):
            written = super().write(content)
        disk.moment("after write", self.name)
        return written
