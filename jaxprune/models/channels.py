"""Which channels of a network belong together: the data that structured pruning reads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
from jaxtyping import PyTree

_STATISTICS = ("mean", "var")


class Consumer(NamedTuple):
    """A layer that reads the channels of a group.

    Attributes:
      path: the layer's path in the parameters, such as "block0/conv2"; the kernel's last axis but one reads them.
      positions: how many pixels were flattened into that axis, channels fastest; 1 for convolutions and after pooling.
      absorbs_into: the path of what can take up a constant input exactly: the BatchNorm right behind this layer, or the
        layer itself if it has a bias. None where zero padding makes a constant input differ at the border.
    """

    path: str
    positions: int = 1
    absorbs_into: str | None = None


class ChannelGroup(NamedTuple):
    """Channels that only go together: whoever removes one removes it in all of these layers.

    Attributes:
      name: unique in the network; the key of `with_widths`.
      width: the number of channels.
      producers: paths of the layers whose outputs they are: last axis of the kernel, and of the bias if there is one.
        Depthwise convolutions count as producers.
      batch_norms: paths of the BatchNorms over them, in the order of application.
      consumers: the layers that read them.
      residual: they are a residual stream, which several blocks add to.
      selection: they are a choice out of a residual stream that itself stays whole, made in front of the BatchNorms;
        there are no producers, and `with_widths` takes the chosen indices instead of a number.
      indices: for a selection, which channels of the stream the present ones are, `width` of them, ascending;
        `with_widths` counts in the stream, so a network selected from once before keeps `indices[i]`, not `i`.
      activation: what the consumers see of a channel behind the last of the BatchNorms: "relu", "relu6" or "linear".
    """

    name: str
    width: int
    producers: tuple[str, ...]
    batch_norms: tuple[str, ...]
    consumers: tuple[Consumer, ...]
    residual: bool = False
    selection: bool = False
    indices: tuple[int, ...] = ()
    activation: str = "relu"


def check_groups(groups: Iterable[ChannelGroup], params: PyTree, batch_stats: PyTree, *, model: str) -> None:
    """Checks what a network declares of its channels against its parameters and statistics, by their shapes.

    Raises:
      ValueError: a layer that does not exist, or that has another number of outputs or inputs than its group says, such
        as one that reads the concatenation of two groups; a norm without running statistics, such as GroupNorm, which
        mixes channels; or channels that two groups claim.
    """
    shapes = dict(_shapes(params))
    # Linen keeps statistics one level deeper, under the collection's name.
    statistics = {name: shape for path, shape in _shapes(batch_stats) for name in (path, path.partition("/")[2])}
    owners = {}

    def check(name: str, axis: int, group: ChannelGroup, positions: int, found: Mapping[str, tuple], lack: str) -> None:
        declared = f"channel group {group.name!r} of {model} cannot be pruned as it is declared: "
        if name not in found:
            raise ValueError(f"{declared}{lack}; correct channel_groups()")
        side, size = "outputs" if axis == -1 else "inputs", (None, *found[name])[axis]
        if size != group.width * positions:
            raise ValueError(
                f"{declared}{name} has {size} {side}, the group {group.width * positions}; a group is all that a layer "
                f"writes and reads: what is concatenated or split on the way cannot be declared"
            )
        owner = owners.setdefault((name, axis), group.name)
        if owner != group.name:
            raise ValueError(f"{declared}the {side} of {name} belong to {owner!r} already; one group must hold both")

    for group in groups:
        for path in group.producers:
            check(f"{path}/kernel", -1, group, 1, shapes, f"{path}/kernel is no parameter")
        for path in group.batch_norms:
            for name in _STATISTICS:
                lack = f"{path} keeps no running {name}, and a norm that measures its input mixes the channels"
                check(f"{path}/{name}", -1, group, 1, statistics, lack)
        for consumer in group.consumers:
            name = f"{consumer.path}/kernel"
            check(name, -2, group, consumer.positions, shapes, f"{name} is no parameter")


def _shapes(tree: PyTree) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), tuple(leaf.shape)


def resolve_widths(defaults: Mapping[str, int | tuple[int, ...]], widths, *, model: str) -> dict:
    """Returns the width of every group: `defaults`, changed by `widths` (a mapping, its items, or None).

    A default that is a tuple stands for a selection: the indices of the whole stream, of which some may be kept.

    Raises:
      ValueError: a group that the model does not have, a width that is no integer >= 1, or a selection that is not an
        ascending choice from the stream.
    """
    given = dict(widths or ())
    for name, width in given.items():
        if name not in defaults:
            raise ValueError(f"{model} has no channel group {name!r}; it has {', '.join(defaults)}")
        if isinstance(defaults[name], tuple):
            given[name] = _selection(width, len(defaults[name]), name=name, model=model)
        elif not isinstance(width, int) or not width >= 1:
            raise ValueError(f"width {width!r} of channel group {name!r} in {model}; give an integer >= 1")
    return {**defaults, **given}


def _selection(indices, stream: int, *, name: str, model: str) -> tuple[int, ...]:
    valid = isinstance(indices, list | tuple) and all(isinstance(index, int) for index in indices) and len(indices) > 0
    if not valid or sorted(set(indices)) != list(indices) or indices[0] < 0 or indices[-1] >= stream:
        raise ValueError(
            f"selection {indices!r} of channel group {name!r} in {model}; give the indices that it keeps of the "
            f"stream's {stream} channels, at least one, ascending, such as (0, {stream - 1})"
        )
    return tuple(indices)
