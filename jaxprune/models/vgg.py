"""VGG with BatchNorm (Simonyan & Zisserman 2015; STUDY) with explicit widths, and the heads it is published with."""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxprune.models.channels import ChannelGroup, Consumer, resolve_widths
from jaxprune.models.initialization import UnusedRngs
from jaxprune.models.resnet import batch_norm, conv3x3

# Simonyan & Zisserman 2015, Table 1, columns A, B, D and E: 3 x 3 convolutions between the max-pools, and their widths.
CONVS_PER_STAGE = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
STAGE_WIDTHS = (64, 128, 256, 512, 512)
# Li et al. 2017, Table 2: convolutions that lose filters, counting from 1. Stated for VGG-16 only.
FILTER_PRUNED_CONVS = {16: (1, *range(8, 14))}
POOLS = ("average", "max")


class Head(NamedTuple):
    """What follows the convolutions.

    Attributes:
      hidden: widths of the linear layers before the last one, each followed by ReLU.
      batch_norm: whether BatchNorm stands between such a layer and its ReLU.
      pixels: the feature map is averaged to `pixels` x `pixels` and flattened.
      pool, conv_bias: the convolutions that usually come with this head.
      image_size: pixels per side of the usual images.
      torch_layers: the numbers of the linear layers (with `batch_norm`: of hidden layer, BatchNorm and last layer) in
        PyTorch's `classifier`, for every public naming; None is a `classifier` that is the layer itself.
    """

    hidden: tuple[int, ...]
    batch_norm: bool
    pixels: int
    pool: str
    conv_bias: bool
    image_size: int
    torch_layers: tuple[tuple[int | None, ...], ...]


# The last numbering is that of repositories whose classifier begins with dropout.
_TWO_HIDDEN_LAYERS = ((0, 3, 6), (1, 4, 6))
HEADS = {
    "linear": Head((), False, 1, "average", False, 32, ((None,),)),
    "hidden": Head((512,), True, 1, "average", False, 32, ((0, 1, 3),)),
    "two_hidden": Head((512, 512), False, 1, "max", True, 32, _TWO_HIDDEN_LAYERS),
    "imagenet": Head((4096, 4096), False, 7, "max", True, 224, _TWO_HIDDEN_LAYERS),
}


def adaptive_average_pool(x: Float[Array, "n h w c"], pixels: int) -> Float[Array, "n pixels pixels c"]:
    """Returns `x` averaged to `pixels` x `pixels` cells as PyTorch's adaptive pooling does.

    Cell i of p averages the pixels floor(i h / p) to ceil((i + 1) h / p), so cells overlap, or repeat pixels, where h
    is no multiple of p.
    """
    if x.shape[1:3] == (pixels, pixels):
        return x
    rows, columns = (jnp.asarray(_cell_weights(size, pixels), x.dtype) for size in x.shape[1:3])
    return jnp.einsum("ph,nhwc,qw->npqc", rows, x, columns, precision=jax.lax.Precision.HIGHEST)


