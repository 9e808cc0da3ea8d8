"""Which channels of a network belong together: the data that structured pruning reads."""

from collections.abc import Mapping
from typing import NamedTuple


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
