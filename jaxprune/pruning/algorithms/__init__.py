"""The pruning and sparse training algorithms."""

from jaxprune.pruning.algorithms import global_pruners, lamp, pruners, sparse_trainers, ste
from jaxprune.pruning.algorithms.global_pruners import GlobalMagnitudePruning, GlobalSaliencyPruning
from jaxprune.pruning.algorithms.lamp import LampPruning
from jaxprune.pruning.algorithms.pruners import MagnitudePruning, RandomPruning, SaliencyPruning
from jaxprune.pruning.algorithms.sparse_trainers import SET, RigL, StaticRandomSparse
from jaxprune.pruning.algorithms.ste import SteMagnitudePruning, SteRandomPruning

__all__ = [
    "SET",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "LampPruning",
    "MagnitudePruning",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteRandomPruning",
    "global_pruners",
    "lamp",
    "pruners",
    "sparse_trainers",
    "ste",
]
