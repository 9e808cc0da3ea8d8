"""What training reports after each epoch."""

from typing import NamedTuple


class EpochRecord(NamedTuple):
    """What `fit` tells its caller after each epoch.

    Attributes:
      epoch: counts from 1.
      epochs: how many there will be.
      loss: mean of what was minimised, over the epoch's batches.
      accuracy: on the augmented training batches, as they were before each step; with mixup, of the dominating label.
      images_per_second: training alone, without compilation and validation.
      seconds_left: for the training of the remaining epochs at the pace of this one.
      validation_accuracy, validation_nll: of the weights that `fit` would return now; None without `validation`.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    validation_accuracy: float | None = None
    validation_nll: float | None = None


def num_steps(num_examples: int, *, epochs: int, batch_size: int) -> int:
    """Returns how many steps `fit` takes: full batches only, at least one an epoch."""
    return epochs * max(1, num_examples // batch_size)
