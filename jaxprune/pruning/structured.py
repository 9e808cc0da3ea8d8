"""Pruning of whole channels: which ones go, and the masks that say so.

A removed channel is 0 in everything that belongs to it: the filters that make it and their biases, the scale and bias
of its BatchNorms, and the weights of the layers that read it. Behind its BatchNorm and ReLU it is then exactly 0, so
`compact` can take it away without changing a logit.
"""

import difflib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Shaped

from jaxprune.pruning._annotations import Group, Key, Masks, Params, Replaceable
from jaxprune.pruning._trees import flatten_named, map_named, show
from jaxprune.pruning.criteria import CRITERIA, ChannelScores, channel_scores
from jaxprune.pruning.masking import mask_params

PER_LAYER, GLOBAL = SCOPES = ("per_layer", "global")
SHIFTS = ("drop", "fold")
ALL_LAYERS = "all"
Channels = Bool[np.ndarray, " _"]  # of a group, true for those that go
Indices = Shaped[np.ndarray, " channels"]
Member = tuple[str, int, np.ndarray]  # path, axis, indices
_ACTIVATION_RANGES = {"relu": (0, np.inf), "relu6": (0, 6), "linear": (-np.inf, np.inf)}
# 10 * (1 - 0.9) is a little less than 1 in floating point, and must still count as one channel.
_ROUNDING = 1e-9


def prune_channels(
    classifier: Replaceable,
    *,
    criterion: str,
    channel_sparsity: float,
    scope: str = "per_layer",
    layers: str | Sequence[str] | None = None,
    round_to: int = 1,
    shift: str = "drop",
    key: Key | None = None,
    images: Shaped[ArrayLike, "batch height width channels"] | None = None,
    labels: Shaped[ArrayLike, " batch"] | None = None,
) -> tuple[Any, Masks]:
    """Returns (classifier without the least important channels, masks); nothing is smaller yet, see `compact`.

    Args:
      classifier: one that declares its `channel_groups()`.
      criterion: a name in `CRITERIA`.
      channel_sparsity: the fraction of channels to remove, in [0, 1). Of a layer of C channels, int(C * (1 - s)) stay.
      scope: "per_layer" takes that fraction from every layer; "global" ranks the channels of all chosen layers
        together, and int(total * s) go.
      layers: which channel groups: None for all that the criterion can read except residual streams; "all" for those
        too; a name in `classifier.layer_choices()`, such as "study"; or names of groups.
      round_to: keep a multiple of so many channels in each layer (never more than it has), such as 8 for accelerators.
      shift: a channel whose BatchNorm scale is 0 still emits a constant, the activation of its bias. "drop" forgets
        it, as the study's reference does; "fold" adds it to the next layer where that is exact
        (`Consumer.absorbs_into`: 1 x 1 convolutions followed by BatchNorm, linear layers with a bias) and forgets it
        elsewhere.
      key: for the criterion "random".
      images, labels: for the criterion "taylor".

    Every layer keeps at least one channel; a warning lists the layers where that changed the result.

    Raises:
      ValueError: a sparsity outside [0, 1), an unknown criterion, scope, shift or layer, a layer without what the
        criterion reads, or a classifier that declares no groups.

    Source: Li et al. 2017 (per layer, L1), Liu et al. 2017 (global, scales), as in STUDY's pipelines.
    """
    _check(criterion, channel_sparsity, scope, round_to, shift)
    groups = choose_groups(classifier, layers, criterion)
    scores = channel_scores(classifier, groups, criterion=criterion, key=key, images=images, labels=labels)
    removed = _removed(groups, scores, channel_sparsity, scope, round_to)
    if shift == "fold":
        classifier = _fold_shifts(classifier, groups, removed)
    masks = channel_masks(classifier.params, groups, removed)
    return classifier.replace(params=mask_params(classifier.params, masks)), masks


def _check(criterion: str, channel_sparsity: float, scope: str, round_to: int, shift: str) -> None:
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; choose one of {', '.join(CRITERIA)}")
    if not 0 <= channel_sparsity < 1:
        raise ValueError(
            f"channel_sparsity is {channel_sparsity}; give the fraction of channels to remove, in [0, 1): "
            f"no layer can do without channels"
        )
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; choose one of {', '.join(SCOPES)}")
    if shift not in SHIFTS:
        raise ValueError(f"unknown shift {shift!r}; choose one of {', '.join(SHIFTS)}")
    if not isinstance(round_to, int) or round_to < 1:
        raise ValueError(f"round_to is {round_to!r}; give an integer >= 1")


def choose_groups(classifier: Any, layers: str | Sequence[str] | None, criterion: str) -> list[Group]:
    """Returns the channel groups that `layers` names, see `prune_channels`."""
    if not hasattr(classifier, "channel_groups"):
        raise ValueError(
            f"a {type(classifier).__name__} does not declare which channels belong together; give a classifier with "
            f"channel_groups() and with_widths(), such as one of jaxprune.models"
        )
    groups = {group.name: group for group in classifier.channel_groups()}
    reads = CRITERIA[criterion].reads
    if layers is None or layers == ALL_LAYERS:
        chosen = [group for group in groups.values() if _readable(group, reads) and (layers or not group.residual)]
        if not chosen:
            raise ValueError(f"{classifier.name} has no channel group that criterion {criterion!r} can read")
        return chosen
    choices = classifier.layer_choices()
    names = choices.get(layers, (layers,)) if isinstance(layers, str) else layers
    for name in names:
        if name not in groups:
            near = difflib.get_close_matches(name, [*groups, *choices], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{classifier.name} has no layers {name!r}{hint} Its choices by name: "
                f"{', '.join([ALL_LAYERS, *choices])}; its channel groups: {', '.join(groups)}"
            )
        if not _readable(groups[name], reads):
            raise ValueError(f"criterion {criterion!r} reads {reads}, and channel group {name!r} has none")
    return [groups[name] for name in names]


