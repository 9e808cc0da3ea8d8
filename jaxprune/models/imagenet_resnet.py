"""ResNet-18, -34 and -50 (He et al. 2016, Table 1), for 32 x 32 images and as torchvision has them for ImageNet.

The stride of a bottleneck is in its 3 x 3 convolution, as in torchvision and the public CIFAR repositories; the paper
has it in the first 1 x 1 convolution.
"""

from collections.abc import Collection
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, resolve_widths
from jaxprune.models.initialization import UnusedRngs
from jaxprune.models.layers import check_stem, convolution
from jaxprune.models.resnet import batch_norm
from jaxprune.models.wiring import Layer, groups_of_layers


class Layout(NamedTuple):
    """What distinguishes one depth from another.

    Attributes:
      blocks: blocks of each stage.
      kernels: sizes of the convolutions in a block; the first 3 x 3 carries the stride.
      expansion: the channels of a stage's stream, in multiples of `STAGE_WIDTHS`.
    """

    blocks: tuple[int, int, int, int]
    kernels: tuple[int, ...]
    expansion: int


class Stem(NamedTuple):
    """What stands in front of the first stage: a convolution, BatchNorm, ReLU, and for large images a max-pool."""

    image_size: int
    kernel: int
    stride: int
    max_pool: bool


LAYOUTS = {
    "resnet18": Layout((2, 2, 2, 2), (3, 3), 1),
    "resnet34": Layout((3, 4, 6, 3), (3, 3), 1),
    "resnet50": Layout((3, 4, 6, 3), (1, 3, 1), 4),
}
STEMS = {
    "cifar": Stem(image_size=32, kernel=3, stride=1, max_pool=False),
    # Of repositories that change torchvision's convolution only, such as PyTorch_CIFAR10: the tensors of "cifar".
    "cifar_max_pool": Stem(image_size=32, kernel=3, stride=1, max_pool=True),
    "imagenet": Stem(image_size=224, kernel=7, stride=2, max_pool=True),
}
STEM_WIDTH = 64
STAGE_WIDTHS = (64, 128, 256, 512)
STAGE_STRIDES = (1, 2, 2, 2)
# The names of the shortcut's layers and of the head in torchvision, and in the common CIFAR repositories.
_TORCH_NAMES = (("downsample", "fc"), ("shortcut", "linear"))


class ResidualBlock(nnx.Module):
    """Convolutions with BatchNorm each and ReLU between them, plus the shortcut, then ReLU.

    `features` are the numbers of channels from the input, over those between the convolutions, to the output. A
    `projected` shortcut is a 1 x 1 convolution with BatchNorm, else it is the identity.
    """

    def __init__(self, kernels: tuple[int, ...], features, stride: int, projected: bool, rngs: nnx.Rngs):
        strided = kernels.index(3)
        for index, size in enumerate(kernels):
            conv = convolution(*features[index : index + 2], size, rngs, stride=stride if index == strided else 1)
            setattr(self, f"conv{index + 1}", conv)
            setattr(self, f"bn{index + 1}", batch_norm(features[index + 1], rngs))
        if projected:
            self.shortcut_conv = convolution(features[0], features[-1], 1, rngs, stride=stride)
            self.shortcut_bn = batch_norm(features[-1], rngs)
        self.num_convs, self.projected = len(kernels), projected

    def __call__(self, x):
        """Returns the block's output `[n, h / stride, w / stride, features[-1]]`."""
        y = self.bn1(self.conv1(x))
        for index in range(2, self.num_convs + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(nnx.relu(y)))
        if self.projected:
            x = self.shortcut_bn(self.shortcut_conv(x))
        return nnx.relu(x + y)


