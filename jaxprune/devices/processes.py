"""Several processes (hosts) as one: start-up, agreement, steps in common, and shards of independent jobs.

Every process runs the same program on the same arguments. `start` comes before anything else that uses JAX; from then
on `jax.devices()` are those of all processes, and `evaluation.evaluate` spreads its images over them.
"""

import contextlib
import itertools
import json
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import jax

# The coordination service that start-up brings up; it has timeouts, which jax.experimental.multihost_utils lacks.
from jax._src import distributed as _jax_distributed

from jaxprune import __version__

Item = TypeVar("Item")

# kind -> the name of JAX's detection method; None lets JAX try all it knows.
KINDS = {
    "auto": None,
    "tpu": "gcetpu",
    "gke": "gketpu",
    "slurm": "slurm",
    "openmpi": "ompi",
    "mpi4py": "mpi4py",
    "kubernetes": "deactivate",
    "address": "deactivate",
}
# Set by Kubernetes in every pod of an indexed job.
_POD_INDEX = "JOB_COMPLETION_INDEX"
# A process that has died is noticed after this time, so that all have stopped within a minute.
HEARTBEAT_TIMEOUT_S = 20
START_TIMEOUT_S = 300
_RETRY_S = 1
# A process that lives but is late may be writing files.
STEP_TIMEOUT_S = 600
# What a failed collective or barrier says, depending on who notices first.
_LOSS_WORDS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "heartbeat", "Connection", "Barrier")
_counter = itertools.count()


class LostProcessError(RuntimeError):
    """Another process has died, hangs, or cannot be reached; what was finished is kept."""


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    kind: str | None = None,
    *,
    timeout_s: int = START_TIMEOUT_S,
) -> None:
    """Joins this process to the others; call it once, in every process, before anything that uses a device.

    On Cloud TPU and under SLURM or Open MPI no argument is needed. Elsewhere give all three, the same `coordinator`
    and `num_processes` everywhere; in a Kubernetes indexed job `process_id` is read from the pod.

    Args:
      coordinator: "host:port" of process 0, as the others reach it; the port is free there.
      num_processes: how many processes there are.
      process_id: which this is, from 0.
      kind: a key of `KINDS`; by default "address" with a coordinator, otherwise "auto".
      timeout_s: how long to wait for the others.

    Raises:
      ValueError: arguments that are missing or contradict each other, no cluster found, or processes that run other
        versions of the software.
      RuntimeError: JAX has been used already, or is started already.
      LostProcessError: nobody answers at `coordinator`. Where process 0 is there and others are missing, JAX ends the
        process itself, saying DEADLINE_EXCEEDED.
    """
    kind = kind or ("address" if coordinator else "auto")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of cluster {kind!r}; known: {', '.join(KINDS)}")
    if jax.distributed.is_initialized():
        raise RuntimeError("devices.start() was called before; one call joins all processes")
    if process_id is None and kind in ("kubernetes", "address") and _POD_INDEX in os.environ:
        process_id = int(os.environ[_POD_INDEX])
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if KINDS[kind] == "deactivate" and missing:
        raise ValueError(f"kind {kind!r} needs {', '.join(missing)} too; give coordinator as 'host:port' of process 0")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"coordinator {coordinator!r} has no port; give 'host:port', such as '10.0.0.1:1234'")
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"num_processes={num_processes}; give 1 or more")
    if None not in (num_processes, process_id) and not 0 <= process_id < num_processes:
        raise ValueError(f"process_id={process_id} of num_processes={num_processes}; give 0 to {num_processes - 1}")
    if coordinator is not None and process_id:
        _reach(coordinator, process_id, timeout_s)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=KINDS[kind],
            initialization_timeout=timeout_s,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_S,
            shutdown_timeout_seconds=HEARTBEAT_TIMEOUT_S,
        )
    except ValueError as error:
        raise ValueError(
            f"no cluster of kind {kind!r} was found ({error}); give coordinator, num_processes and process_id, or run "
            f"as one process"
        ) from error
    agree("software", {"jaxprune": __version__, "jax": jax.__version__, "python": platform.python_version()})


def _reach(coordinator: str, process_id: int, timeout_s: int) -> None:
    """Returns when somebody listens at `coordinator`: JAX would abort the interpreter where nobody does."""
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_RETRY_S).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LostProcessError(
                    f"process {process_id} found nobody at {coordinator} within {timeout_s} s ({error}); start process "
                    f"0 too, and give its host's name or address as the others reach it, with an open port"
                ) from error
            time.sleep(_RETRY_S)


def is_main_process() -> bool:
    """Returns whether this process writes the files: process 0 does."""
    return jax.process_index() == 0


def agree(subject: str, plan: Mapping[str, str]) -> None:
    """Raises a ValueError, in every process, unless all of them pass the same `plan`; says where they differ."""
    processes = _jax_distributed.global_state.num_processes
    if processes == 1:
        return
    client, folder = _jax_distributed.global_state.client, f"jaxprune/{next(_counter)}"
    client.key_value_set(f"{folder}/{_process_id()}", json.dumps(dict(plan)))
    barrier(f"the agreement on the {subject}")
    texts = [
        client.blocking_key_value_get(f"{folder}/{process}", STEP_TIMEOUT_S * 1000) for process in range(processes)
    ]
    plans = [json.loads(text) for text in texts]
    differences = [
        f"{name} is {plans[0].get(name)} in process 0, {other.get(name)} in process {process}"
        for process, other in enumerate(plans)
        for name in sorted(plans[0].keys() | other.keys())
        if plans[0].get(name) != other.get(name)
    ]
    if differences:
        raise ValueError(
            f"the processes disagree about the {subject}: {'; '.join(differences)}; start all with the same command, "
            f"files and software"
        )


def barrier(step: str, *, timeout_s: int = STEP_TIMEOUT_S) -> None:
    """Returns when every process has come to this step; all processes go through the same steps in the same order.

    Raises:
      LostProcessError: one has died, or does not come in time.
    """
    state = _jax_distributed.global_state
    if state.num_processes == 1:
        return
    try:
        state.client.wait_at_barrier(f"jaxprune/{next(_counter)}", timeout_s * 1000)
    except jax.errors.JaxRuntimeError as error:
        raise _lost(step, error) from error


@contextlib.contextmanager
def lockstep(step: str, num_processes: int) -> Iterator[None]:
    """Waits for all processes, runs its block, and says what step was lost if a process is lost in it."""
    if num_processes == 1:
        yield
        return
    barrier(step)
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not any(word in str(error) for word in _LOSS_WORDS):
            raise
        raise _lost(step, error) from error


def shard(items: Sequence[Item], part: str) -> list[Item]:
    """Returns every n-th of `items`, from the i-th: the share of job `part` = "i/n" of n jobs, i from 1.

    The jobs need not know of each other; together they have all items, each once.

    Raises:
      ValueError: `part` is no "i/n" with 1 <= i <= n.

    >>> shard(["a", "b", "c", "d", "e"], "2/3")
    ['b', 'e']
    """
    index, slash, count = part.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"shard is {part!r}; give i/n with i from 1 to n, such as 1/4")
    return list(items[int(index) - 1 :: int(count)])


def _process_id() -> int:
    return _jax_distributed.global_state.process_id


def _lost(step: str, error: Exception) -> LostProcessError:
    processes = _jax_distributed.global_state.num_processes
    return LostProcessError(
        f"process {_process_id()} of {processes} stops at {step}: another process has died, hangs, or cannot be "
        f"reached ({_first_line(error)}). Finished parts are kept; look at the logs of the others, and start all again"
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
