"""The CIFAR ResNet-(6n+2) family (He et al. 2016, section 4.2) with explicit widths."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, Consumer, resolve_widths
from jaxprune.models.initialization import UnusedRngs

IMAGE_SIZE = 32
STAGE_WIDTHS = (16, 32, 64)
STAGE_STRIDES = (1, 2, 2)
# PyTorch's BatchNorm defaults, which the public checkpoints were trained with: momentum 0.1 there is 0.9 here.
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5
SHORTCUTS = ("subsample", "average_pool", "projection")


def conv3x3(in_features: int, out_features: int, stride: int, rngs: nnx.Rngs, *, use_bias: bool = False) -> nnx.Conv:
    """Returns a 3 x 3 convolution padded by one pixel on every side, as PyTorch does for any stride."""
    return nnx.Conv(
        in_features,
        out_features,
        (3, 3),
        strides=stride,
        padding=1,
        use_bias=use_bias,
        rngs=rngs,
    )


def conv1x1(in_features: int, out_features: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """Returns a 1 x 1 convolution without bias; a stride of 2 takes every other pixel, from the first."""
    return nnx.Conv(in_features, out_features, (1, 1), strides=stride, padding="VALID", use_bias=False, rngs=rngs)


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
    """conv-BN-ReLU-conv-BN plus the shortcut, then ReLU; `inner` channels between the convolutions.

    The shortcut "projection" has weights, a 1 x 1 convolution and BatchNorm, where a stage begins (stride 2).
    """

    def __init__(self, in_features: int, inner: int, features: int, stride: int, shortcut: str, rngs: nnx.Rngs):
        self.conv1 = conv3x3(in_features, inner, stride, rngs)
        self.bn1 = batch_norm(inner, rngs)
        self.conv2 = conv3x3(inner, features, 1, rngs)
        self.bn2 = batch_norm(features, rngs)
        self.projects = shortcut == "projection" and stride > 1
        if self.projects:
            self.shortcut_conv = conv1x1(in_features, features, stride, rngs)
            self.shortcut_bn = batch_norm(features, rngs)
        self.features, self.stride, self.shortcut = features, stride, shortcut

    def __call__(self, x):
        """Returns the block's output `[n, h / stride, w / stride, features]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.projects:
            x = self.shortcut_bn(self.shortcut_conv(x))
        elif x.shape != y.shape:
            x = option_a_shortcut(x, features=self.features, stride=self.stride, kind=self.shortcut)
        return nnx.relu(x + y)


