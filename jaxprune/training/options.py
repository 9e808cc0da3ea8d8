"""How to train: the options that `fit` and `fit_many` share, checked in one place."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

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
        """Raises a ValueError for a value outside its range."""
        if epochs < 0 or self.batch_size < 1:
            raise ValueError(f"epochs={epochs}, batch_size={self.batch_size}; epochs must be >= 0 and batch_size >= 1")
        for name, allowed, fine in (
            ("label_smoothing", "0 (off) or more, and less than 1", 0 <= self.label_smoothing < 1),
            ("mixup", "0 (off) or more: the alpha of its Beta distribution", self.mixup >= 0),
            ("ema", "between 0 and 1: the decay per step, such as 0.999; None for none", _is_decay(self.ema)),
            (
                "precision",
                f"one of {', '.join(models.PRECISIONS)}, or None",
                self.precision in (None, *models.PRECISIONS),
            ),
            ("steps_per_dispatch", "1 or more, or None", _at_least_one(self.steps_per_dispatch)),
            ("checkpoint_every", "1 or more steps, or None", _at_least_one(self.checkpoint_every)),
            ("checkpoints_kept", "1 or more", self.checkpoints_kept >= 1),
        ):
            if not fine:
                raise ValueError(f"{name}={getattr(self, name)!r}; it must be {allowed}")
        if self.checkpoint_every is not None and self.checkpoint_dir is None:
            raise ValueError(f"checkpoint_every={self.checkpoint_every} needs checkpoint_dir, the folder to write to")

    def resolved_steps_per_dispatch(self) -> int:
        """Returns `steps_per_dispatch`, or the default of the devices."""
        if self.steps_per_dispatch is not None:
            return self.steps_per_dispatch
        platform = self.devices[0].platform if self.devices else jax.default_backend()
        return 1 if platform == "cpu" else STEPS_PER_DISPATCH


def _is_decay(decay: float | None) -> bool:
    return decay is None or 0 < decay < 1


def _at_least_one(count: int | None) -> bool:
    return count is None or count >= 1
