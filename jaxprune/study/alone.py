"""One process at a time for each part of a run folder, so that several may work in it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import filelock
from etils import epath

FOLDER = ".locks"
Part = TypeVar("Part")


@contextlib.contextmanager
def alone(out: epath.Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Yields whether the part `name` is this process's until the block ends; with `wait`, once it is.

    The operating system lets go of a lock when its process dies, however it does. Object stores (`gs://`) have no such
    locks: there every process has every part, and jobs that share a folder should be given shards.
    """
    if "://" in str(out):
        yield True
        return
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(str(folder / f"{name}.lock"))
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def do_each(
    out: epath.Path,
    parts: Iterable[Part],
    *,
    name: Callable[[Part], str],
    is_done: Callable[[Part], bool],
    do: Callable[[Part], None],
    on_wait: Callable[[str], None],
) -> None:
    """Calls `do` for the parts that are not done: first those that no other process is at, then, waiting, the rest.

    What another process has done meanwhile is left alone; what it began and did not end, because it died, is done here.
    """
    parts = list(parts)
    for wait in (False, True):
        for part in parts:
            if is_done(part):
                continue
            if wait:
                on_wait(name(part))
            with alone(out, name(part), wait=wait) as mine:
                if mine and not is_done(part):
                    do(part)
