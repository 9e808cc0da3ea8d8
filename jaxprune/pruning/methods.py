"""Pruning methods by name: one row each, which says all that anything else says or asks of the method."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxprune import names
from jaxprune.pruning import filters, moving_methods, weight_methods
from jaxprune.pruning._annotations import FilterFn, Masks, Updater
from jaxprune.pruning.criteria import CRITERIA
from jaxprune.pruning.sparsity_types import Block, NByM
from jaxprune.pruning.structured import GLOBAL, PER_LAYER, choose_groups

WEIGHT_OPTIONS, CHANNEL_OPTIONS = ("filter_fn",), ("layers", "round_to", "shift", "images", "labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A row of `METHODS`: what `prune`, studies, the dry run, the command line, messages and reports know of a method.

    Attributes:
      title: what reports and figures call it, as a part of a sentence.
      description: what it removes, in one line, with the source.
      granularity: "weights", which are masked, or "channels", which can be taken out (`names.GRANULARITIES`).
      scope: "per_layer" if every layer has a sparsity of its own, "global" if one threshold is for all layers.
      masks: of weights: `masks(params, sparsity, filter_fn, key)` returns the masks.
      criterion: of channels: a name in `CRITERIA`.
      filter_fn: of weights: which parameters it prunes unless told otherwise.
      layers: of channels: a name in `layer_choices()` that it prunes by default, where a model has it; None is all but
        residual streams.
      needs: what it needs besides the classifier: of "key", "images" and "labels".
      sparsity: the only sparsity that it has; None for any in [0, 1).
      updater: of weights, in place of `masks`, where the masks move while the network trains from the beginning:
        `updater(sparsity, filter_fn, key, num_steps)` returns what `training.fit_sparse` trains with.
    """

    title: str
    description: str
    granularity: str
    scope: str
    masks: Callable[..., Masks] | None = None
    updater: Callable[..., Updater] | None = None
    criterion: str | None = None
    filter_fn: FilterFn = filters.conv_kernels
    layers: str | None = None
    needs: tuple[str, ...] = ()
    sparsity: float | None = None

    @property
    def masks_move(self) -> bool:
        """Whether the masks change while the network trains, so that nothing can be pruned beforehand."""
        return self.updater is not None

    @property
    def removes_channels(self) -> bool:
        """Whether whole channels go, which `compact` takes out."""
        return self.granularity == names.GRANULARITY_CHANNELS

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `prune` that it takes."""
        return CHANNEL_OPTIONS if self.removes_channels else WEIGHT_OPTIONS


def _of_weights(masks: Callable[..., Masks] | None, title: str, description: str, scope: str, **fields: Any) -> Method:
    return Method(
        title=title,
        description=description,
        granularity=names.GRANULARITY_WEIGHTS,
        scope=scope,
        masks=masks,
        **fields,
    )


def _of_channels(criterion: str, title: str, description: str, scope: str, **fields: Any) -> Method:
    return Method(
        title=title,
        description=description,
        granularity=names.GRANULARITY_CHANNELS,
        scope=scope,
        criterion=criterion,
        needs=CRITERIA[criterion].needs,
        **fields,
    )


_STUDY = "study"

METHODS: dict[str, Method] = {
    "weight": _of_weights(
        weight_methods.weight,
        "weight pruning",
        "The smallest |w| of all convolution kernels together, by one threshold (Han et al. 2015).",
        GLOBAL,
    ),
    "weight_per_layer": _of_weights(
        weight_methods.weight_per_layer,
        "weight pruning per layer",
        "The smallest |w| of each convolution kernel, all at the same sparsity.",
        PER_LAYER,
    ),
    "weight_erk": _of_weights(
        weight_methods.weight_erk,
        "weight pruning at ERK sparsities",
        "The smallest |w| of each convolution kernel, at Erdos-Renyi-Kernel sparsities (Evci et al. 2020).",
        PER_LAYER,
    ),
    "lamp": _of_weights(
        weight_methods.lamp,
        "LAMP pruning",
        "The smallest layer-adaptive magnitudes of all convolution kernels, by one threshold (Lee et al. 2021).",
        GLOBAL,
    ),
    "nm_2_4": _of_weights(
        partial(weight_methods.n_of_m, pattern=NByM(2, 4)),
        "2:4 pruning",
        "The 2 smallest |w| of every 4 that follow each other along a kernel's inputs (Mishra et al. 2021).",
        PER_LAYER,
        sparsity=0.5,
    ),
    "nm_1_4": _of_weights(
        partial(weight_methods.n_of_m, pattern=NByM(1, 4)),
        "1:4 pruning",
        "The 3 smallest |w| of every 4 that follow each other along a kernel's inputs (Zhou et al. 2021).",
        PER_LAYER,
        sparsity=0.75,
    ),
    "block_4_4": _of_weights(
        partial(weight_methods.blocks, pattern=Block((4, 4))),
        "block pruning, 4 x 4",
        "The 4 x 4 blocks of inputs x outputs with the smallest mean |w| of each kernel (Narang et al. 2017).",
        PER_LAYER,
    ),
    "set": _of_weights(
        None,
        "SET",
        "Random kernel weights of each convolution; small ones go in training, random ones come (Mocanu et al. 2018).",
        PER_LAYER,
        updater=moving_methods.set_updater,
        needs=("key",),
    ),
    "rigl": _of_weights(
        None,
        "RigL",
        "Random kernel weights of each convolution; small ones go in training, those with large gradients come (Evci "
        "et al. 2020).",
        PER_LAYER,
        updater=moving_methods.rigl_updater,
        needs=("key",),
    ),
    "ste": _of_weights(
        None,
        "straight-through pruning",
        "The smallest |w| of each convolution kernel, chosen anew in every training step (Bengio et al. 2013).",
        PER_LAYER,
        updater=moving_methods.ste_updater,
    ),
    names.CONTROLS[names.GRANULARITY_WEIGHTS]: _of_weights(
        weight_methods.random,
        "random masks",
        "Weights of each convolution kernel at random, all at the same sparsity: the control.",
        PER_LAYER,
        needs=("key",),
    ),
    "filter_l1": _of_channels(
        "l1",
        "filter pruning by the L1 norm",
        "The filters of each layer with the smallest sum of |w| (Li et al. 2017).",
        PER_LAYER,
        layers=_STUDY,
    ),
    "filter_l2": _of_channels(
        "l2",
        "filter pruning by the L2 norm",
        "The filters of each layer with the smallest Euclidean norm.",
        PER_LAYER,
        layers=_STUDY,
    ),
    "geometric_median": _of_channels(
        "geometric_median",
        "filter pruning by the geometric median",
        "The filters of each layer that its others can stand in for best (FPGM, He et al. 2019).",
        PER_LAYER,
        layers=_STUDY,
    ),
    "slimming": _of_channels(
        "batch_norm_scale",
        "network slimming",
        "The channels with the smallest BatchNorm scales of all layers, by one threshold (Liu et al. 2017).",
        GLOBAL,
    ),
    "taylor": _of_channels(
        "taylor",
        "channel pruning by Taylor scores",
        "The channels whose absence changes the loss least to first order, by one threshold (Molchanov et al. 2019).",
        GLOBAL,
    ),
    names.CONTROLS[names.GRANULARITY_CHANNELS]: _of_channels(
        "random",
        "random channels",
        "Channels of each layer at random: the control.",
        PER_LAYER,
    ),
}

# Other names of methods: jaxpruner's for global magnitude pruning, and its texts for patterns.
ALIASES = {
    "global_magnitude": "weight",
    "magnitude_ste": "ste",
    "nm_2,4": "nm_2_4",
    "nm_1,4": "nm_1_4",
    "block_4,4": "block_4_4",
}

# Methods that remove whole channels.
STRUCTURED_METHODS = tuple(name for name, method in METHODS.items() if method.removes_channels)


def canonical_name(method: str) -> str:
    """Returns the name in `METHODS` that an alias stands for; any other name as it is.

    >>> canonical_name("global_magnitude"), canonical_name("lamp")
    ('weight', 'lamp')
    """
    return ALIASES.get(method, method)


def find_method(method: str) -> Method:
    """Returns the row of a method by its name or an alias; raises `ValueError` for an unknown one."""
    if not isinstance(method, str) or canonical_name(method) not in METHODS:
        raise ValueError(f"unknown pruning method {method!r}; choose one of {', '.join(METHODS)}, or give an updater")
    return METHODS[canonical_name(method)]


def methods_with(option: str) -> str:
    """Returns the names of the methods that take an option of `prune`, as a message lists them."""
    return ", ".join(name for name, method in METHODS.items() if option in method.options)


def default_layers(classifier: Any, method: str) -> tuple[str, ...]:
    """Returns the channel groups that a method which removes channels prunes if `prune` is not told which.

    Raises `ValueError` for another method, a classifier that declares no groups, or one whose groups have nothing that
    the method's criterion reads.
    """
    row = find_method(method)
    if not row.removes_channels:
        raise ValueError(f"{method!r} does not remove channels; those that do are {methods_with('layers')}")
    return tuple(group.name for group in choose_groups(classifier, default_choice(classifier, row), row.criterion))


def default_choice(classifier: Any, row: Method) -> str | None:
    """Returns the layers that a row prunes by default, where the classifier has a choice of that name."""
    named = hasattr(classifier, "layer_choices") and row.layers in classifier.layer_choices()
    return row.layers if named else None
