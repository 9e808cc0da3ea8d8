"""Stops a writer at each of the moments at which `jaxprune.files` changes the disk."""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).parent.parent.parent


class Stopped(Exception):
    """Raised at a failpoint."""


@contextlib.contextmanager
def stop_at(number, how="exception"):
    """Stops the program at the `number`-th moment, by an exception or as SIGKILL does; yields the moments seen."""
    from jaxprune.files import disk

    seen, original = [], disk.moment

    def moment(name, path):
        seen.append((name, str(path)))
        if len(seen) == number:
            if how == "exit":
                os._exit(77)
            raise Stopped(name)

    disk.moment = moment
    try:
        yield seen
    finally:
        disk.moment = original


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


def start_processes(code, count):
    """Starts `count` processes that run Python source at once, each with its `number`; returns their common parent.

    Not forked from here: a process in which JAX runs must not be forked.
    """
    program = f"""
import os, sys, traceback
sys.path.insert(0, {str(ROOT)!r})
from jaxprune import files
def work(number):
{textwrap.indent(textwrap.dedent(code), "    ")}
children = []
for number in range({count}):
    child = os.fork()
    if child == 0:
        try:
            work(number)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], **pipes)


def printed_by(process):
    """Returns the lines that processes print, once all have ended, which they must do in order."""
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed.splitlines()


def killed_at_every_moment(folder, code, count, before="pass"):
    """Runs `code` in forked processes that die at moments 1 to `count`; `{folder}/<number>` is its working folder.

    `code` is Python source; it runs once without a stop in `{folder}/0`. `before` is source that runs first, once, in
    the process that forks; `code` sees its names. Yields (number, folder, exit code).
    """
    for place, number, exit_code in killed_at_all(folder, {"": (code, count)}, before):
        yield number, place, exit_code


def killed_at_all(folder, works, before="pass"):
    """Does as `killed_at_every_moment` for several works, by name a code and a count, in one process that forks.

    The working folders are `{folder}/<name>/<number>`. Yields (working folder, number, exit code).
    """
    root = pathlib.Path(folder)
    functions = "".join(
        f"def work{index}():\n{textwrap.indent(textwrap.dedent(code), '    ')}\n"
        for index, (code, _) in enumerate(works.values())
    )
    order = [(name, index, count) for index, (name, (_, count)) in enumerate(works.items())]
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.files import failpoints
{textwrap.dedent(before)}
{functions}
for name, index, count in {order!r}:
    for number in range(count + 1):
        place = os.path.join({str(root)!r}, name, str(number))
        os.makedirs(place, exist_ok=True)
        child = os.fork()
        if child == 0:
            os.chdir(place)
            with failpoints.stop_at(number or None, "exit"):
                globals()[f"work{{index}}"]()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), number, place, flush=True)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        exit_code, number, place = line.split(" ", 2)
        assert int(exit_code) in (0, 77), done.stderr
        yield pathlib.Path(place), int(number), int(exit_code)