def _cell_weights(size: int, cells: int) -> np.ndarray:
    first = np.arange(cells)[:, None] * size // cells
    last = -(-(np.arange(cells)[:, None] + 1) * size // cells)
    pixel = np.arange(size)[None]
    return ((first <= pixel) & (pixel < last)) / np.float32(last - first)


class Vgg(nnx.Module):
    """VGG-(depth): 3 x 3 convolutions with BatchNorm and ReLU, 2 x 2 max-pools between them, and a head.

    Layers are attributes `conv1`, `bn1`, ..., `hidden1`, ..., `head`. Published heads with two hidden layers train with
    dropout between them; it is left out here, so that training needs no random state (evaluation is the same).

    Args:
      depth: 11, 13, 16 or 19, a key of `CONVS_PER_STAGE`.
      head: a key of `HEADS`: "linear" (one linear layer), "hidden" (512 units with BatchNorm; the study's filter-pruned
        VGG-16), "two_hidden" (512 and 512 units; public CIFAR checkpoints), "imagenet" (7 x 7 pixels flattened, 4096
        and 4096 units; torchvision).
      stage_widths: channels of the convolutions between the max-pools, five integers.
      widths: {"conv1": 32, "hidden1": 100, ...} changes the outputs of a layer.
      pool: after the last convolution, "average" (of all pixels; at 32 x 32 the study's 2 x 2 average pool) or "max" (a
        fifth 2 x 2 max-pool, then the average); None is the head's usual one.
      conv_bias: whether convolutions have a bias; None is the head's usual choice, no for the study's two heads.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        rngs: nnx.Rngs,
        head: str = "linear",
        stage_widths: tuple[int, ...] = STAGE_WIDTHS,
        widths=None,
        pool: str | None = None,
        conv_bias: bool | None = None,
        in_channels: int = 3,
    ):
        if head not in HEADS:
            raise ValueError(f"unknown head {head!r}; known: {', '.join(HEADS)}")
        spec = HEADS[head]
        pool = spec.pool if pool is None else pool
        if pool not in POOLS:
            raise ValueError(f"unknown pool {pool!r}; known: {', '.join(POOLS)}")
        self.depth, self.pixels, self.image_size = depth, spec.pixels, spec.image_size
        self.conv_stages = _conv_stages(depth)
        self.pooled_stages = len(STAGE_WIDTHS) if pool == "max" else len(STAGE_WIDTHS) - 1
        if len(stage_widths) != len(STAGE_WIDTHS) or not all(isinstance(w, int) and w >= 1 for w in stage_widths):
            given, number = f"stage_widths {stage_widths!r}", len(STAGE_WIDTHS)
            raise ValueError(f"{given}; give {number} integers >= 1, as {STAGE_WIDTHS}")
        defaults = {f"conv{number}": stage_widths[stage] for number, stage in enumerate(self.conv_stages, 1)}
        defaults |= {f"hidden{number}": width for number, width in enumerate(spec.hidden, 1)}
        self.widths = tuple(resolve_widths(defaults, widths, model=f"VGG-{depth} with the {head} head").items())
        use_bias = spec.conv_bias if conv_bias is None else conv_bias
        features = in_channels
        for number, (name, width) in enumerate(self.widths[: len(self.conv_stages)], 1):
            setattr(self, name, conv3x3(features, width, 1, rngs, use_bias=use_bias))
            setattr(self, f"bn{number}", batch_norm(width, rngs))
            features = width
        features *= spec.pixels**2
        for name, width in self.widths[len(self.conv_stages) :]:
            setattr(self, name, nnx.Linear(features, width, rngs=rngs))
            if spec.batch_norm:
                setattr(self, f"{name}_bn", batch_norm(width, rngs))
            features = width
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of normalised images.

        Raises:
          ValueError: images that the max-pools leave nothing of.
        """
        if min(x.shape[1:3]) < 2**self.pooled_stages:
            raise ValueError(
                f"images of {x.shape[1]} x {x.shape[2]} pixels are too small for {self.pooled_stages} max-pools; "
                f"give at least {2**self.pooled_stages} x {2**self.pooled_stages}"
            )
        next_stages = (*self.conv_stages[1:], len(STAGE_WIDTHS))
        for number, (stage, next_stage) in enumerate(zip(self.conv_stages, next_stages, strict=True), 1):
            x = nnx.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
            if stage < next_stage and stage < self.pooled_stages:
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = adaptive_average_pool(x, self.pixels).reshape(len(x), -1)
        for name, _ in self.widths[len(self.conv_stages) :]:
            x = getattr(self, name)(x)
            x = nnx.relu(getattr(self, f"{name}_bn")(x) if hasattr(self, f"{name}_bn") else x)
        return self.head(x)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns one group per convolution and per hidden linear layer, each read by the layer behind it."""
        names = [name for name, _ in self.widths]
        readers = [*names[1:], "head"]
        last_conv = len(self.conv_stages) - 1
        groups = []
        for index, ((name, width), reader) in enumerate(zip(self.widths, readers, strict=True)):
            is_conv = index <= last_conv
            norm = name.replace("conv", "bn") if is_conv else f"{name}_bn"
            consumer = Consumer(
                reader,
                positions=self.pixels**2 if index == last_conv else 1,
                # The pools keep a constant constant, and every linear layer has a bias.
                absorbs_into=None if index < last_conv else reader,
            )
            norms = (norm,) if hasattr(self, norm) else ()
            groups.append(ChannelGroup(name, width, producers=(name,), batch_norms=norms, consumers=(consumer,)))
        return tuple(groups)

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns "convolutions", and for VGG-16 "study": convolutions 1 and 8 to 13 (STUDY; Li et al. 2017)."""
        choices = {"convolutions": tuple(name for name, _ in self.widths[: len(self.conv_stages)])}
        if self.depth in FILTER_PRUNED_CONVS:
            choices["study"] = tuple(f"conv{number}" for number in FILTER_PRUNED_CONVS[self.depth])
        return choices


def _conv_stages(depth: int) -> tuple[int, ...]:
    """Returns the stage, from 0, of every convolution."""
    return tuple(stage for stage, count in enumerate(CONVS_PER_STAGE[depth]) for _ in range(count))


def torch_keys(depth: int, *, head: str = "linear", **options) -> tuple[dict[tuple[str, ...], str], ...]:
    """Returns, for every public naming, the prefix of the keys of each module path here.

    torchvision and its CIFAR variants number the layers of `features` and `classifier`; others say `feature`.
    """
    del options  # no other option changes the names
    spec = HEADS[head]
    linear_layers = []
    for number in range(1, len(spec.hidden) + 1):
        linear_layers += [(f"hidden{number}",)] + ([(f"hidden{number}_bn",)] if spec.batch_norm else [])
    linear_layers.append(("head",))
    namings = []
    for features in ("features", "feature"):
        for numbers in spec.torch_layers:
            keys = {}
            for index, stage in enumerate(_conv_stages(depth)):
                # Convolution, BatchNorm and ReLU count, and so does the max-pool behind every earlier stage.
                position = 3 * index + stage
                keys[(f"conv{index + 1}",)] = f"{features}.{position}"
                keys[(f"bn{index + 1}",)] = f"{features}.{position + 1}"
            for path, number in zip(linear_layers, numbers, strict=True):
                keys[path] = "classifier" if number is None else f"classifier.{number}"
            namings.append(keys)
    return tuple(namings)


def torch_options(names: Collection[str], num_classes: int, **options) -> tuple[dict, str | None]:
    """Returns the options of the network in a PyTorch file as its names show them, and what they leave open, in words.

    Files with `features` come from repositories with a fifth max-pool, those with `feature` from the slimming ones.
    """
    del num_classes
    spec = HEADS[options.get("head", "linear")]
    is_chosen = options.get("pool") is not None or spec.pool == "max"
    if is_chosen or not any(name.startswith("features.") for name in names):
        return options, None
    return options | {"pool": "max"}, (
        "its tensors do not show what follows the last convolution; pool='max' is taken, as repositories have it that "
        "say features (give pool='max' or 'average' to choose)"
    )


def new_module(depth: int, *, num_classes: int, **options) -> Vgg:
    """Returns VGG-(depth). Its own initial weights are not used; see `initialization`."""
    return Vgg(depth=depth, num_classes=num_classes, rngs=UnusedRngs(), **options)
