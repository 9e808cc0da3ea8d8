"""`compact` gives the masked network's logits, forward and after training; what is not structured is refused."""

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import models, pruning
from tests.pruning import toy

NET = toy.classifier()
GROUPS = {group.name: group for group in NET.channel_groups()}
# One number of channels per group, so that all examples share their compilations.
REMOVED_COUNTS = {"stream": 2, "inner": 3, "expanded": 1, "selected": 4, "last": 2, "hidden": 5}


@jax.jit
def logits_of(classifier, images):
    return classifier.apply(classifier.params, classifier.batch_stats, images)[0]


def masked(net, removed):
    groups = net.channel_groups()
    gone = {group.name: np.isin(np.arange(group.width), removed.get(group.name, ())) for group in groups}
    masks = pruning.channel_masks(net.params, groups, gone)
    return net.replace(params=pruning.mask_params(net.params, masks)), masks


@st.composite
def removals(draw):
    return {name: draw(st.permutations(range(GROUPS[name].width)))[:count] for name, count in REMOVED_COUNTS.items()}


@hypothesis.given(removed=removals(), seed=st.integers(0, 100))
@hypothesis.settings(max_examples=12)
def test_compact_logits_equal_masked_logits(removed, seed):
    sparse, masks = masked(NET, removed)
    small = pruning.compact(sparse, masks)
    assert {group.name: group.width for group in small.channel_groups()} == {
        name: group.width - len(removed[name]) for name, group in GROUPS.items()
    }
    images = toy.images(seed=seed)
    np.testing.assert_allclose(logits_of(small, images), logits_of(sparse, images), atol=1e-5)


def trained(classifier, masks, images, labels, steps=2):
    transform = pruning.masked_optimizer(optax.sgd(0.05, momentum=0.9), masks)
    params, stats, state = classifier.params, classifier.batch_stats, transform.init(classifier.params)

    def loss(params, stats):
        logits, stats = classifier.apply(params, stats, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), stats

    for _ in range(steps):
        gradients, stats = jax.grad(loss, has_aux=True)(params, stats)
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return classifier.replace(params=params, batch_stats=stats)


def test_compact_and_masked_networks_train_alike():
    sparse, masks = masked(NET, {name: range(count) for name, count in REMOVED_COUNTS.items()})
    small = pruning.compact(sparse, masks)
    images, labels = jnp.asarray(toy.images(8)), jnp.asarray(toy.labels(8))
    step = jax.jit(trained)
    small, sparse = step(small, None, images, labels), step(sparse, masks, images, labels)
    np.testing.assert_allclose(logits_of(small, images), logits_of(sparse, images), atol=2e-5)
    assert np.abs(logits_of(small, images) - logits_of(pruning.compact(sparse, masks), images)).max() < 2e-5


def test_nothing_removed_changes_nothing():
    sparse, masks = masked(NET, {})
    assert pruning.compact(sparse, masks) is sparse


def test_readers_need_not_be_masked():
    sparse, masks = masked(NET, {"inner": [1]})
    masks["conv2"]["kernel"] = None
    np.testing.assert_allclose(
        pruning.compact(sparse, masks).logits(toy.images()), sparse.logits(toy.images()), atol=1e-5
    )


class LinenNet(nn.Module):
    width: int = 6
    image_size = 8

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(self.width, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(3)(x.mean((1, 2)))

    def channel_groups(self):
        consumer = models.Consumer("Dense_0", absorbs_into="Dense_0")
        return (models.ChannelGroup("conv", self.width, ("Conv_0",), ("BatchNorm_0",), (consumer,)),)

    def with_widths(self, widths):
        return self.clone(width=widths["conv"])


def test_a_linen_module_shrinks_too():
    variables = LinenNet().init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    net = toy.randomised(models.from_linen(LinenNet(), variables, mean=(0.5,) * 3, std=(0.2,) * 3))
    sparse, masks = pruning.prune(net, method="slimming", sparsity=0.5)
    small = pruning.compact(sparse, masks)
    assert small.params["Conv_0"]["kernel"].shape == (3, 3, 3, 3)
    np.testing.assert_allclose(small.logits(toy.images()), sparse.logits(toy.images()), atol=1e-5)


def changed(masks, path, leaf, index, value):
    return {**masks, path: {**masks[path], leaf: np.array(masks[path][leaf])}} | _set(masks, path, leaf, index, value)


def _set(masks, path, leaf, index, value):
    array = np.array(masks[path][leaf])
    array[index] = value
    return {path: {**masks[path], leaf: array}}


def test_masks_that_cut_across_a_group_are_refused():
    sparse, masks = masked(NET, {"stream": [1, 4]})
    cut = changed(masks, "bn2", "scale", 4, 1)
    message = (
        r"cut across channel group 'stream': channel 4 is removed in stem/kernel and kept in bn2/scale, .*together"
    )
    with pytest.raises(ValueError, match=message):
        pruning.compact(sparse, cut)
    only_filters = {**masks, "bn_stem": {"scale": None, "bias": None}, "bn2": {"scale": None, "bias": None}}
    with pytest.raises(ValueError, match="channel 1 is removed in stem/kernel and kept in bn_stem/scale"):
        pruning.compact(sparse, only_filters)


def test_masks_of_single_weights_are_refused():
    sparse, masks = masked(NET, {"inner": [0]})
    with pytest.raises(
        ValueError, match=r"not structured: conv1/kernel is masked at \(2, 1, 0, 3\) \(1 such entries\)"
    ):
        pruning.compact(sparse, changed(masks, "conv1", "kernel", (2, 1, 0, 3), 0))
    unstructured, masks = pruning.prune(NET, method="weight", sparsity=0.5)
    with pytest.raises(ValueError, match="not structured: .*make the masks with prune_channels, or keep these masks"):
        pruning.compact(unstructured, masks)


def test_a_network_that_is_rebuilt_wrongly_is_refused(monkeypatch):
    sparse, masks = masked(NET, {"inner": [0, 1]})
    monkeypatch.setattr(toy.Toy, "with_widths", lambda self, widths: toy.Toy(toy.nnx.Rngs(0), inner=4))
    with pytest.raises(ValueError, match=r"bn1/bias has shape \(3,\) .* but \(4,\) in the network that with_widths"):
        pruning.compact(sparse, masks)


def test_masks_of_another_network_are_refused():
    with pytest.raises(ValueError, match="masks have no entry for the parameter"):
        pruning.compact(NET, {"conv": {"kernel": None}})