class CifarResNet(nnx.Module):
    """ResNet of depth 6n+2: a 3 x 3 stem, three stages of n basic blocks, global average pool, linear.

    Blocks are attributes `stage1_block0`, ... so that parameter paths are names. `widths` changes the number of
    channels between a block's two convolutions, {"stage1_block0": 12, ...}; by default it is the stage's width. With
    the shortcut "projection" it also changes the stages' residual streams, {"stage2_stream": 20, ...}.
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
        check_stage_widths(stage_widths)
        self.blocks_per_stage, self.shortcut = blocks_per_stage, shortcut
        self.block_names = block_names(blocks_per_stage)
        defaults = {name: stage_widths[index // blocks_per_stage] for index, name in enumerate(self.block_names)}
        if shortcut == "projection":
            defaults |= {f"stage{stage}_stream": width for stage, width in enumerate(stage_widths, 1)}
        resolved = resolve_widths(defaults, widths, model=f"a CIFAR ResNet with the {shortcut} shortcut")
        self.widths = tuple(resolved.items())
        streams = [resolved.get(f"stage{stage}_stream", width) for stage, width in enumerate(stage_widths, 1)]
        features = streams[0]
        self.conv = conv3x3(in_channels, features, 1, rngs)
        self.bn = batch_norm(features, rngs)
        for index, name in enumerate(self.block_names):
            stage, block = divmod(index, blocks_per_stage)
            stride = STAGE_STRIDES[stage] if block == 0 else 1
            setattr(self, name, BasicBlock(features, resolved[name], streams[stage], stride, shortcut, rngs))
            features = streams[stage]
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images."""
        x = nnx.relu(self.bn(self.conv(x)))
        for name in self.block_names:
            x = getattr(self, name)(x)
        return self.head(jnp.mean(x, axis=(1, 2)))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns one group per block, the channels between its two convolutions, and with projections the streams.

        A stage's residual stream is a group of its own if projections separate the stages. Otherwise it is none: the
        padded shortcut ties the channels of one stage to those of the next.
        """
        widths = dict(self.widths)
        groups = tuple(
            ChannelGroup(
                name=name,
                width=widths[name],
                producers=(f"{name}/conv1",),
                batch_norms=(f"{name}/bn1",),
                consumers=(Consumer(f"{name}/conv2"),),
            )
            for name in self.block_names
        )
        if self.shortcut != "projection":
            return groups
        return groups + tuple(
            self._stream(stage, widths[f"stage{stage + 1}_stream"]) for stage in range(len(STAGE_WIDTHS))
        )

    def _stream(self, stage: int, width: int) -> ChannelGroup:
        n = self.blocks_per_stage
        blocks = self.block_names[stage * n : (stage + 1) * n]
        # The stem writes the first stage's stream, the projection of a stage's first block every other one.
        first = ("conv", "bn") if stage == 0 else (f"{blocks[0]}/shortcut_conv", f"{blocks[0]}/shortcut_bn")
        readers = [f"{name}/conv1" for name in blocks[0 if stage == 0 else 1 :]]
        if stage + 1 < len(STAGE_WIDTHS):
            name = self.block_names[(stage + 1) * n]
            readers += [f"{name}/conv1", f"{name}/shortcut_conv"]
        else:
            readers.append("head")
        return ChannelGroup(
            name=f"stage{stage + 1}_stream",
            width=width,
            producers=(first[0], *(f"{name}/conv2" for name in blocks)),
            batch_norms=(first[1], *(f"{name}/bn2" for name in blocks)),
            # Nothing absorbs a constant: the stream is the sum of what several layers write.
            consumers=tuple(Consumer(path) for path in readers),
            residual=True,
        )

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns "study": the first stage's blocks without its last one (STUDY; Li et al. 2017, ResNet-110-A).

        With one block per stage there is none.
        """
        chosen = self.block_names[: self.blocks_per_stage - 1]
        return {"study": chosen} if chosen else {}


def check_stage_widths(stage_widths) -> None:
    """Raises ValueError unless there is one positive integer per stage."""
    if len(stage_widths) != len(STAGE_WIDTHS) or not all(isinstance(w, int) and w >= 1 for w in stage_widths):
        raise ValueError(f"stage_widths {stage_widths!r}; give {len(STAGE_WIDTHS)} integers >= 1, as {STAGE_WIDTHS}")


def block_names(blocks_per_stage: int) -> tuple[str, ...]:
    """Returns the names of all blocks, from input to output, such as "stage1_block0"."""
    stages = range(1, len(STAGE_WIDTHS) + 1)
    return tuple(f"stage{stage}_block{block}" for stage in stages for block in range(blocks_per_stage))


def torch_keys(blocks_per_stage: int, *, shortcut: str = "subsample", **options) -> tuple[dict, ...]:
    """Returns, for every public naming, the prefix of the keys of each module path here.

    The CIFAR repositories differ in the name of the head and, if it has weights, of the shortcut.
    """
    del options  # no other option changes the names
    namings = []
    for head in ("linear", "fc"):
        for projection in ("downsample", "shortcut") if shortcut == "projection" else (None,):
            keys = {("conv",): "conv1", ("bn",): "bn1"}
            for index, name in enumerate(block_names(blocks_per_stage)):
                stage, block = divmod(index, blocks_per_stage)
                for part in ("conv1", "bn1", "conv2", "bn2"):
                    keys[(name, part)] = f"layer{stage + 1}.{block}.{part}"
                if projection is not None and block == 0 and STAGE_STRIDES[stage] > 1:
                    keys[(name, "shortcut_conv")] = f"layer{stage + 1}.{block}.{projection}.0"
                    keys[(name, "shortcut_bn")] = f"layer{stage + 1}.{block}.{projection}.1"
            namings.append({**keys, ("head",): head})
    return tuple(namings)


def blocks_of_depth(depth: int) -> int:
    """Returns n for depth 6n+2."""
    return (depth - 2) // 6


def new_module(depth: int, *, num_classes: int, **options) -> CifarResNet:
    """Returns the module of depth 6n+2. Its own initial weights are not used; see `initialization`."""
    return CifarResNet(blocks_per_stage=blocks_of_depth(depth), num_classes=num_classes, rngs=UnusedRngs(), **options)