def _readable(group: Group, reads: str) -> bool:
    return reads == "anything" or bool(getattr(group, reads))


def _removed(
    groups: Sequence[Group], scores: ChannelScores, channel_sparsity: float, scope: str, round_to: int
) -> dict[str, Channels]:
    """Returns for each group which channels go, bool `[width]`."""
    if scope == "global":
        pooled = np.concatenate(scores)
        gone = np.zeros(len(pooled), bool)
        gone[np.argsort(pooled, kind="stable")[: int(len(pooled) * channel_sparsity + _ROUNDING)]] = True
        kept_counts = [int((~part).sum()) for part in np.split(gone, np.cumsum([len(s) for s in scores])[:-1])]
    else:
        kept_counts = [int(group.width * (1 - channel_sparsity) + _ROUNDING) for group in groups]
    emptied = [group.name for group, kept in zip(groups, kept_counts, strict=True) if kept < 1]
    if emptied:
        warnings.warn(
            f"channel_sparsity={channel_sparsity} would remove all channels of {', '.join(emptied)}; one stays in each",
            stacklevel=3,
        )
    removed = {}
    for group, score, kept in zip(groups, scores, kept_counts, strict=True):
        kept = min(group.width, math.ceil(max(1, kept) / round_to) * round_to)
        removed[group.name] = np.zeros(group.width, bool)
        removed[group.name][np.argsort(score, kind="stable")[: group.width - kept]] = True
    return removed


def channel_masks(params: Params, groups: Sequence[Group], removed: Mapping[str, Channels]) -> Masks:
    """Returns masks like `params`, uint8, that remove channels: 0 in all members of a group, None outside the groups.

    Args:
      params: the parameters.
      groups: the channel groups that may lose channels.
      removed: group name -> bool `[width]`, true for the channels that go.
    """
    leaves = {show(names): leaf for names, leaf in flatten_named(params)}
    masks = {}
    for group in groups:
        gone = np.flatnonzero(removed[group.name])
        for path, axis, indices in members(group, gone):
            if path in leaves:
                mask = masks.setdefault(path, np.ones(leaves[path].shape, np.uint8))
                mask[(slice(None),) * (axis % mask.ndim) + (indices,)] = 0
    return map_named(lambda names, _: jnp.asarray(masks[show(names)]) if show(names) in masks else None, params)


def members(group: Group, channels: Indices) -> Iterator[Member]:
    """Yields (path, axis, indices) of everything in `params` that belongs to some channels of a group."""
    yield from own_members(group, channels)
    for consumer in group.consumers:
        yield f"{consumer.path}/kernel", -2, flattened(group, consumer, channels)


def own_members(group: Group, channels: Indices) -> Iterator[Member]:
    """Yields (path, axis, indices) of the group's own filters, biases and BatchNorm parameters."""
    for path in group.producers:
        yield f"{path}/kernel", -1, channels
        yield f"{path}/bias", -1, channels
    for path in group.batch_norms:
        yield f"{path}/scale", -1, channels
        yield f"{path}/bias", -1, channels


def flattened(group: Group, consumer: Any, channels: Indices) -> Int[np.ndarray, " inputs"]:
    """Returns where channels lie in a consumer's input axis, which may hold several flattened positions."""
    return (np.arange(consumer.positions)[:, None] * group.width + channels[None]).reshape(-1)


def _fold_shifts(classifier: Any, groups: Sequence[Group], removed: Mapping[str, Channels]) -> Any:
    """Returns the classifier with what removed channels emit moved into the layers that follow, where that is exact."""
    params = {show(names): np.asarray(leaf) for names, leaf in flatten_named(classifier.params)}
    stats = {show(names): np.asarray(leaf) for names, leaf in flatten_named(classifier.batch_stats)}
    for group in groups:
        gone = np.flatnonzero(removed[group.name])
        if group.residual or not group.batch_norms or not len(gone):
            continue
        bias = np.asarray(params[f"{group.batch_norms[-1]}/bias"], np.float64)[gone]
        constant = np.clip(bias, *_ACTIVATION_RANGES[group.activation])
        for consumer in group.consumers:
            if consumer.absorbs_into is None:
                continue
            kernel = np.asarray(params[f"{consumer.path}/kernel"], np.float64)
            rows = kernel[..., flattened(group, consumer, gone), :].reshape(-1, kernel.shape[-1])
            shift = np.tile(constant, len(rows) // len(gone)) @ rows
            path = f"{consumer.absorbs_into}/mean"
            # Linen keeps statistics one level deeper, under the collection's name.
            mean = next((name for name in stats if path in (name, name.partition("/")[2])), None)
            if mean is not None:
                stats[mean] = (stats[mean] - shift).astype(np.float32)
            else:
                bias = f"{consumer.absorbs_into}/bias"
                params[bias] = (params[bias] + shift).astype(np.float32)
    return classifier.replace(
        params=map_named(lambda names, _: jnp.asarray(params[show(names)]), classifier.params),
        batch_stats=jax.tree.unflatten(
            jax.tree.structure(classifier.batch_stats),
            [jnp.asarray(stats[show(names)]) for names, _ in flatten_named(classifier.batch_stats)],
        ),
    )
