"""In the style of Flax's ImageNet ResNets: lists of sizes, layers as partial functions, statistics over devices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprune.models import ChannelGroup, Consumer
from tests.guests.weights import initial

ModuleDef = Any


class ResNetBlock(nn.Module):
    """A residual block."""

    filters: int
    conv: ModuleDef
    norm: ModuleDef
    act: Callable
    strides: tuple[int, int] = (1, 1)
    inner: int | None = None

    @nn.compact
    def __call__(self, x):
        residual = x
        y = self.conv(self.inner or self.filters, (3, 3), self.strides)(x)
        y = self.norm()(y)
        y = self.act(y)
        y = self.conv(self.filters, (3, 3))(y)
        y = self.norm(scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(residual)
            residual = self.norm(name="norm_proj")(residual)
        return self.act(residual + y)


class ResNet(nn.Module):
    """A ResNet; `inner` is jaxprune's, the width inside the first block."""

    stage_sizes: Sequence[int]
    block_cls: ModuleDef
    num_classes: int
    num_filters: int = 4
    dtype: Any = jnp.float32
    act: Callable = nn.relu
    inner: int = 6

    @nn.compact
    def __call__(self, x, train: bool = True):
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name="batch",
        )
        x = conv(self.num_filters, (3, 3), name="conv_init")(x)
        x = norm(name="bn_init")(x)
        x = nn.relu(x)
        for i, block_size in enumerate(self.stage_sizes):
            for j in range(block_size):
                strides = (2, 2) if i > 0 and j == 0 else (1, 1)
                x = self.block_cls(
                    self.num_filters * 2**i,
                    strides=strides,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    inner=self.inner if i == 0 else None,
                )(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(self.num_classes, dtype=self.dtype)(x)
        return jnp.asarray(x, self.dtype)

    # What jaxprune asks for where channels are to be removed.

    def channel_groups(self):
        block = "ResNetBlock_0"
        readers = (Consumer(f"{block}/Conv_1"),)
        return (ChannelGroup("inner", self.inner, (f"{block}/Conv_0",), (f"{block}/BatchNorm_0",), readers),)

    def with_widths(self, widths):
        return self.clone(inner=widths["inner"])


def new():
    """Returns the module, its variables, and its logits of normalised images as its own library computes them."""
    module = ResNet(stage_sizes=[1], block_cls=ResNetBlock, num_classes=5)
    variables = initial(module, train=False)
    return module, variables, jax.jit(lambda images: module.apply(variables, images, train=False, mutable=False))
