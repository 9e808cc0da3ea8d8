"""The pruning and sparse training algorithms."""

from jaxprune.pruning.algorithms.global_pruners import GlobalMagnitudePruning, GlobalSaliencyPruning
from jaxprune.pruning.algorithms.pruners import MagnitudePruning, RandomPruning, SaliencyPruning

__all__ = [
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "MagnitudePruning",
    "RandomPruning",
    "SaliencyPruning",
]
