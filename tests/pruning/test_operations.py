"""Multiply-accumulates by hand, published counts, latency."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import models, pruning
from tests.pruning import toy


def shapes_only(name, **options):
    """A classifier of the table whose leaves are shapes: counting needs no weights."""
    shapes = models.abstract_state(name, num_classes=10, **options)
    return models.assemble(name, num_classes=10, **shapes, mean=(0,) * 3, std=(1,) * 3, **options)


def test_every_layer_of_the_toy_is_counted():
    net = toy.classifier()
    counts = pruning.multiply_accumulates(net, image_size=8)
    assert counts == {
        "stem/kernel": 64 * 27 * 6,
        "conv1/kernel": 64 * 9 * 6 * 5,
        "conv2/kernel": 64 * 9 * 5 * 6,
        "expand/kernel": 64 * 6 * 8,
        "depthwise/kernel": 64 * 9 * 8,
        "project/kernel": 64 * 8 * 6,
        "conv_last/kernel": 64 * 6 * 4,
        "linear/kernel": 64 * 7,
        "head/kernel": 7 * 3,
    }


def test_weights_are_recognised_behind_masks_jit_and_loops():
    class Odd:
        def __init__(self):
            self.params = {"a": {"kernel": jnp.ones((4, 5))}, "b": {"kernel": jnp.ones((5, 5))}}
            self.batch_stats, self.mean = {}, jnp.zeros(4)

        def apply(self, params, batch_stats, x):
            mask = jnp.ones((4, 5))
            x = jax.jit(lambda w, x: x.reshape(-1, 4) @ (w * mask))(params["a"]["kernel"], x)
            x, _ = jax.lax.scan(lambda x, _: (x @ params["b"]["kernel"].T, None), x, None, length=3)
            return x @ x.T, batch_stats

    counts = pruning.multiply_accumulates(Odd(), image_size=2)
    assert counts == {"a/kernel": 4 * 4 * 5, "b/kernel": 3 * 4 * 5 * 5, "other": 4 * 4 * 5}


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        # Li et al. 2017, table 1: "FLOP" of ResNet-56 and ResNet-110 on CIFAR-10.
        ("resnet56", {}, 1.25e8),
        ("resnet110", {}, 2.53e8),
        # The same table, VGG-16.
        ("vgg16_bn", {"head": "hidden"}, 3.13e8),
    ],
)
def test_counts_equal_the_published_ones(name, options, published):
    counts = pruning.multiply_accumulates(shapes_only(name, **options), image_size=32)
    np.testing.assert_allclose(sum(counts.values()), published, rtol=0.01)


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        # torchvision's documentation of the weights, "GFLOPS", which are multiply-accumulates.
        ("resnet18", {"stem": "imagenet"}, 1.81e9),
        ("resnet50", {"stem": "imagenet"}, 4.09e9),
        ("mobilenet_v2", {"stem": "imagenet"}, 0.30e9),
        ("vgg16_bn", {"head": "imagenet"}, 15.47e9),
    ],
)
def test_counts_of_the_imagenet_networks_equal_the_published_ones(name, options, published):
    shapes = models.abstract_state(name, num_classes=1000, **options)
    net = models.assemble(name, num_classes=1000, **shapes, mean=(0,) * 3, std=(1,) * 3, **options)
    counts = pruning.multiply_accumulates(net, image_size=net.image_size)
    assert net.image_size == 224
    np.testing.assert_allclose(sum(counts.values()), published, rtol=0.01)


def reductions(name, **options):
    """Fractions of parameters and operations that filter pruning of the study's layers at 50 % removes."""
    dense = shapes_only(name, **options)
    widths = {group.name: group.width for group in dense.channel_groups()}
    small = dense.with_widths({name: widths[name] // 2 for name in dense.layer_choices()["study"]})
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(net.params)) for net in (dense, small)]
    macs = [sum(pruning.multiply_accumulates(net, image_size=32).values()) for net in (dense, small)]
    return 1 - sizes[1] / sizes[0], 1 - macs[1] / macs[0]


def test_filter_pruning_of_resnet110_a_removes_what_was_published():
    """Li et al. 2017, table 1: ResNet-110-pruned-A, 2.3 % fewer parameters, 15.9 % fewer FLOP."""
    np.testing.assert_allclose(reductions("resnet110"), (0.023, 0.159), atol=0.0015)


def test_filter_pruning_of_vgg16_removes_what_was_published():
    """Li et al. 2017, table 1: VGG-16-pruned-A, 64.0 % fewer parameters, 34.2 % fewer FLOP."""
    np.testing.assert_allclose(reductions("vgg16_bn", head="hidden"), (0.640, 0.342), atol=0.0015)


def test_a_summary_compares_before_and_after():
    dense = toy.classifier()
    sparse, masks = pruning.prune(dense, method="filter_l1", sparsity=0.5)
    small = pruning.compact(sparse, masks)
    masked, compact = (pruning.summarize(net, m, before=dense) for net, m in ((sparse, masks), (small, None)))
    # What the masks remove is what compaction takes away, parameters and operations alike.
    assert masked.total.nonzero == compact.total.size
    assert masked.total.size == sum(leaf.size for leaf in jax.tree.leaves(dense.params))
    assert masked.total.multiply_accumulates_nonzero == compact.total.multiply_accumulates
    lost = compact.reductions()
    assert lost["size"] == 1 - compact.total.size / masked.total.size
    text = str(compact)
    assert "MACs: multiply-accumulates of convolutions and matrix products for one image." in text
    assert f"weights {-lost['size']:+.1%}" in text
    conv1 = compact.as_dict()["conv1/kernel"]
    assert conv1["multiply_accumulates"] == 64 * 9 * 6 * 2
    with pytest.raises(ValueError, match="nothing to compare with"):
        pruning.summarize(small).reductions()


def test_operations_need_a_classifier_and_an_image_size():
    net = toy.classifier()
    assert pruning.summarize(net.params).total.multiply_accumulates is None
    larger = pruning.summarize(models.create("resnet8", num_classes=3, key=jax.random.key(0)), image_size=64).total
    smaller = pruning.summarize(models.create("resnet8", num_classes=3, key=jax.random.key(0))).total
    assert 3.9 < larger.multiply_accumulates / smaller.multiply_accumulates < 4.1
