"""Physical removal: from a classifier with masked channels to a smaller one with the same logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.pruning._annotations import Group, HasParams, Masks, Params
from jaxprune.pruning._trees import align_masks, flatten_named, named_masks, show
from jaxprune.pruning.masking import mask_params
from jaxprune.pruning.structured import Channels, Indices, channel_masks, flattened, own_members

NamedMasks = Mapping[str, np.ndarray | None]
Kept = dict[str, list[tuple[int, np.ndarray]]]  # path -> (axis, indices) of what stays

_STATISTICS = ("mean", "var")
_USUAL_SIZE = 32  # pixels per side, where nobody says
_TOLERANCE = 0.02  # of the largest logit: what bfloat16 rounds away
_CURE = "make the masks with prune_channels, or keep these masks and fine-tune with masked_optimizer"


def compact(classifier: Any, masks: Masks | None) -> Any:
    """Returns a classifier without the channels that `masks` remove; its logits equal the masked one's.

    Both differ by rounding only (convolutions over fewer channels add in another order), in evaluation mode and after
    training steps that hold the masks. Masks make no forward pass faster; this does.

    Args:
      classifier: one that declares `channel_groups()` and can be rebuilt by `with_widths()`.
      masks: masks of whole channels, as `prune_channels` and the structured methods of `prune` make them. A channel is
        removed if every filter, bias, BatchNorm scale and BatchNorm bias of its group is masked; the weights that read
        it may be masked or not.

    Raises:
      ValueError: the masks cut across a group, remove single weights, or are what `mask_params` refuses; the classifier
        declares no groups; the rebuilt network does not fit, with the first parameter that differs;
        or a module of the caller's gives other logits on two random images.
    """
    groups = classifier.channel_groups()
    masks_by_path = {
        show(names): None if mask is None else np.asarray(mask) != 0
        for names, mask in named_masks(align_masks(masks, classifier.params)).items()
    }
    removed = {group.name: _removed_channels(group, masks_by_path) for group in groups}
    _check_nothing_else_is_masked(classifier, groups, removed, masks_by_path)
    widths, kept_entries = {}, {}
    for group in groups:
        if not removed[group.name].any():
            continue
        kept = np.flatnonzero(~removed[group.name])
        widths[group.name] = tuple(group.indices[channel] for channel in kept) if group.selection else len(kept)
        _collect(group, kept, kept_entries)
    if not widths:
        return classifier
    template = classifier.with_widths(widths)
    small = template.replace(
        params=_filled(template.params, classifier.params, kept_entries),
        batch_stats=_filled(template.batch_stats, classifier.batch_stats, kept_entries),
    )
    # A module of the caller's: no test of ours holds what it declares against its logits.
    if getattr(classifier, "rebuild", None) is None:
        _check_logits(classifier.replace(params=mask_params(classifier.params, masks)), small)
    return small


def _check_logits(masked: Any, small: Any) -> None:
    """Refuses what no shape shows, such as a norm without parameters, or an activation that is not 0 at 0."""
    side = masked.image_size or _USUAL_SIZE
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, masked.mean.shape[-1]), np.uint8)
    expected, found = (np.asarray(each.logits(images)) for each in (masked, small))
    difference, largest = np.abs(found - expected).max(), np.abs(expected).max()
    if difference > _TOLERANCE * largest:
        raise ValueError(
            f"without its masked channels {masked.name} gives other logits (by {difference:.2g} of {largest:.2g}): "
            f"what channel_groups() declares passes a norm that measures its input, or an activation that "
            f"is not 0 at 0; leave such groups out"
        )


def _removed_channels(group: Group, masks: NamedMasks) -> Channels:
    """Returns which channels of a group are masked in all of its own members; bool `[width]`."""
    votes = {}
    for path, axis, _ in own_members(group, np.arange(0)):
        if path in masks:
            mask = masks[path]
            others = None if mask is None else tuple(a for a in range(mask.ndim) if a != axis % mask.ndim)
            votes[path] = np.zeros(group.width, bool) if mask is None else ~mask.any(axis=others)
    first, *rest = votes
    for path in rest:
        different = np.flatnonzero(votes[path] != votes[first])
        if len(different):
            masked, kept = (first, path) if votes[first][different[0]] else (path, first)
            raise ValueError(
                f"the masks cut across channel group {group.name!r}: channel {different[0]} is removed in {masked} and "
                f"kept in {kept}, but the channels of a group only go together; {_CURE}"
            )
    return votes[first]


def _check_nothing_else_is_masked(
    classifier: HasParams, groups: Sequence[Group], removed: Mapping[str, Channels], masks: NamedMasks
) -> None:
    expected = channel_masks(classifier.params, groups, removed)
    expected = {show(names): mask for names, mask in named_masks(expected).items()}
    for path, mask in masks.items():
        if mask is None:
            continue
        allowed = np.ones(mask.shape, bool) if expected[path] is None else np.asarray(expected[path]) != 0
        single = np.argwhere(~mask & allowed)
        if len(single):
            raise ValueError(
                f"the masks are not structured: {path} is masked at {tuple(map(int, single[0]))} ({len(single)} such "
                f"entries), which belongs to no removed channel, and single weights cannot be taken out; {_CURE}"
            )


def _collect(group: Group, kept: Indices, entries: Kept) -> None:
    """Adds to `entries` what stays of every leaf that a group touches."""
    for path, axis, indices in own_members(group, kept):
        entries.setdefault(path, []).append((axis, indices))
    for path in group.batch_norms:
        for name in _STATISTICS:
            entries.setdefault(f"{path}/{name}", []).append((-1, kept))
    for consumer in group.consumers:
        entries.setdefault(f"{consumer.path}/kernel", []).append((-2, flattened(group, consumer, kept)))


def _filled(template: Params, tree: Params, entries: Kept) -> Params:
    """Returns `tree` cut down to the shapes of `template`."""
    leaves = []
    wanted = flatten_named(template)
    given = dict(flatten_named(tree))
    for names, shape in wanted:
        path = show(names)
        if names not in given:
            raise ValueError(f"the rebuilt network has {path}, which the classifier does not; check its with_widths()")
        leaf = np.asarray(given[names]) if not _is_key(given[names]) else given[names]
        # Linen keeps statistics one level deeper, under the collection's name.
        for axis, indices in entries.get(path, entries.get(path.partition("/")[2], ())):
            leaf = np.take(leaf, indices, axis=axis)
        if leaf.shape != tuple(shape.shape):
            raise ValueError(
                f"{path} has shape {leaf.shape} without the removed channels, but {tuple(shape.shape)} in the network "
                f"that with_widths() returned; check channel_groups() and with_widths()"
            )
        leaves.append(jnp.asarray(leaf))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
