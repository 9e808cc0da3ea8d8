"""Channel groups from a list of layers that says which group each layer reads and writes."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from jaxprune.models.channels import ChannelGroup, Consumer


class Layer(NamedTuple):
    """A convolution or linear layer as channel groups see it.

    Attributes:
      path: its path in the parameters.
      reads: the group of its inputs; None for the image, and for a depthwise convolution, which is only a producer.
      writes: the group of its outputs; None for the logits.
      absorbs_into: as in `Consumer`.
    """

    path: str
    reads: str | None
    writes: str | None
    absorbs_into: str | None = None


def groups_of_layers(
    widths: Iterable[tuple[str, int]],
    layers: Iterable[Layer],
    batch_norms: Iterable[tuple[str, str]],
    *,
    residual: Collection[str],
    activations: dict[str, str] | None = None,
) -> tuple[ChannelGroup, ...]:
    """Returns one channel group per entry of `widths`, in their order.

    Args:
      widths: (group, number of channels).
      layers: every convolution and linear layer.
      batch_norms: (path, group), in the order in which they are applied.
      residual: the groups that are residual streams. Nothing absorbs a constant of theirs: it is the sum of what
        several layers write.
      activations: the groups whose activation is not ReLU.
    """
    layers, batch_norms, activations = tuple(layers), tuple(batch_norms), activations or {}
    return tuple(
        ChannelGroup(
            name=name,
            width=width,
            producers=tuple(layer.path for layer in layers if layer.writes == name),
            batch_norms=tuple(path for path, group in batch_norms if group == name),
            consumers=tuple(
                Consumer(layer.path, absorbs_into=None if name in residual else layer.absorbs_into)
                for layer in layers
                if layer.reads == name
            ),
            residual=name in residual,
            activation=activations.get(name, "relu"),
        )
        for name, width in widths
    )
