"""How to train: the options that `fit` and `fit_many` share, checked in one place."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxprune import data, models
from jaxprune.training.resume import KEPT

BATCH_SIZE = 64  # the study's protocol (STUDY)
# In one program, so that an accelerator does not wait for Python between steps; on CPU a loop is far slower.
STEPS_PER_DISPATCH = 32


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `fit`, which documents them."""

    batch_size: int = BATCH_SIZE
    augment: Callable | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float | None = None
    precision: str | None = None
    steps_per_dispatch: int | None = None
    devices: Sequence[jax.Device] | None = None
    validation: data.Dataset | None = None
    checkpoint_dir: object = None
    checkpoint_every: int | None = None
    checkpoints_kept: int = KEPT

    def check(self, *, epochs: int) -> None:
        """Raises a ValueError for a value outside its range, or of another type."""
        values = {"epochs": epochs} | {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, (is_fine, allowed) in _ALLOWED.items():
            if not is_fine(values[name]):
                raise ValueError(f"{name}={values[name]!r}; it must be {allowed}")
        if self.checkpoint_every is not None and self.checkpoint_dir is None:
            raise ValueError(f"checkpoint_every={self.checkpoint_every} needs checkpoint_dir, the folder to write to")

    def resolved_steps_per_dispatch(self) -> int:
        """Returns `steps_per_dispatch`, or the default of the devices."""
        if self.steps_per_dispatch is not None:
            return self.steps_per_dispatch
        platform = self.devices[0].platform if self.devices else jax.default_backend()
        return 1 if platform == "cpu" else STEPS_PER_DISPATCH


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite real number, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)


def is_count(value: Any, *, least: int = 0) -> bool:
    """Returns whether a value is a whole number of at least `least`."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    return is_count(value, least=1)


def _is_positive_or_none(value: Any) -> bool:
    return value is None or _is_positive(value)


# Of each option that has limits: what is fine, and how messages say it.
_ALLOWED = {
    "epochs": (is_count, "a whole number, 0 or more"),
    "batch_size": (_is_positive, "a whole number, 1 or more"),
    "label_smoothing": (lambda value: is_number(value) and 0 <= value < 1, "0 (off) or more, and less than 1"),
    "mixup": (lambda value: is_number(value) and value >= 0, "0 (off) or more: the alpha of its Beta distribution"),
    "ema": (
        lambda value: value is None or (is_number(value) and 0 < value < 1),
        "between 0 and 1: the decay per step, such as 0.999; None for none",
    ),
    "precision": (lambda value: value in (None, *models.PRECISIONS), f"one of {', '.join(models.PRECISIONS)}, or None"),
    "steps_per_dispatch": (_is_positive_or_none, "1 or more, or None"),
    "checkpoint_every": (_is_positive_or_none, "1 or more steps, or None"),
    "checkpoints_kept": (_is_positive, "1 or more"),
}
