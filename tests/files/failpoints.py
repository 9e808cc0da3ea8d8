"""Stops a writer at each of the moments at which `jaxprune.files` changes the disk."""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys

from jaxprune import files


class Stopped(Exception):
    """Raised at a failpoint."""


@contextlib.contextmanager
def stop_at(number, how="exception"):
    """Stops the program at the `number`-th moment, by an exception or as SIGKILL does; yields the moments seen."""
    seen, original = [], files._moment

    def moment(name, path):
        seen.append((name, str(path)))
        if len(seen) == number:
            if how == "exit":
                os._exit(77)
            raise Stopped(name)

    files._moment = moment
    try:
        yield seen
    finally:
        files._moment = original


@contextlib.contextmanager
def small_files(limit_bytes):
    """Lets no file of this process grow beyond a size, as a full disk would not; None for no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, before if limit_bytes is None else (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def moments_of(work):
    """Returns the moments that `work()` goes through when nothing stops it."""
    with stop_at(None) as seen:
        work()
    return seen


def killed_at_every_moment(folder, code, count, before="pass"):
    """Runs `code` in forked processes that die at moments 1 to `count`; `{folder}/<number>` is its working folder.

    `code` is Python source; it runs once without a stop in `{folder}/0`. `before` is source that runs first, once, in
    the process that forks; `code` sees its names. Yields (number, folder, exit code).
    """
    root = pathlib.Path(folder)
    program = f"""
import os, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import failpoints
{before}
def work():
{chr(10).join("    " + line for line in code.splitlines())}
for number in range({count} + 1):
    place = os.path.join({str(root)!r}, str(number))
    os.makedirs(place, exist_ok=True)
    child = os.fork()
    if child == 0:
        os.chdir(place)
        with failpoints.stop_at(number or None, "exit"):
            work()
        os._exit(0)
    print(number, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        number, code = map(int, line.split())
        yield number, root / str(number), code
