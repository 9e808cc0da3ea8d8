"""In the style of NNX's MNIST tutorial: `partial` attributes, and dropout whose streams are given with the call."""

from functools import partial

import jax
from flax import nnx

from jaxprune.models import ChannelGroup, Consumer
from tests.guests.weights import built


class CNN(nnx.Module):
    """Two convolutions with BatchNorm and dropout, and two linear layers behind all pixels."""

    def __init__(self, features: int = 6, *, rngs: nnx.Rngs):
        self.features = features
        self.conv1 = nnx.Conv(3, features, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(features, rngs=rngs)
        self.conv2 = nnx.Conv(features, 8, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(8, rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(32, 8, rngs=rngs)
        self.dropout = nnx.Dropout(rate=0.025)
        self.linear2 = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x, rngs: nnx.Rngs | None = None):
        x = self.avg_pool(nnx.relu(self.batch_norm1(self.conv1(x))))
        x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
        x = x.reshape(x.shape[0], -1)  # flatten
        x = nnx.relu(self.dropout(self.linear1(x), rngs=rngs))
        return self.linear2(x)

    # What jaxprune asks for where channels are to be removed.

    def channel_groups(self):
        return (ChannelGroup("conv1", self.features, ("conv1",), ("batch_norm1",), (Consumer("conv2"),)),)

    def with_widths(self, widths):
        return CNN(widths["conv1"], rngs=nnx.Rngs(0))


def new():
    """Returns the module, and its logits of normalised images as its own library computes them."""
    module = built(lambda: CNN(rngs=nnx.Rngs(0)))

    def logits(images):
        module.eval()
        return jax.jit(lambda module, x: module(x))(module, images)

    return module, logits
