"""Studies: train, prune, fine-tune and evaluate over a grid of networks and test sets."""

from jaxprune.study.configuration import (
    SCHEMA_VERSION,
    ArmConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    Network,
    StudyConfig,
    TrainConfig,
    check,
    config_hash,
    networks,
)
from jaxprune.study.running import Progress, run, unfinished

__all__ = [
    "SCHEMA_VERSION",
    "ArmConfig",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "Network",
    "Progress",
    "StudyConfig",
    "TrainConfig",
    "check",
    "config_hash",
    "networks",
    "run",
    "unfinished",
]
