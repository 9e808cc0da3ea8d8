"""The pre-activation ResNet-(9n+2) with bottlenecks (He et al. 2016b; STUDY), with explicit widths and selections."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, Consumer, resolve_widths
from jaxprune.models.initialization import UnusedRngs
from jaxprune.models.resnet import (
    IMAGE_SIZE,
    STAGE_STRIDES,
    STAGE_WIDTHS,
    batch_norm,
    block_names,
    check_stage_widths,
    conv1x1,
    conv3x3,
)

EXPANSION = 4  # channels of the stream per channel inside a block
HEAD_SELECTION = "head_select"


def select_channels(x: Float[Array, "n h w c"], indices: tuple[int, ...]) -> Float[Array, "n h w k"]:
    """Returns the channels `indices` of `x`; `x` itself if these are all."""
    if len(indices) == x.shape[-1]:
        return x
    return jnp.take(x, np.asarray(indices), axis=-1, mode="clip", unique_indices=True, indices_are_sorted=True)


class PreActivationBottleneck(nnx.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1 added to the stream.

    A 1 x 1 `shortcut_conv` where the stream changes its shape reads all of it, not normalised. The first BatchNorm sees
    the channels `selected` only, which equals a selection behind it and is cheaper.
    """

    def __init__(
        self,
        in_features: int,
        selected: tuple[int, ...],
        inner: tuple[int, int],
        features: int,
        stride: int,
        rngs: nnx.Rngs,
    ):
        self.bn1 = batch_norm(len(selected), rngs)
        self.conv1 = conv1x1(len(selected), inner[0], 1, rngs)
        self.bn2 = batch_norm(inner[0], rngs)
        self.conv2 = conv3x3(inner[0], inner[1], stride, rngs)
        self.bn3 = batch_norm(inner[1], rngs)
        self.conv3 = conv1x1(inner[1], features, 1, rngs)
        self.projects = stride != 1 or in_features != features
        if self.projects:
            self.shortcut_conv = conv1x1(in_features, features, stride, rngs)
        self.selected = selected

    def __call__(self, x):
        """Returns the stream behind the block, `[n, h / stride, w / stride, features]`."""
        y = self.conv1(nnx.relu(self.bn1(select_channels(x, self.selected))))
        y = self.conv2(nnx.relu(self.bn2(y)))
        y = self.conv3(nnx.relu(self.bn3(y)))
        return y + (self.shortcut_conv(x) if self.projects else x)


class PreResNet(nnx.Module):
    """Pre-activation ResNet of depth 9n+2: a 3 x 3 stem, three stages of n bottlenecks, BN-ReLU, average, linear.

    Blocks are attributes `stage1_block0`, ... `widths` changes the two inner widths of a block, {"stage1_block0_conv1":
    12, "stage1_block0_conv2": 9}, and which channels of the stream a block and the head read, as indices:
    {"stage1_block0_select": (0, 3, 5), "head_select": (1, 2)}. The stream itself stays whole, as in network slimming.
    """

    image_size = IMAGE_SIZE

    def __init__(
        self,
        *,
        blocks_per_stage: int,
        num_classes: int,
        rngs: nnx.Rngs,
        stage_widths: tuple[int, ...] = STAGE_WIDTHS,
        widths=None,
        in_channels: int = 3,
    ):
        check_stage_widths(stage_widths)
        self.block_names = block_names(blocks_per_stage)
        shapes, features = {}, stage_widths[0]
        for index, name in enumerate(self.block_names):
            stage, block = divmod(index, blocks_per_stage)
            width = stage_widths[stage]
            shapes[name] = (features, width, STAGE_STRIDES[stage] if block == 0 else 1)
            features = EXPANSION * width
        defaults = {}
        for name, (in_features, width, _) in shapes.items():
            defaults |= {f"{name}_select": tuple(range(in_features)), f"{name}_conv1": width, f"{name}_conv2": width}
        defaults[HEAD_SELECTION] = tuple(range(features))
        resolved = resolve_widths(defaults, widths, model="a PreResNet")
        self.widths = tuple(resolved.items())
        self.conv = conv3x3(in_channels, stage_widths[0], 1, rngs)
        for name, (in_features, width, stride) in shapes.items():
            inner = (resolved[f"{name}_conv1"], resolved[f"{name}_conv2"])
            selected, out_features = resolved[f"{name}_select"], EXPANSION * width
            setattr(self, name, PreActivationBottleneck(in_features, selected, inner, out_features, stride, rngs))
        self.head_selected = resolved[HEAD_SELECTION]
        self.bn = batch_norm(len(self.head_selected), rngs)
        self.head = nnx.Linear(len(self.head_selected), num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = self.conv(x)
        for name in self.block_names:
            x = getattr(self, name)(x)
        x = nnx.relu(self.bn(select_channels(x, self.head_selected)))
        return self.head(jnp.mean(x, axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns three groups per block, its selection and its two inner widths, and the head's selection.

        A constant in place of a selected channel goes into the BatchNorm behind conv1, or the bias of the head; conv2
        is padded, and conv3 has neither bias nor BatchNorm.
        """
        widths = dict(self.widths)
        groups = []
        for name in self.block_names:
            consumer = Consumer(f"{name}/conv1", absorbs_into=f"{name}/bn2")
            groups.append(_selection(f"{name}_select", widths[f"{name}_select"], f"{name}/bn1", consumer))
            for number in (1, 2):
                groups.append(
                    ChannelGroup(
                        name=f"{name}_conv{number}",
                        width=widths[f"{name}_conv{number}"],
                        producers=(f"{name}/conv{number}",),
                        batch_norms=(f"{name}/bn{number + 1}",),
                        consumers=(Consumer(f"{name}/conv{number + 1}"),),
                    )
                )
        consumer = Consumer("head", absorbs_into="head")
        return (*groups, _selection(HEAD_SELECTION, self.head_selected, "bn", consumer))


def _selection(name: str, indices: tuple[int, ...], norm: str, consumer: Consumer) -> ChannelGroup:
    return ChannelGroup(
        name=name,
        width=len(indices),
        producers=(),
        batch_norms=(norm,),
        consumers=(consumer,),
        selection=True,
        indices=indices,
    )


def torch_keys(blocks_per_stage: int, **options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for every public naming, the prefix of the keys of each module path here: the head is `fc` or `linear`.

    Keys `select.indexes`, which the network-slimming repositories add, are no weights; the importer checks them.
    """
    del options  # no option changes the names
    keys = {("conv",): "conv1"}
    for index, name in enumerate(block_names(blocks_per_stage)):
        stage, block = divmod(index, blocks_per_stage)
        there = f"layer{stage + 1}.{block}"
        for part in ("bn1", "conv1", "bn2", "conv2", "bn3", "conv3"):
            keys[(name, part)] = f"{there}.{part}"
        if block == 0:
            keys[(name, "shortcut_conv")] = f"{there}.downsample.0"
    return tuple({**keys, ("bn",): "bn", ("head",): head} for head in ("fc", "linear"))


def blocks_of_depth(depth: int) -> int:
    """Returns n for depth 9n+2."""
    return (depth - 2) // 9


def new_module(depth: int, *, num_classes: int, **options) -> PreResNet:
    """Returns the module of depth 9n+2. Its own initial weights are not used; see `initialization`."""
    return PreResNet(blocks_per_stage=blocks_of_depth(depth), num_classes=num_classes, rngs=UnusedRngs(), **options)
