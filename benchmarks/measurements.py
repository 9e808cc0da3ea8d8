"""What the scripts write with `--json FILE`: one JSON line per comparison, which `page.py` turns into a page."""

import datetime
import json
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Sequence

import jax
import numpy as np

QUARTILES = (25, 50, 75)


def add(
    path: str | None,
    name: str,
    *,
    against: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    work: float | None = None,
    unit: str = "images",
) -> None:
    """Appends a comparison to a file, if one is given.

    `ours` and `theirs` are seconds, in pairs of neighbours in time; how many times as fast ours is is taken pair by
    pair. With `work`, the `unit`s that are done in that time, the page shows units per second.
    """
    quotients = np.divide(theirs, ours)
    _append(
        path,
        name=name,
        against=against,
        ours=float(np.median(ours)),
        theirs=float(np.median(theirs)),
        ours_quartiles=np.percentile(ours, QUARTILES).tolist(),
        theirs_quartiles=np.percentile(theirs, QUARTILES).tolist(),
        times_as_fast=np.percentile(quotients, QUARTILES).tolist(),
        pairs=len(ours),
        work=work,
        unit=unit if work else "seconds",
    )


def add_absent(path: str | None, name: str, *, against: str, why: str) -> None:
    """Appends that a comparison could not be made."""
    _append(path, name=name, against=against, absent=" ".join(why.split()))


def _append(path: str | None, **content) -> None:
    if path is None:
        return
    line = content | {"command": command(), "date": datetime.date.today().isoformat(), "machine": machine()}
    with pathlib.Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


def command() -> str:
    """Returns the command line that repeats this run, without its `--json`."""
    arguments = sys.argv[1:]
    if "--json" in arguments:
        place = arguments.index("--json")
        del arguments[place : place + 2]
    return shlex.join(["python", f"benchmarks/{pathlib.Path(sys.argv[0]).name}", *arguments])


def machine() -> str:
    """Returns the processor, its number of cores, the device and the version of JAX."""
    device = jax.devices()[0]
    kind = "" if device.platform == "cpu" else f", {jax.device_count()} x {device.device_kind}"
    return f"{_processor()}, {os.cpu_count()} cores{kind}, JAX {jax.__version__}"


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
