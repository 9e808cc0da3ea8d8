"""Wide residual networks for 32 x 32 images (Zagoruyko and Komodakis 2016, section 2), without dropout."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, resolve_widths
from jaxprune.models.initialization import UnusedRngs
from jaxprune.models.layers import convolution
from jaxprune.models.resnet import batch_norm
from jaxprune.models.wiring import Layer, groups_of_layers

IMAGE_SIZE = 32
STEM_WIDTH = 16
STAGE_WIDTHS = (16, 32, 64)  # times the widening factor
STAGE_STRIDES = (1, 2, 2)
# (depth, widening factor). 28-10 is the paper's best; 40-2 is the usual network of the corruption benchmarks.
DEPTHS_AND_FACTORS = {"wideresnet16_4": (16, 4), "wideresnet28_10": (28, 10), "wideresnet40_2": (40, 2)}


class PreActivationBlock(nnx.Module):
    """BN-ReLU-conv-BN-ReLU-conv plus the shortcut: the input, or a 1 x 1 convolution of the activated input."""

    def __init__(self, in_features: int, inner: int, features: int, stride: int, projected: bool, rngs: nnx.Rngs):
        self.bn1 = batch_norm(in_features, rngs)
        self.conv1 = convolution(in_features, inner, 3, rngs, stride=stride)
        self.bn2 = batch_norm(inner, rngs)
        self.conv2 = convolution(inner, features, 3, rngs)
        if projected:
            self.shortcut_conv = convolution(in_features, features, 1, rngs, stride=stride)
        self.projected = projected

    def __call__(self, x):
        """Returns the block's output `[n, h / stride, w / stride, features]`, not activated."""
        activated = nnx.relu(self.bn1(x))
        y = self.conv2(nnx.relu(self.bn2(self.conv1(activated))))
        return y + (self.shortcut_conv(activated) if self.projected else x)


class WideResNet(nnx.Module):
    """A 3 x 3 stem, three stages of (depth - 4) / 6 pre-activation blocks, BN-ReLU, global average pool, linear.

    Every stage is wider than what comes before it, so its first block projects. `widths` changes the number of
    channels of any group of `channel_groups()`.
    """

    image_size = IMAGE_SIZE

    def __init__(self, *, depth: int, factor: int, num_classes: int, rngs: nnx.Rngs, widths=None, in_channels: int = 3):
        self.depth = depth
        self.widths = tuple(resolve_widths(_default_widths(depth, factor), widths, model="a wide ResNet").items())
        widths = dict(self.widths)
        features = widths["stem"]
        self.conv = convolution(in_channels, features, 3, rngs)
        for name, stage, block in _blocks(depth):
            inner, stream = widths[f"{name}_inner1"], widths[f"stage{stage}_stream"]
            stride = STAGE_STRIDES[stage - 1] if block == 0 else 1
            setattr(self, name, PreActivationBlock(features, inner, stream, stride, block == 0, rngs))
            features = stream
        self.bn = batch_norm(features, rngs)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = self.conv(x)
        for name, _, _ in _blocks(self.depth):
            x = getattr(self, name)(x)
        return self.head(jnp.mean(nnx.relu(self.bn(x)), axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns the stem, the channels between the convolutions of every block, and every stage's residual stream.

        The BatchNorms over a stream belong to the blocks that read it, one each. No layer absorbs a constant: all are
        padded, or feed a stream, except the head, which reads a stream.
        """
        layers, batch_norms = [Layer("conv", None, "stem")], []
        stream = "stem"
        for name, stage, block in _blocks(self.depth):
            inputs, inner, stream = stream, f"{name}_inner1", f"stage{stage}_stream"
            batch_norms += [(f"{name}/bn1", inputs), (f"{name}/bn2", inner)]
            layers += [Layer(f"{name}/conv1", inputs, inner), Layer(f"{name}/conv2", inner, stream)]
            if block == 0:
                layers.append(Layer(f"{name}/shortcut_conv", inputs, stream))
        layers.append(Layer("head", stream, None))
        batch_norms.append(("bn", stream))
        residual = {name for name, _ in self.widths if name.endswith("_stream")}
        return groups_of_layers(self.widths, layers, batch_norms, residual=residual)

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns no choices: the study has none for these networks."""
        return {}


def _blocks(depth: int) -> tuple[tuple[str, int, int], ...]:
    """Returns (name, stage from 1, block from 0) of every block, in order."""
    return tuple(
        (f"stage{stage}_block{block}", stage, block)
        for stage in range(1, len(STAGE_WIDTHS) + 1)
        for block in range((depth - 4) // 6)
    )


def _default_widths(depth: int, factor: int) -> dict[str, int]:
    widths = {"stem": STEM_WIDTH}
    for name, stage, block in _blocks(depth):
        if block == 0:
            widths[f"stage{stage}_stream"] = STAGE_WIDTHS[stage - 1] * factor
        widths[f"{name}_inner1"] = STAGE_WIDTHS[stage - 1] * factor
    return widths


def new_module(name: str, *, num_classes: int, **options) -> WideResNet:
    """Returns the module of a row of `DEPTHS_AND_FACTORS`. Its own initial weights are not used."""
    depth, factor = DEPTHS_AND_FACTORS[name]
    return WideResNet(depth=depth, factor=factor, num_classes=num_classes, rngs=UnusedRngs(), **options)


def torch_keys(name: str, **options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for each module path here, the prefix of its keys in the widely used PyTorch implementation."""
    del options  # no option changes the names
    keys = {("conv",): "conv1", ("bn",): "bn1", ("head",): "fc"}
    for block_name, stage, block in _blocks(DEPTHS_AND_FACTORS[name][0]):
        prefix = f"block{stage}.layer.{block}"
        keys |= {(block_name, part): f"{prefix}.{part}" for part in ("bn1", "conv1", "bn2", "conv2")}
        if block == 0:
            keys[(block_name, "shortcut_conv")] = f"{prefix}.convShortcut"
    return (keys,)
