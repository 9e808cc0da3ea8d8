"""Training and sparse fine-tuning on the device."""

from jaxprune.training.fitting import BATCH_SIZE, EpochRecord, fit, num_steps
from jaxprune.training.optimizers import LEARNING_RATE, MOMENTUM, SCHEDULES, WEIGHT_DECAY, sgd

__all__ = [
    "BATCH_SIZE",
    "LEARNING_RATE",
    "MOMENTUM",
    "SCHEDULES",
    "WEIGHT_DECAY",
    "EpochRecord",
    "fit",
    "num_steps",
    "sgd",
]
