"""MobileNetV2 (Sandler et al. 2018, Table 2), for 32 x 32 images and as torchvision has it for ImageNet.

The dropout in front of torchvision's classifier is left out: it has no weights, and does nothing in evaluation.
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


class Stage(NamedTuple):
    """A row of the paper's Table 2: t, c, n and s."""

    expansion: int
    width: int
    blocks: int
    stride: int


class Stem(NamedTuple):
    """The strides that depend on the size of the images: those of the stem, and of the second stage."""

    image_size: int
    stride: int
    second_stage_stride: int


STEM_WIDTH, LAST_WIDTH = 32, 1280
IMAGENET_CLASSES = 1000
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
# The public CIFAR repositories take stride 1 in both places.
STEMS = {
    "cifar": Stem(image_size=32, stride=1, second_stage_stride=1),
    "imagenet": Stem(image_size=224, stride=2, second_stage_stride=2),
}


class InvertedResidual(nnx.Module):
    """1 x 1 convolution to more channels, 3 x 3 depthwise, 1 x 1 to few, with BatchNorm each and ReLU6 between them.

    Without `expands` there is no first convolution and `expanded` equals `in_features`. With `identity` the input is
    added. The output is not activated.
    """

    def __init__(
        self,
        in_features: int,
        expanded: int,
        features: int,
        stride: int,
        rngs: nnx.Rngs,
        *,
        expands: bool,
        identity: bool,
    ):
        if expands:
            self.expand_conv = convolution(in_features, expanded, 1, rngs)
            self.expand_bn = batch_norm(expanded, rngs)
        self.depthwise_conv = convolution(expanded, expanded, 3, rngs, stride=stride, groups=expanded)
        self.depthwise_bn = batch_norm(expanded, rngs)
        self.project_conv = convolution(expanded, features, 1, rngs)
        self.project_bn = batch_norm(features, rngs)
        self.expands, self.identity = expands, identity

    def __call__(self, x):
        """Returns the block's output `[n, h / stride, w / stride, features]`."""
        y = nnx.relu6(self.expand_bn(self.expand_conv(x))) if self.expands else x
        y = nnx.relu6(self.depthwise_bn(self.depthwise_conv(y)))
        y = self.project_bn(self.project_conv(y))
        return x + y if self.identity else y


