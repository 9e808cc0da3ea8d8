"""Training and sparse fine-tuning on the device."""

from jaxprune.training.batch_norm import recalibrate_batch_norm
from jaxprune.training.fitting import fit
from jaxprune.training.interrupts import EXIT_TERMINATED, Interrupted
from jaxprune.training.many import MODEL_AXES, fit_many
from jaxprune.training.optimizers import LEARNING_RATE, MOMENTUM, SCHEDULES, WEIGHT_DECAY, sgd, slimming_penalty
from jaxprune.training.options import BATCH_SIZE
from jaxprune.training.records import EpochRecord, num_steps
from jaxprune.training.resume import delete_checkpoints
from jaxprune.training.sparse import fit_sparse

__all__ = [
    "BATCH_SIZE",
    "EXIT_TERMINATED",
    "LEARNING_RATE",
    "MODEL_AXES",
    "MOMENTUM",
    "SCHEDULES",
    "WEIGHT_DECAY",
    "EpochRecord",
    "Interrupted",
    "delete_checkpoints",
    "fit",
    "fit_many",
    "fit_sparse",
    "num_steps",
    "recalibrate_batch_norm",
    "sgd",
    "slimming_penalty",
]
