"""Criteria against NumPy, the choice of layers and channels, masks, folded shifts, and what is refused."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import models, pruning
from tests.pruning import toy


@pytest.fixture(scope="module")
def net():
    return toy.classifier()


def group_named(net, name):
    return next(group for group in net.channel_groups() if group.name == name)


def scores_of(net, name, criterion, **options):
    return pruning.channel_scores(net, [group_named(net, name)], criterion=criterion, **options)[0]


def kept_channels(net, masks, name):
    """Which channels of a group its masks keep, from its BatchNorm scale."""
    return np.flatnonzero(np.asarray(masks[group_named(net, name).batch_norms[0]]["scale"]))


def test_filter_norms_are_summed_over_all_producers(net):
    stem, conv2 = (np.asarray(net.params[path]["kernel"], np.float64) for path in ("stem", "conv2"))
    expected = np.abs(stem).sum((0, 1, 2)) + np.abs(conv2).sum((0, 1, 2))
    np.testing.assert_allclose(scores_of(net, "stream", "l1"), expected, rtol=1e-12)
    expected = np.sqrt((stem**2).sum((0, 1, 2)) + (conv2**2).sum((0, 1, 2)))
    np.testing.assert_allclose(scores_of(net, "stream", "l2"), expected, rtol=1e-12)


def test_the_geometric_median_criterion_is_the_sum_of_distances(net):
    filters = np.moveaxis(np.asarray(net.params["conv1"]["kernel"], np.float64), -1, 0).reshape(5, -1)
    expected = [sum(np.linalg.norm(one - other) for other in filters) for one in filters]
    np.testing.assert_allclose(scores_of(net, "inner", "geometric_median"), expected, rtol=1e-9)


def test_the_scale_criterion_averages_the_batch_norms_of_a_group(net):
    scales = [np.asarray(net.params[path]["scale"], np.float64) for path in ("bn_expand", "bn_depthwise")]
    np.testing.assert_allclose(scores_of(net, "expanded", "batch_norm_scale"), np.abs(scales).mean(0))


def test_taylor_scores_are_the_squared_derivative_by_each_channels_gate(net):
    images, labels = jnp.asarray(toy.images()), jnp.asarray(toy.labels())

    def loss(gate):
        params = {**net.params, "bn1": {name: leaf * gate for name, leaf in net.params["bn1"].items()}}
        logits, _ = net.apply(params, net.batch_stats, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected = np.square(jax.grad(loss)(jnp.ones(5)))
    scores = scores_of(net, "inner", "taylor", images=images, labels=labels)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-9)


def test_random_scores_follow_the_key(net):
    one, same, other = (scores_of(net, "last", "random", key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 5), (0.1, 4), (0.4, 3), (0.7, 1), (0.8, 1)])
def test_per_layer_pruning_keeps_the_channels_with_the_largest_scores(net, sparsity, kept):
    _, masks = pruning.prune_channels(net, criterion="l1", channel_sparsity=sparsity, layers=["inner"])
    best = np.sort(np.argsort(scores_of(net, "inner", "l1"))[5 - kept :])
    np.testing.assert_array_equal(kept_channels(net, masks, "inner"), best)


def test_a_fraction_that_is_short_of_a_whole_channel_in_floating_point_counts_as_one(net):
    wide = models.create("resnet8", num_classes=3, key=jax.random.key(0), stage_widths=(10, 10, 10))
    _, masks = pruning.prune_channels(wide, criterion="l1", channel_sparsity=0.9, layers=["stage1_block0"])
    assert masks["stage1_block0"]["bn1"]["scale"].sum() == 1


def test_the_global_threshold_takes_the_smallest_of_all_layers(net):
    _, masks = pruning.prune(net, method="slimming", sparsity=0.4)
    groups = [group for group in net.channel_groups() if not group.residual]
    pooled = np.concatenate(pruning.channel_scores(net, groups, criterion="batch_norm_scale"))
    removed = np.concatenate([np.asarray(masks[group.batch_norms[0]]["scale"]) == 0 for group in groups])
    assert removed.sum() == int(0.4 * len(pooled)) == 12
    assert pooled[removed].max() <= pooled[~removed].min()
    assert masks["stem"]["kernel"] is None


def test_masks_cover_every_member_of_a_group_and_nothing_else(net):
    sparse, masks = pruning.prune_channels(net, criterion="l1", channel_sparsity=0.5, layers=["last"])
    gone = np.setdiff1d(np.arange(4), kept_channels(net, masks, "last"))
    assert len(gone) == 2
    expected = np.ones((1, 1, 6, 4), np.uint8)
    expected[..., gone] = 0
    np.testing.assert_array_equal(masks["conv_last"]["kernel"], expected)
    # The flattened input of the linear layer: 16 positions, channels fastest.
    readers = np.ones((16, 4, 7), np.uint8)
    readers[:, gone] = 0
    np.testing.assert_array_equal(masks["linear"]["kernel"], readers.reshape(64, 7))
    for name in ("scale", "bias"):
        np.testing.assert_array_equal(np.flatnonzero(np.asarray(masks["bn_last"][name]) == 0), gone)
    others = [masks[path] for path in ("stem", "conv1", "conv2", "expand", "project", "head", "bn_select")]
    assert not jax.tree.leaves(others)
    assert (sparse.params["linear"]["kernel"].reshape(16, 4, 7)[:, gone] == 0).all()


def test_widths_are_rounded_up_to_a_multiple(net):
    _, masks = pruning.prune_channels(net, criterion="l1", channel_sparsity=0.6, layers=["expanded"], round_to=4)
    assert len(kept_channels(net, masks, "expanded")) == 4
    _, masks = pruning.prune_channels(net, criterion="l1", channel_sparsity=0.1, layers=["inner"], round_to=8)
    assert len(kept_channels(net, masks, "inner")) == 5


@pytest.mark.parametrize("method", ["filter_l1", "slimming", "channel_random"])
def test_rounding_that_leaves_every_channel_is_refused(method, net):
    def said(**options):
        try:
            pruning.prune(net, method=method, key=jax.random.key(0), **options)
        except ValueError as error:
            return str(error)
        return None

    refusal = said(sparsity=0.5, round_to=1000)
    assert refusal is not None, "nothing was removed, and nothing said"
    assert "round_to=1000 keeps every channel of the chosen layers at sparsity 0.5" in refusal
    assert said(sparsity=0.0, round_to=8) is None
    assert said(sparsity=0.5, round_to=4) is None


def test_every_layer_keeps_a_channel_and_a_warning_says_where(net):
    small = net.replace(params={**net.params, "bn_last": {**net.params["bn_last"], "scale": jnp.full(4, 1e-6)}})
    with pytest.warns(UserWarning, match=r"channel_sparsity=0.3 would remove all channels of last; one stays in each"):
        _, masks = pruning.prune(small, method="slimming", sparsity=0.3)
    assert len(kept_channels(net, masks, "last")) == 1


def test_layers_by_name(net):
    def masked_groups(**options):
        _, masks = pruning.prune_channels(
            net, criterion="random", channel_sparsity=0.5, key=jax.random.key(0), **options
        )
        names = [group.name for group in net.channel_groups()]
        return [name for name in names if masks[group_named(net, name).batch_norms[0]]["scale"] is not None]

    assert masked_groups() == ["inner", "expanded", "selected", "last", "hidden"]
    assert masked_groups(layers="all") == ["stream", "inner", "expanded", "selected", "last", "hidden"]
    assert masked_groups(layers="study") == ["inner", "last"]
    assert masked_groups(layers="hidden") == ["hidden"]
    _, masks = pruning.prune(net, method="filter_l1", sparsity=0.5)
    assert masks["bn1"]["scale"] is not None
    assert masks["bn_hidden"]["scale"] is None


def test_a_folded_shift_changes_no_logit_where_the_scale_is_zero(net):
    """With scale 0 a channel emits relu(bias); the fold must reproduce that exactly, and dropping must not."""
    gone = {"selected": [1, 4], "last": [0, 2], "hidden": [3, 6]}
    params = dict(net.params)
    for group in net.channel_groups():
        if group.name in gone:
            path, channels = group.batch_norms[0], np.array(gone[group.name])
            params[path] = {**params[path], "scale": params[path]["scale"].at[channels].set(0.0)}
    slim = net.replace(params=params)
    options = {"criterion": "batch_norm_scale", "channel_sparsity": 6 / 17, "scope": "global", "layers": list(gone)}
    folded, masks = pruning.prune_channels(slim, shift="fold", **options)
    dropped, same_masks = pruning.prune_channels(slim, shift="drop", **options)
    jax.tree.map(np.testing.assert_array_equal, masks, same_masks)
    assert {
        name: list(np.setdiff1d(np.arange(group_named(net, name).width), kept_channels(net, masks, name)))
        for name in gone
    } == gone
    images = toy.images()
    np.testing.assert_allclose(folded.logits(images), slim.logits(images), atol=1e-5)
    assert np.abs(dropped.logits(images) - slim.logits(images)).max() > 1e-2
    np.testing.assert_allclose(pruning.compact(folded, masks).logits(images), slim.logits(images), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_sparsity": 1.0}, r"channel_sparsity is 1.0; give the fraction of channels to remove, in \[0, 1\)"),
        ({"channel_sparsity": -0.1}, "channel_sparsity is -0.1"),
        ({"criterion": "l3"}, "unknown criterion 'l3'; choose one of l1, l2, geometric_median"),
        ({"scope": "layer"}, "unknown scope 'layer'; choose one of per_layer, global"),
        ({"shift": "keep"}, "unknown shift 'keep'; choose one of drop, fold"),
        ({"round_to": 0}, "round_to is 0; give an integer >= 1"),
        (
            {"layers": ["iner"]},
            "no layers 'iner'; did you mean 'inner'.*choices by name: all, study; its channel groups",
        ),
        ({"layers": ["selected"]}, "criterion 'l1' reads producers, and channel group 'selected' has none"),
        ({"criterion": "random"}, "criterion 'random' draws its scores: give key="),
        ({"criterion": "taylor"}, "criterion 'taylor' needs images= and labels="),
    ],
)
def test_what_is_refused(net, options, message):
    with pytest.raises(ValueError, match=message):
        pruning.prune_channels(net, **{"criterion": "l1", "channel_sparsity": 0.5, **options})


def test_prune_refuses_options_of_other_methods_and_undeclared_networks(net):
    with pytest.raises(ValueError, match="layers are options of methods that remove channels"):
        pruning.prune(net, method="weight", sparsity=0.5, layers="study")
    with pytest.raises(ValueError, match=r"sparsity.* \[0, 1\)"):
        pruning.prune(net, method="slimming", sparsity=1.0)
    linear = nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    plain = models.from_nnx(linear, mean=(0, 0), std=1)
    with pytest.raises(ValueError, match=r"does not declare its channels; give its module the methods channel_groups"):
        pruning.prune(plain, method="slimming", sparsity=0.5)


def test_nothing_is_said_where_nothing_is_lost(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruning.prune(net, method="channel_random", sparsity=0.7, key=jax.random.key(0))