class MobileNetV2(nnx.Module):
    """A 3 x 3 stem, seven stages of inverted residuals, a 1 x 1 convolution, global average pool, linear.

    Options: `stem` "cifar" (stride 1 in the stem and in the second stage, for 32 x 32 images; the default) or
    "imagenet" (stride 2 in both, for 224 x 224), and `widths`, the number of channels of any group of
    `channel_groups()`.
    """

    def __init__(self, *, num_classes: int, rngs: nnx.Rngs, stem: str = "cifar", widths=None, in_channels: int = 3):
        check_stem(stem, STEMS)
        strides = STEMS[stem]
        self.image_size = strides.image_size
        self.widths = tuple(resolve_widths(_default_widths(), widths, model="MobileNetV2").items())
        widths = dict(self.widths)
        features = widths["stem"]
        self.conv = convolution(in_channels, features, 3, rngs, stride=strides.stride)
        self.bn = batch_norm(features, rngs)
        for name, stage, block in _blocks():
            expands, stream = _expands(stage), widths[f"stage{stage}_stream"]
            expanded = widths[f"{name}_expanded"] if expands else features
            stride = strides.second_stage_stride if stage == 2 else STAGES[stage - 1].stride
            module = InvertedResidual(
                features, expanded, stream, stride if block == 0 else 1, rngs, expands=expands, identity=block > 0
            )
            setattr(self, name, module)
            features = stream
        self.last_conv = convolution(features, widths["last"], 1, rngs)
        self.last_bn = batch_norm(widths["last"], rngs)
        self.head = nnx.Linear(widths["last"], num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = nnx.relu6(self.bn(self.conv(x)))
        for name, _, _ in _blocks():
            x = getattr(self, name)(x)
        x = nnx.relu6(self.last_bn(self.last_conv(x)))
        return self.head(jnp.mean(x, axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns the stem, every stage's stream, the expanded channels of every block, and the last convolution's.

        A depthwise convolution keeps its channels, so those in front of it and behind it are one group; the BatchNorm
        behind it is the last. The streams are linear; those of the one-block stages are added to by nobody else.
        """
        # What is read and what is written; the BatchNorm behind a 1 x 1 convolution takes up constants.
        layers, batch_norms = [Layer("conv", None, "stem")], [("bn", "stem")]
        stream = "stem"
        for name, stage, _ in _blocks():
            inputs, expanded, stream = stream, f"{name}_expanded", f"stage{stage}_stream"
            if _expands(stage):
                layers.append(Layer(f"{name}/expand_conv", inputs, expanded, f"{name}/expand_bn"))
                batch_norms.append((f"{name}/expand_bn", expanded))
            else:
                expanded = inputs
            layers.append(Layer(f"{name}/depthwise_conv", None, expanded))
            layers.append(Layer(f"{name}/project_conv", expanded, stream, f"{name}/project_bn"))
            batch_norms += [(f"{name}/depthwise_bn", expanded), (f"{name}/project_bn", stream)]
        layers += [Layer("last_conv", stream, "last", "last_bn"), Layer("head", "last", None, "head")]
        batch_norms.append(("last_bn", "last"))
        residual = {f"stage{stage}_stream" for stage, row in enumerate(STAGES, start=1) if row.blocks > 1}
        activations = {name: "linear" if name.endswith("_stream") else "relu6" for name, _ in self.widths}
        return groups_of_layers(self.widths, layers, batch_norms, residual=residual, activations=activations)

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns no choices: the study has none for this network."""
        return {}


def _blocks() -> tuple[tuple[str, int, int], ...]:
    """Returns (name, stage from 1, block from 0) of every block, in order."""
    return tuple(
        (f"stage{stage}_block{block}", stage, block)
        for stage, row in enumerate(STAGES, start=1)
        for block in range(row.blocks)
    )


def _expands(stage: int) -> bool:
    return STAGES[stage - 1].expansion > 1


def _default_widths() -> dict[str, int]:
    widths = {"stem": STEM_WIDTH}
    features = STEM_WIDTH
    for name, stage, _ in _blocks():
        row = STAGES[stage - 1]
        widths[f"stage{stage}_stream"] = row.width
        if _expands(stage):
            widths[f"{name}_expanded"] = row.expansion * features
        features = row.width
    return {**widths, "last": LAST_WIDTH}


def new_module(*, num_classes: int, **options) -> MobileNetV2:
    """Returns the module. Its own initial weights are not used; see `initialization`."""
    return MobileNetV2(num_classes=num_classes, rngs=UnusedRngs(), **options)


def torch_options(names: Collection[str], num_classes: int, **options) -> tuple[dict, str | None]:
    """Returns the options of the network in a PyTorch file, and what its names leave open, in words.

    The strides are in no tensor; a network of ImageNet's classes has ImageNet's.
    """
    del names
    if "stem" in options or num_classes != IMAGENET_CLASSES:
        return options, None
    return options | {"stem": "imagenet"}, (
        f"its tensors do not show the strides; stem='imagenet' is taken for {num_classes} classes (give stem= "
        f"'cifar' or 'imagenet' to choose)"
    )


def torch_keys(**options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for each module path here, the prefix of its keys in torchvision; the CIFAR repositories share them."""
    del options  # no option changes the names
    keys = {("conv",): "features.0.0", ("bn",): "features.0.1", ("head",): "classifier.1"}
    blocks = _blocks()
    for index, (name, stage, _) in enumerate(blocks, start=1):
        # Sequential modules: convolution, BatchNorm and ReLU6 count as one entry, except behind the projection.
        parts = ("expand", "depthwise") if _expands(stage) else ("depthwise",)
        for position, part in enumerate(parts):
            keys[(name, f"{part}_conv")] = f"features.{index}.conv.{position}.0"
            keys[(name, f"{part}_bn")] = f"features.{index}.conv.{position}.1"
        keys[(name, "project_conv")] = f"features.{index}.conv.{len(parts)}"
        keys[(name, "project_bn")] = f"features.{index}.conv.{len(parts) + 1}"
    last = f"features.{len(blocks) + 1}"
    return ({**keys, ("last_conv",): f"{last}.0", ("last_bn",): f"{last}.1"},)
