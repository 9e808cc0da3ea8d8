"""Studies: train, prune, fine-tune and evaluate over a grid of networks and test sets."""

from jaxprune.study.configuration import (
    ArmConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    StudyConfig,
    TrainConfig,
    config_hash,
)
from jaxprune.study.dry_run import ArmPlan, Estimate, estimate, plan, plan_text
from jaxprune.study.network import Network
from jaxprune.study.parts import unfinished
from jaxprune.study.planning import Plan, check, make_plan, networks
from jaxprune.study.progress import Progress
from jaxprune.study.protocol import paper_protocol
from jaxprune.study.running import run

__all__ = [
    "ArmConfig",
    "ArmPlan",
    "DataConfig",
    "Estimate",
    "EvaluationConfig",
    "ModelConfig",
    "Network",
    "Plan",
    "Progress",
    "StudyConfig",
    "TrainConfig",
    "check",
    "config_hash",
    "estimate",
    "make_plan",
    "networks",
    "paper_protocol",
    "plan",
    "plan_text",
    "run",
    "unfinished",
]
