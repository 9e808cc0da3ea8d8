"""Training and sparse fine-tuning on the device."""

from jaxprune.training.batch_norm import recalibrate_batch_norm
from jaxprune.training.fitting import BATCH_SIZE, EpochRecord, fit, num_steps
from jaxprune.training.optimizers import LEARNING_RATE, MOMENTUM, SCHEDULES, WEIGHT_DECAY, sgd, slimming_penalty

__all__ = [
    "BATCH_SIZE",
    "LEARNING_RATE",
    "MOMENTUM",
    "SCHEDULES",
    "WEIGHT_DECAY",
    "EpochRecord",
    "fit",
    "num_steps",
    "recalibrate_batch_norm",
    "sgd",
    "slimming_penalty",
]
