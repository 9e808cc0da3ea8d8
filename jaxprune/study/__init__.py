"""Studies: train, prune, fine-tune and evaluate over a grid of networks and test sets."""

from jaxprune.study.checking import check
from jaxprune.study.configuration import (
    ArmConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    Network,
    StudyConfig,
    TrainConfig,
    config_hash,
    networks,
)
from jaxprune.study.parts import unfinished
from jaxprune.study.planning import ArmPlan, Estimate, estimate, plan, plan_text
from jaxprune.study.protocol import paper_protocol
from jaxprune.study.running import Progress, run

__all__ = [
    "ArmConfig",
    "ArmPlan",
    "DataConfig",
    "Estimate",
    "EvaluationConfig",
    "ModelConfig",
    "Network",
    "Progress",
    "StudyConfig",
    "TrainConfig",
    "check",
    "config_hash",
    "estimate",
    "networks",
    "paper_protocol",
    "plan",
    "plan_text",
    "run",
    "unfinished",
]
