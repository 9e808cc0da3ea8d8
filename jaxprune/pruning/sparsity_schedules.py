"""When masks change, and how sparse they are then."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from jaxprune.pruning._annotations import Sparsities

IsUpdate = bool | Bool[Array, ""]


@runtime_checkable
class Schedule(Protocol):
    """What an updater asks of its scheduler."""

    def get_sparsity_at_step(self, target_sparsities: Any, step: Any) -> Any:
        """Returns the tree of sparsities that the masks have when they change at `step`."""

    def is_mask_update_iter(self, step: Any) -> Any:
        """Returns whether the masks change at `step`."""


@dataclasses.dataclass(frozen=True)
class NoUpdateSchedule:
    """Masks never change; the sparsity is the target."""

    def get_sparsity_at_step(self, target_sparsities: Sparsities, step: ArrayLike) -> Sparsities:
        """Returns the tree of sparsities that the masks have when they change at `step`."""
        return target_sparsities

    def is_mask_update_iter(self, step: ArrayLike | None) -> IsUpdate:
        """Returns whether the masks change at `step`."""
        return False


@dataclasses.dataclass(frozen=True)
class OneShotSchedule(NoUpdateSchedule):
    """Masks change once, at `target_step`."""

    target_step: int

    def is_mask_update_iter(self, step: ArrayLike | None) -> IsUpdate:
        """Returns whether `step` is the target step."""
        return step == self.target_step


@dataclasses.dataclass(frozen=True)
class PeriodicSchedule(NoUpdateSchedule):
    """Masks change at every multiple of `update_freq` from the start step to the end step, both included.

    An end step of None means that they change for ever.

    >>> schedule = PeriodicSchedule(update_freq=2, update_start_step=3, update_end_step=6)
    >>> [step for step in range(9) if schedule.is_mask_update_iter(step)]
    [4, 6]
    """

    update_freq: int
    update_start_step: int
    update_end_step: int | None

    def is_mask_update_iter(self, step: ArrayLike | None) -> IsUpdate:
        """Returns whether the masks change at `step`; never when the step is None."""
        if step is None:
            return False
        is_update = jnp.logical_and(step % self.update_freq == 0, step >= self.update_start_step)
        if self.update_end_step is not None:
            is_update = jnp.logical_and(is_update, step <= self.update_end_step)
        return is_update


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule(PeriodicSchedule):
    r"""Sparsity grows from 0 to the target, fast at first (Zhu & Gupta 2017, cubic by default).

    $$s_t = s \, (1 - (1 - p)^{power}), \quad p = \mathrm{clip}(t + 1 - start, 0, end - start) / (end - start)$$

    and p = 1 when start = end. Raises `ValueError` when the end comes before the start or is None.

    >>> schedule = PolynomialSchedule(update_freq=1, update_start_step=0, update_end_step=4)
    >>> [round(schedule.get_sparsity_at_step({"w": 0.8}, step)["w"].item(), 4) for step in range(5)]
    [0.4625, 0.7, 0.7875, 0.8, 0.8]
    """

    power: int = 3

    def get_sparsity_at_step(self, target_sparsities: Sparsities, step: ArrayLike) -> Sparsities:
        """Returns the tree of sparsities at `step`; None targets stay None."""
        start, end = self.update_start_step, self.update_end_step
        if end is None or end < start:
            raise ValueError(
                f"a polynomial schedule needs an update_end_step at or after its update_start_step, "
                f"got start {start} and end {end}; use PeriodicSchedule for a constant sparsity without an end"
            )
        if end == start:
            progress = 1.0
        else:
            length = float(end - start)
            progress = jnp.clip(jnp.asarray(step + 1 - start, dtype=float), 0.0, length) / length
        return jax.tree.map(lambda target: target * (1.0 - (1.0 - progress) ** self.power), target_sparsities)