class ImagenetResNet(nnx.Module):
    """A stem, four stages of residual blocks, global average pool, linear.

    Options: `stem` "cifar" (3 x 3, stride 1, for 32 x 32 images; the default), "cifar_max_pool" (the same and a 3 x 3
    max-pool) or "imagenet" (7 x 7, stride 2, and a 3 x 3 max-pool, for 224 x 224), and `widths`, the number of channels
    of any group of `channel_groups()`.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        num_classes: int,
        rngs: nnx.Rngs,
        stem: str = "cifar",
        widths=None,
        in_channels: int = 3,
    ):
        check_stem(stem, STEMS)
        self.layout, self.stem = layout, STEMS[stem]
        self.image_size = self.stem.image_size
        self.widths = tuple(resolve_widths(_default_widths(layout), widths, model="a ResNet").items())
        widths = dict(self.widths)
        features = widths["stem" if _stem_is_separate(layout) else "stage1_stream"]
        self.conv = convolution(in_channels, features, self.stem.kernel, rngs, stride=self.stem.stride)
        self.bn = batch_norm(features, rngs)
        for name, stage, block in _blocks(layout):
            groups = (*_inner_names(name, layout), f"stage{stage}_stream")
            path = (features, *(widths[group] for group in groups))
            stride = STAGE_STRIDES[stage - 1] if block == 0 else 1
            projected = _is_projected(layout, stage, block)
            setattr(self, name, ResidualBlock(layout.kernels, path, stride, projected, rngs))
            features = path[-1]
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = nnx.relu(self.bn(self.conv(x)))
        if self.stem.max_pool:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for name, _, _ in _blocks(self.layout):
            x = getattr(self, name)(x)
        return self.head(jnp.mean(x, axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns the channels between the convolutions of every block, and the residual stream of every stage.

        The stem adds to the first stream of ResNet-18 and -34, whose first block has no projection; that of ResNet-50
        is a group of its own.
        """
        # What is read and what is written, by every convolution; the BatchNorm behind a 1 x 1 one takes up constants.
        stream = "stem" if _stem_is_separate(self.layout) else "stage1_stream"
        layers, batch_norms = [Layer("conv", None, stream)], [("bn", stream)]
        for name, stage, block in _blocks(self.layout):
            inputs, stream = stream, f"stage{stage}_stream"
            groups = (inputs, *_inner_names(name, self.layout), stream)
            for index, size in enumerate(self.layout.kernels):
                conv, bn = f"{name}/conv{index + 1}", f"{name}/bn{index + 1}"
                layers.append(Layer(conv, groups[index], groups[index + 1], bn if size == 1 else None))
                batch_norms.append((bn, groups[index + 1]))
            if _is_projected(self.layout, stage, block):
                conv, bn = f"{name}/shortcut_conv", f"{name}/shortcut_bn"
                layers.append(Layer(conv, inputs, stream, bn))
                batch_norms.append((bn, stream))
        layers.append(Layer("head", stream, None, "head"))
        residual = {name for name, _ in self.widths if name.endswith("_stream")}
        return groups_of_layers(self.widths, layers, batch_norms, residual=residual)

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns no choices: the study has none for these networks."""
        return {}


def _blocks(layout: Layout) -> tuple[tuple[str, int, int], ...]:
    """Returns (name, stage from 1, block from 0) of every block, in order."""
    return tuple(
        (f"stage{stage}_block{block}", stage, block)
        for stage, blocks in enumerate(layout.blocks, start=1)
        for block in range(blocks)
    )


def _inner_names(block_name: str, layout: Layout) -> tuple[str, ...]:
    return tuple(f"{block_name}_inner{index}" for index in range(1, len(layout.kernels)))


def _stem_is_separate(layout: Layout) -> bool:
    return layout.expansion > 1


def _is_projected(layout: Layout, stage: int, block: int) -> bool:
    # By the place in the network, not by the numbers of channels, which pruning changes.
    return block == 0 and (stage > 1 or _stem_is_separate(layout))


def _default_widths(layout: Layout) -> dict[str, int]:
    widths = {"stem": STEM_WIDTH} if _stem_is_separate(layout) else {}
    for name, stage, block in _blocks(layout):
        width = STAGE_WIDTHS[stage - 1]
        if block == 0:
            widths[f"stage{stage}_stream"] = width * layout.expansion
        widths |= dict.fromkeys(_inner_names(name, layout), width)
    return widths


def new_module(name: str, *, num_classes: int, **options) -> ImagenetResNet:
    """Returns the module of a row of `LAYOUTS`. Its own initial weights are not used; see `initialization`."""
    return ImagenetResNet(layout=LAYOUTS[name], num_classes=num_classes, rngs=UnusedRngs(), **options)


def torch_keys(name: str, **options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for each module path here, the prefix of its keys in torchvision, and in the CIFAR repositories."""
    del options  # no option changes the names
    return tuple(_torch_keys(LAYOUTS[name], shortcut, head) for shortcut, head in _TORCH_NAMES)


def torch_options(names: Collection[str], num_classes: int, **options) -> tuple[dict, str | None]:
    """Returns the options of the network in a PyTorch file, and what its names leave open, in words.

    A 3 x 3 stem under torchvision's names may be followed by torchvision's max-pool or not; under those of the CIFAR
    repositories it is not.
    """
    del num_classes
    if "stem" in options or "fc.weight" not in names:
        return options, None
    return options, (
        "its tensors do not show whether a max-pool follows the first convolution; stem='cifar' is taken, without one "
        "(give stem='cifar' or 'cifar_max_pool' to choose)"
    )


def _torch_keys(layout: Layout, shortcut: str, head: str) -> dict[tuple[str, ...], str]:
    keys = {("conv",): "conv1", ("bn",): "bn1", ("head",): head}
    for name, stage, block in _blocks(layout):
        prefix = f"layer{stage}.{block}"
        for index in range(1, len(layout.kernels) + 1):
            keys |= {(name, f"{part}{index}"): f"{prefix}.{part}{index}" for part in ("conv", "bn")}
        if _is_projected(layout, stage, block):
            keys |= {(name, "shortcut_conv"): f"{prefix}.{shortcut}.0", (name, "shortcut_bn"): f"{prefix}.{shortcut}.1"}
    return keys
