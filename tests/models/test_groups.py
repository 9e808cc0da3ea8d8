"""What every network says about its channels fits its parameters, and its forward pass."""

import collections

import jax
import numpy as np
import pytest

from jaxprune import models

# Besides the defaults of every architecture: the options that change which groups there are, or their shapes.
VARIANTS = {
    **{name: (name, {}) for name in models.MODELS},
    "resnet20 projection": ("resnet20", {"shortcut": "projection"}),
    "vgg11_bn hidden": ("vgg11_bn", {"head": "hidden", "conv_bias": True}),
    "vgg11_bn two_hidden": ("vgg11_bn", {"head": "two_hidden"}),
    "vgg11_bn imagenet": ("vgg11_bn", {"head": "imagenet"}),
    "preresnet11 selected": ("preresnet11", {"widths": {"stage1_block0_select": (0, 3), "head_select": [1, 2, 250]}}),
}


def network_of_shapes(name, **options):
    state = models.abstract_state(name, num_classes=7, **options)
    return models.assemble(name, num_classes=7, **state, mean=(0.0,) * 3, std=(1.0,) * 3, **options)


def lookup(tree, path):
    for part in path.split("/"):
        tree = tree[part]
    return tree


def axes_of(group):
    """Yields (collection, path, leaf, axis, length) for every axis that the group's channels lie on."""
    for path in group.producers:
        yield "params", path, "kernel", -1, group.width
        yield "params", path, "bias", -1, group.width
    for path in group.batch_norms:
        for collection, leaf in (
            ("params", "scale"),
            ("params", "bias"),
            ("batch_stats", "mean"),
            ("batch_stats", "var"),
        ):
            yield collection, path, leaf, -1, group.width
    for consumer in group.consumers:
        yield "params", consumer.path, "kernel", -2, group.width * consumer.positions


@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_name_layers_of_the_right_shape(variant):
    name, options = VARIANTS[variant]
    net = network_of_shapes(name, **options)
    groups = net.channel_groups()
    assert groups
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert group.consumers
        assert bool(group.producers) != group.selection
        assert (len(group.indices) == group.width) if group.selection else not group.indices
        for collection, path, leaf, axis, length in axes_of(group):
            layer = lookup({"params": net.params, "batch_stats": net.batch_stats}[collection], path)
            if leaf == "bias" and leaf not in layer:
                continue
            assert layer[leaf].shape[axis] == length, (group.name, path, leaf)
        for consumer in group.consumers:
            if consumer.absorbs_into is not None:
                # A BatchNorm, or a layer with a bias.
                assert "bias" in lookup(net.params, consumer.absorbs_into)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_axis_belongs_to_two_groups(variant):
    name, options = VARIANTS[variant]
    axes = collections.Counter(
        (collection, path, leaf, axis)
        for group in network_of_shapes(name, **options).channel_groups()
        for collection, path, leaf, axis, _ in axes_of(group)
    )
    assert not [axis for axis, count in axes.items() if count > 1]


