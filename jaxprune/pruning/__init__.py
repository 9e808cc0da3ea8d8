"""Pruning: masks for the weights of a network, with jaxpruner's names, on current JAX.

In one call, the study's weight pruning of a classifier (anything with `params` and `replace`):

    sparse, masks = pruning.prune(classifier, method="weight", sparsity=0.7)
    tx = pruning.masked_optimizer(optax.sgd(1e-3, momentum=0.9), masks)   # fine-tune: pruned weights stay exactly 0

`METHODS` has a row per method. Methods of weights prune the kernels of 2-D convolutions, as published; for a network of
attention layers, `prune(..., filter_fn="kernels")`.

With an updater, on any parameters (Linen dicts, `nnx.State`, lists, one array), now or along training:

    pruner = pruning.GlobalMagnitudePruning(sparsity=0.7, filter_fn=pruning.conv_kernels, use_normalization=False)
    params, masks = pruner.instant_sparsify(params)
    tx = pruning.pruned_optimizer(pruner, optax.sgd(0.1))

Masks are trees like the parameters: uint8, 1 = keep, None where nothing is pruned. They save no time by themselves;
physically smaller networks do. For a network that declares its channel groups, whole channels go and the rest closes
up:

    sparse, masks = pruning.prune(classifier, method="filter_l1", sparsity=0.5)
    small = pruning.compact(sparse, masks)            # the same logits, fewer channels
    print(pruning.summarize(small, before=classifier))

**Coming from jaxpruner**, which JAX 0.6 and later broke, change the import, and nothing else:

    import jaxprune.pruning as jaxpruner
    from jaxprune.pruning import sparsity_distributions, sparsity_schedules, sparsity_types

Names, signatures, the state, mask format and results are the same, under jit, vmap and pmap. What you gain:

- `nnx.State` and any other pytree as parameters; filters get the path as strings in all of them.
- K sparsities in one call: `jax.vmap(lambda s: make_pruner(s).instant_sparsify(params))(sparsities)`, and many models
  at once: `jax.vmap(pruner.instant_sparsify)(stacked_params)`.
- The top-k without a sort: 25 million weights are ranked in a fraction of a second on a CPU, ties as before.
- `pruned_optimizer` and `masked_optimizer`, with which `post_gradient_update` cannot be forgotten; and an infinite or
  NaN weight is pruned to 0 like any other.
- Packed masks everywhere, in SET and RigL too; masks in files; LAMP; summaries in bytes.
- Mistakes that passed in silence are errors: a sparsity outside [0, 1), a filter of one's own that selects nothing, a
  `custom_sparsity_map` entry that names no parameter, masks of other parameters, blocks larger than the array.

What differs: NaN scores rank last for every sparsity type; blocks that leave less than half a block at an edge, for
which jaxpruner gave masks of a wrong shape, work; the words of messages. Updaters without `rng_seed` still all use
`PRNGKey(8)`: give a key. Updater objects of the original library itself work in `prune` and `pruned_optimizer`, see
`original`.
"""

from jaxprune.pruning import (
    algorithms,
    api,
    base_updater,
    filters,
    mask_calculator,
    original,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
    utils,
)
from jaxprune.pruning.algorithms import (
    SET,
    GlobalMagnitudePruning,
    GlobalSaliencyPruning,
    LampPruning,
    MagnitudePruning,
    RandomPruning,
    RigL,
    SaliencyPruning,
    StaticRandomSparse,
    SteMagnitudePruning,
    SteRandomPruning,
)
from jaxprune.pruning.api import (
    ALGORITHM_REGISTRY,
    all_algorithm_names,
    create_updater_from_config,
    register_algorithm,
)
from jaxprune.pruning.base_updater import BaseUpdater, NoPruning, SparseState, apply_mask
from jaxprune.pruning.by_name import prune
from jaxprune.pruning.compaction import compact
from jaxprune.pruning.criteria import CRITERIA, channel_scores
from jaxprune.pruning.filters import FILTERS, conv_kernels, kernels, more_than_one_axis, selected_share
from jaxprune.pruning.latency import Latency, compare_latency, latency_ms
from jaxprune.pruning.mask_files import load_masks, save_masks
from jaxprune.pruning.masking import (
    MaskedOptimizerState,
    current_masks,
    mask_params,
    masked_optimizer,
    pruned_optimizer,
)
from jaxprune.pruning.methods import (
    ALIASES,
    METHODS,
    STRUCTURED_METHODS,
    Method,
    canonical_name,
    default_layers,
    find_method,
    methods_with,
)
from jaxprune.pruning.operations import multiply_accumulates
from jaxprune.pruning.sparsity_schedules import (
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)
from jaxprune.pruning.sparsity_types import SparsityType
from jaxprune.pruning.structured import GLOBAL, PER_LAYER, channel_masks, prune_channels
from jaxprune.pruning.summary import (
    Summary,
    intersect_masks,
    mask_overlap,
    summarize,
    summarize_intersection,
    summarize_sparsity,
)

__all__ = [
    "ALGORITHM_REGISTRY",
    "ALIASES",
    "CRITERIA",
    "FILTERS",
    "GLOBAL",
    "METHODS",
    "PER_LAYER",
    "SET",
    "STRUCTURED_METHODS",
    "BaseUpdater",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "LampPruning",
    "Latency",
    "MagnitudePruning",
    "MaskedOptimizerState",
    "Method",
    "NoPruning",
    "NoUpdateSchedule",
    "OneShotSchedule",
    "PeriodicSchedule",
    "PolynomialSchedule",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "SparseState",
    "SparsityType",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteRandomPruning",
    "Summary",
    "algorithms",
    "all_algorithm_names",
    "api",
    "apply_mask",
    "base_updater",
    "canonical_name",
    "channel_masks",
    "channel_scores",
    "compact",
    "compare_latency",
    "conv_kernels",
    "create_updater_from_config",
    "current_masks",
    "default_layers",
    "filters",
    "find_method",
    "intersect_masks",
    "kernels",
    "latency_ms",
    "load_masks",
    "mask_calculator",
    "mask_overlap",
    "mask_params",
    "masked_optimizer",
    "methods_with",
    "more_than_one_axis",
    "multiply_accumulates",
    "original",
    "prune",
    "prune_channels",
    "pruned_optimizer",
    "register_algorithm",
    "save_masks",
    "selected_share",
    "sparsity_distributions",
    "sparsity_schedules",
    "sparsity_types",
    "summarize",
    "summarize_intersection",
    "summarize_sparsity",
    "utils",
]
