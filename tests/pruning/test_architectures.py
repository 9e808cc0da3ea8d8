"""Every family of `models.MODELS`, made narrow: compact equals masked under every criterion, and after training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import models, pruning
from tests.pruning import toy
from tests.pruning.test_compaction import trained

# One member of each family; `widths` makes every channel group at most so wide.
FAMILIES = {
    "resnet14": {},
    "resnet14-projection": {"shortcut": "projection"},
    "preresnet11": {},
    "vgg11_bn-linear": {"head": "linear"},
    "vgg11_bn-hidden": {"head": "hidden"},
    "resnet18": {},
    "resnet50": {},
    "mobilenet_v2": {},
    "wideresnet16_4": {},
}
MAX_WIDTH = 8
QUICK = ("resnet14", "preresnet11", "vgg11_bn-hidden")
PARAMETERS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@functools.cache
def narrow(name):
    architecture, options = name.partition("-")[0], FAMILIES[name]
    net = models.create(
        architecture, num_classes=toy.CLASSES, key=jax.random.key(0), mean=(0.5,) * 3, std=(0.25,) * 3, **options
    )
    widths = {
        group.name: tuple(range(0, len(group.indices), 2)) if group.selection else min(group.width, MAX_WIDTH)
        for group in net.channel_groups()
    }
    narrower = net.with_widths(widths)
    return toy.randomised(narrower)


@jax.jit
def logits_of(classifier, images):
    return classifier.apply(classifier.params, classifier.batch_stats, images)[0]


def layers_for(net, criterion):
    reads = pruning.CRITERIA[criterion].reads
    return [group.name for group in net.channel_groups() if reads == "anything" or getattr(group, reads)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_compact_equals_masked_under_every_criterion_and_after_training(name):
    net, images, labels = narrow(name), jnp.asarray(toy.images(4, size=32)), jnp.asarray(toy.labels(4))
    dense = np.asarray(logits_of(net, images))
    for criterion in pruning.CRITERIA:
        # The same fraction of every layer: all criteria share their compilations.
        sparse, masks = pruning.prune_channels(
            net,
            criterion=criterion,
            channel_sparsity=0.5,
            layers=layers_for(net, criterion),
            key=jax.random.key(1),
            images=images,
            labels=labels,
        )
        small = pruning.compact(sparse, masks)
        masked = np.asarray(logits_of(sparse, images))
        scale = max(1.0, np.abs(masked).max())
        np.testing.assert_allclose(logits_of(small, images), masked, atol=1e-5 * scale, err_msg=criterion)
        assert np.abs(masked - dense).max() > 1e-3 * scale
        halved = {group.name for group in small.channel_groups()} & set(layers_for(net, criterion))
        widths = {group.name: group.width for group in net.channel_groups()}
        assert all(group.width == widths[group.name] // 2 for group in small.channel_groups() if group.name in halved)
        assert len(jax.tree.leaves(small.params)) == len(jax.tree.leaves(net.params))
    step = jax.jit(trained, static_argnames="steps")
    small, sparse = step(small, None, images, labels, steps=1), step(sparse, masks, images, labels, steps=1)
    masked = np.asarray(logits_of(sparse, images))
    scale = max(1.0, np.abs(masked).max())
    np.testing.assert_allclose(logits_of(small, images), masked, atol=5e-5 * scale)