def halved(group):
    return group.indices[::2] if group.selection else max(1, group.width // 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_widths_change_the_axes_of_the_groups_and_no_other(variant):
    name, options = VARIANTS[variant]
    net = network_of_shapes(name, **options)
    groups = net.channel_groups()
    narrower = net.with_widths({group.name: halved(group) for group in groups})
    for old, new in zip(groups, narrower.channel_groups(), strict=True):
        width = -(-old.width // 2) if old.selection else max(1, old.width // 2)
        assert new == old._replace(width=width, indices=old.indices[::2])

    expected = {
        key: jax.tree_util.tree_map_with_path(lambda path, leaf: list(leaf.shape), tree)
        for key, tree in (("params", net.params), ("batch_stats", net.batch_stats))
    }
    for group, new in zip(groups, narrower.channel_groups(), strict=True):
        for (collection, path, leaf, axis, _), (*_, length) in zip(axes_of(group), axes_of(new), strict=True):
            layer = lookup(expected[collection], path)
            if leaf in layer:
                layer[leaf][axis] = length
    actual = {"params": narrower.params, "batch_stats": narrower.batch_stats}
    assert jax.tree.map(lambda leaf: list(leaf.shape), actual) == expected


@pytest.mark.parametrize("name", models.MODELS)
def test_layer_choices_name_groups(name):
    net = network_of_shapes(name)
    names = {group.name for group in net.channel_groups()}
    for choice, chosen in net.layer_choices().items():
        assert chosen, choice
        assert set(chosen) <= names


VGG_WIDTHS = {f"conv{number}": 6 + number for number in range(1, 9)}
COMPUTED = {
    "resnet8": ("resnet8", {}),
    "resnet8 projection": ("resnet8", {"shortcut": "projection", "stage_widths": (8, 12, 16)}),
    "preresnet11": ("preresnet11", {"stage_widths": (4, 6, 8)}),
    "vgg11_bn": ("vgg11_bn", {"conv_bias": True, "widths": VGG_WIDTHS}),
    "vgg11_bn hidden": ("vgg11_bn", {"head": "hidden", "widths": VGG_WIDTHS | {"hidden1": 10}}),
    "vgg11_bn imagenet": ("vgg11_bn", {"head": "imagenet", "widths": VGG_WIDTHS | {"hidden1": 10, "hidden2": 9}}),
}


def network_with_random_state(variant, rng):
    """A network in NumPy: the BatchNorms and biases differ from channel to channel."""
    name, options = COMPUTED[variant]
    net = models.create(name, num_classes=7, key=jax.random.key(0), **options)

    def disturb(path, leaf):
        noise = rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return np.array(leaf) if path[-1].key == "kernel" else noise - (path[-1].key in ("bias", "mean"))

    params, batch_stats = (jax.tree_util.tree_map_with_path(disturb, tree) for tree in (net.params, net.batch_stats))
    return net.replace(params=params, batch_stats=batch_stats)


def without_channels(net, kept):
    """Returns the smaller network that has the channels `kept`, {group: positions}, of `net`."""
    groups = [group for group in net.channel_groups() if group.name in kept]
    widths = {
        group.name: tuple(group.indices[index] for index in kept[group.name])
        if group.selection
        else len(kept[group.name])
        for group in groups
    }
    leaves = {"params": jax.tree.map(np.array, net.params), "batch_stats": jax.tree.map(np.array, net.batch_stats)}
    for group in groups:
        for collection, path, leaf, axis, length in axes_of(group):
            layer = lookup(leaves[collection], path)
            if leaf in layer:
                # Positions are the slow part of a flattened axis.
                indices = np.arange(length).reshape(-1, group.width)[:, kept[group.name]].ravel()
                layer[leaf] = layer[leaf].take(indices, axis)
    return net.with_widths(widths).replace(**leaves)


def random_images(rng):
    return rng.normal(size=(2, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("variant", COMPUTED)
def test_removing_channels_equals_silencing_them(variant, rng):
    net = network_with_random_state(variant, rng)
    kept = {
        group.name: np.sort(rng.permutation(group.width)[: max(1, group.width * 2 // 3)]).tolist()
        for group in net.channel_groups()
    }
    silenced = jax.tree.map(np.array, net.params)
    for group in net.channel_groups():
        mask = np.isin(np.arange(group.width), kept[group.name])
        for path in group.batch_norms or group.producers:
            layer = lookup(silenced, path)
            layer.update({leaf: array * mask.astype(np.float32) for leaf, array in layer.items()})
    images = random_images(rng)
    expected = net.replace(params=silenced).logits(images)
    assert np.abs(expected - net.logits(images)).max() > 1e-2
    np.testing.assert_allclose(without_channels(net, kept).logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["preresnet11", "vgg11_bn", "vgg11_bn hidden", "vgg11_bn imagenet"])
def test_constants_are_absorbed_exactly_where_the_group_says_so(variant, rng):
    net = network_with_random_state(variant, rng)
    groups = [
        group
        for group in net.channel_groups()
        if group.batch_norms and all(consumer.absorbs_into for consumer in group.consumers)
    ]
    assert groups
    kept = {group.name: list(range(group.width // 2, group.width)) for group in groups}
    constant = jax.tree.map(np.array, net.params)
    for group in groups:
        lookup(constant, group.batch_norms[0])["scale"][: group.width // 2] = 0
    images = random_images(rng)
    expected = net.replace(params=constant).logits(images)

    small = without_channels(net, kept)
    for group in groups:
        (consumer,) = group.consumers
        values = np.maximum(lookup(net.params, group.batch_norms[0])["bias"], 0)
        values[group.width // 2 :] = 0
        kernel = lookup(net.params, consumer.path)["kernel"]
        kernel = kernel.reshape(-1, kernel.shape[-1])
        reached = np.tile(values, consumer.positions) @ kernel
        # Behind a BatchNorm of its own the reader's channels may be fewer now, too.
        reader = next((other.name for other in groups if consumer.path in other.producers), None)
        reached = reached if reader is None else reached[kept[reader]]
        if consumer.absorbs_into == consumer.path:
            lookup(small.params, consumer.absorbs_into)["bias"] += reached
        else:
            lookup(small.batch_stats, consumer.absorbs_into)["mean"] -= reached
    assert np.abs(expected - without_channels(net, kept).logits(images)).max() > 1e-3
    np.testing.assert_allclose(small.logits(images), expected, rtol=1e-4, atol=1e-5)
