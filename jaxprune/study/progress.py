"""How much of a run is done: a ledger of its parts, each weighed by what it costs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxprune.study.planning import Plan, Unit

# A training step costs about three forward passes; used to weigh the parts of the progress bar only.
_TRAINING_COST = 3


class Progress(NamedTuple):
    """What `run` tells its caller: what it is doing, and how much of the whole is done, in [0, 1]."""

    description: str
    fraction: float


class Ledger:
    """What is done of each part of a run; a part is named as the checkpoint folder or rows file that it leaves.

    Args:
      costs: of each part, in forward passes of one image.
      on_progress: is told at every entry.
    """

    def __init__(self, costs: dict[str, float], on_progress: Callable[[Progress], None]):
        self._costs, self._on_progress = costs, on_progress
        self._done = dict.fromkeys(costs, 0.0)

    def tell(self, description: str, parts: Sequence[str] = (), fraction: float = 0.0) -> None:
        """Reports what is being done, and that so much of some parts is done."""
        self._done |= {part: self._costs[part] * fraction for part in parts}
        done = sum(self._done.values()) / max(1.0, sum(self._costs.values()))
        self._on_progress(Progress(description, min(1.0, done)))


def costs(plan: Plan, units: Sequence[Unit], *, num_train: int, num_test: int) -> dict[str, float]:
    """Returns what each part of some units costs, in forward passes of one image."""
    found = {}
    for unit in units:
        found |= {each.name: _TRAINING_COST * each.how.epochs * num_train for each in unit.trainings}
        for name, severities in plan.test_sets.items():
            found[unit.rows_name(name)] = len(severities) * num_test * len(unit.evaluated)
    return found


def parts_of(plan: Plan, unit: Unit) -> list[str]:
    """Returns the names of all parts of a unit."""
    return [*(each.name for each in unit.trainings), *map(unit.rows_name, plan.test_sets)]
