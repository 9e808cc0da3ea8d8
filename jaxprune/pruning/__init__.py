"""Pruning: masks for the weights of a network, with jaxpruner's names, on current JAX."""

from jaxprune.pruning import (
    algorithms,
    base_updater,
    filters,
    mask_calculator,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
)
from jaxprune.pruning.algorithms import (
    GlobalMagnitudePruning,
    GlobalSaliencyPruning,
    MagnitudePruning,
    RandomPruning,
    SaliencyPruning,
)
from jaxprune.pruning.base_updater import BaseUpdater, NoPruning, SparseState, apply_mask
from jaxprune.pruning.filters import FILTERS, conv_kernels, kernels, more_than_one_axis
from jaxprune.pruning.masking import MaskedOptimizerState, mask_params, masked_optimizer, pruned_optimizer
from jaxprune.pruning.methods import METHODS, prune
from jaxprune.pruning.sparsity_schedules import (
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)
from jaxprune.pruning.sparsity_types import SparsityType
from jaxprune.pruning.summary import summarize_sparsity

__all__ = [
    "FILTERS",
    "METHODS",
    "BaseUpdater",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "MagnitudePruning",
    "MaskedOptimizerState",
    "NoPruning",
    "NoUpdateSchedule",
    "OneShotSchedule",
    "PeriodicSchedule",
    "PolynomialSchedule",
    "RandomPruning",
    "SaliencyPruning",
    "SparseState",
    "SparsityType",
    "algorithms",
    "apply_mask",
    "base_updater",
    "conv_kernels",
    "filters",
    "kernels",
    "mask_calculator",
    "mask_params",
    "masked_optimizer",
    "more_than_one_axis",
    "prune",
    "pruned_optimizer",
    "sparsity_distributions",
    "sparsity_schedules",
    "sparsity_types",
    "summarize_sparsity",
]
