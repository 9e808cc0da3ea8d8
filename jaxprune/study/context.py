"""What the units of one run share: the plan, the images, the run folder; and how processes divide the work."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import optax
from etils import epath

from jaxprune import data, files
from jaxprune.devices import processes
from jaxprune.results import study_file
from jaxprune.study.configuration import TrainConfig
from jaxprune.study.planning import Plan
from jaxprune.study.progress import Ledger

# Processes that have nothing to train wait for those that do; one that dies is noticed long before.
_TRAINING_TIMEOUT_S = 7 * 24 * 3600


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """What the units of one run share.

    Attributes:
      plan: of the whole study.
      out: the run folder.
      train, validation, test: the images.
      optimizers: one per kind of training; the training step is compiled once per optimizer object.
      about: what every row says of device and versions.
      ledger: what is done.
    """

    plan: Plan
    out: epath.Path
    train: data.Dataset
    validation: data.Dataset | None
    test: data.Dataset
    optimizers: dict[TrainConfig, optax.GradientTransformation]
    about: dict[str, str]
    ledger: Ledger


def is_joined() -> bool:
    """Whether several processes work on every part together; they must all take the same parts then."""
    return jax.process_count() > 1


def share(run: Context, names: Iterable[str], *, is_done: Callable[[str], bool], do: Callable[[str], None]) -> None:
    """Does those parts that are not done, each of which leaves a file or folder; waits for other processes."""
    names = list(names)
    if is_joined():
        for name in names:
            if not is_done(name):
                do(name)
    else:
        files.do_each(
            run.out,
            names,
            name=str,
            is_done=is_done,
            do=do,
            on_wait=lambda name: run.ledger.tell(f"waiting for another process at {name}"),
        )
    for name in names:
        run.ledger.tell(f"{name} is there", [name], 1.0)


def wait_for_trainings(what: str) -> None:
    """Waits for the process that trains."""
    processes.barrier(what, timeout_s=_TRAINING_TIMEOUT_S)


@contextlib.contextmanager
def timed(run: Context, part: str) -> Iterator[None]:
    """Adds the seconds that its block takes to `study.json`, over all calls and processes that a run took."""
    start = time.monotonic()
    yield
    if processes.is_main_process():
        study_file.add_seconds(run.out, part, time.monotonic() - start)
