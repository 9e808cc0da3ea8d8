"""A small network with every kind of channel group that pruning knows."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxprune import models

WIDTHS = {"stream": 6, "inner": 5, "expanded": 8, "selected": tuple(range(6)), "last": 4, "hidden": 7}
SIZE, CLASSES = 8, 3


class Toy(nnx.Module):
    """stem and a block on a residual stream, an inverted residual, a selection, a flattened linear layer, BN1d."""

    image_size = SIZE

    def __init__(self, rngs, **widths):
        w = self.widths = {**WIDTHS, **widths}
        self.widths = tuple(w.items())
        p = len(WIDTHS["selected"])

        def conv(inputs, outputs, kernel, **options):
            return nnx.Conv(inputs, outputs, (kernel, kernel), rngs=rngs, **options)

        self.stem, self.bn_stem = conv(3, w["stream"], 3), nnx.BatchNorm(w["stream"], rngs=rngs)
        self.conv1, self.bn1 = conv(w["stream"], w["inner"], 3), nnx.BatchNorm(w["inner"], rngs=rngs)
        self.conv2, self.bn2 = conv(w["inner"], w["stream"], 3), nnx.BatchNorm(w["stream"], rngs=rngs)
        self.expand, self.bn_expand = conv(w["stream"], w["expanded"], 1), nnx.BatchNorm(w["expanded"], rngs=rngs)
        self.depthwise = conv(w["expanded"], w["expanded"], 3, feature_group_count=w["expanded"], use_bias=False)
        self.bn_depthwise = nnx.BatchNorm(w["expanded"], rngs=rngs)
        self.project, self.bn_project = conv(w["expanded"], p, 1), nnx.BatchNorm(p, rngs=rngs)
        selected = len(w["selected"])
        self.bn_select = nnx.BatchNorm(selected, rngs=rngs)
        self.conv_last, self.bn_last = conv(selected, w["last"], 1, use_bias=False), nnx.BatchNorm(w["last"], rngs=rngs)
        self.linear = nnx.Linear(w["last"] * (SIZE // 2) ** 2, w["hidden"], rngs=rngs)
        self.bn_hidden = nnx.BatchNorm(w["hidden"], rngs=rngs)
        self.head = nnx.Linear(w["hidden"], CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn_stem(self.stem(x)))
        x = nnx.relu(x + self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x))))))
        x = nnx.relu6(self.bn_expand(self.expand(x)))
        x = nnx.relu6(self.bn_depthwise(self.depthwise(x)))
        x = self.bn_project(self.project(x))
        x = nnx.relu(self.bn_select(x[..., np.array(dict(self.widths)["selected"])]))
        x = nnx.relu(self.bn_last(self.conv_last(x)))
        x = nnx.avg_pool(x, (2, 2), strides=(2, 2))
        x = nnx.relu(self.bn_hidden(self.linear(x.reshape(x.shape[0], -1))))
        return self.head(x)

    def channel_groups(self):
        group, consumer, w = models.ChannelGroup, models.Consumer, dict(self.widths)
        stream_readers = (consumer("conv1"), consumer("expand", absorbs_into="bn_expand"))
        positions = (SIZE // 2) ** 2
        return (
            group("stream", w["stream"], ("stem", "conv2"), ("bn_stem", "bn2"), stream_readers, residual=True),
            group("inner", w["inner"], ("conv1",), ("bn1",), (consumer("conv2"),)),
            group(
                "expanded",
                w["expanded"],
                ("expand", "depthwise"),
                ("bn_expand", "bn_depthwise"),
                (consumer("project", absorbs_into="bn_project"),),
            ),
            group(
                "selected",
                len(w["selected"]),
                (),
                ("bn_select",),
                (consumer("conv_last", absorbs_into="bn_last"),),
                selection=True,
                indices=w["selected"],
            ),
            group(
                "last", w["last"], ("conv_last",), ("bn_last",), (consumer("linear", positions, absorbs_into="linear"),)
            ),
            group("hidden", w["hidden"], ("linear",), ("bn_hidden",), (consumer("head", absorbs_into="head"),)),
        )

    def layer_choices(self):
        return {"study": ("inner", "last")}

    def with_widths(self, widths):
        return Toy(nnx.Rngs(0), **{**dict(self.widths), **widths})


def randomised(classifier, seed=0):
    """Returns the classifier with every weight and statistic random, so that no channel is 0 or 1 by chance."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "var":
            return jnp.asarray(rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32))
        scale = 0.5 if leaf.ndim == 1 else 1 / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray((scale * rng.normal(size=leaf.shape)).astype(np.float32))

    params, stats = (
        jax.tree_util.tree_map_with_path(draw, tree) for tree in (classifier.params, classifier.batch_stats)
    )
    return classifier.replace(params=params, batch_stats=stats)


def classifier(seed=0):
    net = models.from_nnx(Toy(nnx.Rngs(0)), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), num_classes=CLASSES)
    return randomised(net, seed)


def images(count=4, seed=1, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def labels(count=4, seed=2, classes=CLASSES):
    return np.random.default_rng(seed).integers(0, classes, count).astype(np.int32)
