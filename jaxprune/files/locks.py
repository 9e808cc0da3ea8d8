"""Locks in a folder, and work that processes share by them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import filelock
from etils import epath

from jaxprune.files import paths

LOCKS_FOLDER = ".locks"
Item = TypeVar("Item")


@contextlib.contextmanager
def lock(folder, name: str, *, wait: bool) -> Iterator[bool]:
    """Holds the lock `name` of a folder for the block. Yields False if another process holds it and `wait` is false.

    With `wait`, blocks until it is free. The operating system releases a lock when its process dies, however it does.
    Object stores have no locks: there every process gets True, and jobs that share a folder should be given shards.
    """
    folder = epath.Path(folder)
    if paths.is_remote(folder):
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
