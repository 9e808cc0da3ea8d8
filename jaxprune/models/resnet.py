"""The CIFAR ResNet-(6n+2) family (He et al. 2016, section 4.2) with explicit widths."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, Consumer, resolve_widths

IMAGE_SIZE = 32
STAGE_WIDTHS = (16, 32, 64)
STAGE_STRIDES = (1, 2, 2)
# PyTorch's BatchNorm defaults, which the public checkpoints were trained with: momentum 0.1 there is 0.9 here.
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5
SHORTCUTS = ("subsample", "average_pool")


def conv3x3(in_features: int, out_features: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """Returns a 3 x 3 convolution padded by one pixel on every side, as PyTorch does for any stride."""
    return nnx.Conv(
        in_features,
        out_features,
        (3, 3),
        strides=stride,
        padding=1,
        use_bias=False,
        rngs=rngs,
    )


def batch_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Returns BatchNorm with PyTorch's constants."""
    return nnx.BatchNorm(features, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, rngs=rngs)


def option_a_shortcut(x: Float[Array, "n h w c"], *, features: int, stride: int, kind: str) -> Array:
    """Returns the parameter-free shortcut: fewer pixels, and channels padded with zeros to `features`.

    `kind` "subsample" takes every other pixel and pads half before, half after (the public CIFAR checkpoints);
    "average_pool" averages 2 x 2 pixels and pads after (the study's filter-pruned networks).
    """
    extra = features - x.shape[-1]
    if kind == "subsample":
        x = x[:, ::stride, ::stride]
        before = extra // 2
    else:
        x = nnx.avg_pool(x, (stride, stride), strides=(stride, stride)) if stride > 1 else x
        before = 0
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, extra - before)))


class BasicBlock(nnx.Module):
    """conv-BN-ReLU-conv-BN plus the shortcut, then ReLU; `inner` channels between the convolutions."""

    def __init__(self, in_features: int, inner: int, features: int, stride: int, shortcut: str, rngs: nnx.Rngs):
        self.conv1 = conv3x3(in_features, inner, stride, rngs)
        self.bn1 = batch_norm(inner, rngs)
        self.conv2 = conv3x3(inner, features, 1, rngs)
        self.bn2 = batch_norm(features, rngs)
        self.features, self.stride, self.shortcut = features, stride, shortcut

    def __call__(self, x):
        """Returns the block's output `[n, h / stride, w / stride, features]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if x.shape != y.shape:
            x = option_a_shortcut(x, features=self.features, stride=self.stride, kind=self.shortcut)
        return nnx.relu(x + y)


class CifarResNet(nnx.Module):
    """ResNet of depth 6n+2: a 3 x 3 stem, three stages of n basic blocks, global average pool, linear.

    Blocks are attributes `stage1_block0`, ... so that parameter paths are names. `widths` changes the number of
    channels between a block's two convolutions, {"stage1_block0": 12, ...}; by default it is the stage's width.
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
        shortcut: str = "subsample",
        in_channels: int = 3,
    ):
        if shortcut not in SHORTCUTS:
            raise ValueError(f"unknown shortcut {shortcut!r}; known: {', '.join(SHORTCUTS)}")
        self.block_names = tuple(
            f"stage{stage + 1}_block{block}" for stage in range(len(stage_widths)) for block in range(blocks_per_stage)
        )
        defaults = {name: stage_widths[index // blocks_per_stage] for index, name in enumerate(self.block_names)}
        self.widths = tuple(resolve_widths(defaults, widths, model="a CIFAR ResNet").items())
        self.conv = conv3x3(in_channels, stage_widths[0], 1, rngs)
        self.bn = batch_norm(stage_widths[0], rngs)
        features = stage_widths[0]
        for index, (name, inner) in enumerate(self.widths):
            stage, block = divmod(index, blocks_per_stage)
            stride = STAGE_STRIDES[stage] if block == 0 else 1
            setattr(self, name, BasicBlock(features, inner, stage_widths[stage], stride, shortcut, rngs))
            features = stage_widths[stage]
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = nnx.relu(self.bn(self.conv(x)))
        for name in self.block_names:
            x = getattr(self, name)(x)
        return self.head(jnp.mean(x, axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns one group per block: the channels between its two convolutions.

        The residual streams are no groups: the padded shortcut ties the channels of one stage to those of the next.
        """
        return tuple(
            ChannelGroup(
                name=name,
                width=width,
                producers=(f"{name}/conv1",),
                batch_norms=(f"{name}/bn1",),
                consumers=(Consumer(f"{name}/conv2"),),
            )
            for name, width in self.widths
        )

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns "study": the first stage's blocks without its last one (STUDY; Li et al. 2017, ResNet-110-A)."""
        first_stage = tuple(name for name in self.block_names if name.startswith("stage1_"))
        return {"study": first_stage[:-1]} if len(first_stage) > 1 else {}


def torch_keys(blocks_per_stage: int, **options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for each module path here, the prefix of its keys in the public CIFAR ResNet checkpoints."""
    del options  # no option changes the names
    keys = {("conv",): "conv1", ("bn",): "bn1", ("head",): "linear"}
    for stage in range(len(STAGE_WIDTHS)):
        for block in range(blocks_per_stage):
            for part in ("conv1", "bn1", "conv2", "bn2"):
                keys[(f"stage{stage + 1}_block{block}", part)] = f"layer{stage + 1}.{block}.{part}"
    return (keys,)


def blocks_of_depth(depth: int) -> int:
    """Returns n for depth 6n+2."""
    return (depth - 2) // 6


def new_module(depth: int, *, num_classes: int, **options) -> CifarResNet:
    """Returns the module of depth 6n+2. Its own initial weights are not used; see `initialization`."""
    return CifarResNet(blocks_per_stage=blocks_of_depth(depth), num_classes=num_classes, rngs=nnx.Rngs(0), **options)
