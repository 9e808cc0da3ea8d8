"""Channel groups cover every channel of the network once, and `with_widths` follows them; shapes only."""

import functools

import jax
import numpy as np
import pytest

from jaxprune import models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES = 7
# Networks all of whose channels are in groups, with the options that change what is connected to what.
COVERED = [
    ("resnet18", {}),
    ("resnet34", {}),
    ("resnet50", {"stem": "imagenet"}),
    ("mobilenet_v2", {"stem": "imagenet"}),
    ("wideresnet16_4", {}),
    ("wideresnet40_2", {}),
]


@functools.cache
def shapes_only(name, **options):
    state = models.abstract_state(name, num_classes=NUM_CLASSES, **options)
    return models.assemble(name, num_classes=NUM_CLASSES, **state, mean=MEAN, std=STD, **options)


def leaf_shapes(net):
    leaves = jax.tree_util.tree_leaves_with_path({"params": net.params, "batch_stats": net.batch_stats})
    return {tuple(part.key for part in path): leaf.shape for path, leaf in leaves}


def claimed_axes(net):
    """Returns {(leaf, axis): (group, positions)} as the groups say; fails where two groups claim one axis."""
    shapes, claims = leaf_shapes(net), {}

    def claim(collection, path, leaf, axis, group, positions=1):
        key = (collection, *path.split("/"), leaf)
        axis %= len(shapes[key])
        assert claims.setdefault((key, axis), (group.name, positions)) == (group.name, positions)
        assert shapes[key][axis] == group.width * positions, key

    for group in net.channel_groups():
        for path in group.producers:
            claim("params", path, "kernel", -1, group)
            if ("params", *path.split("/"), "bias") in shapes:
                claim("params", path, "bias", -1, group)
        for path in group.batch_norms:
            for collection, leaf in (
                ("params", "scale"),
                ("params", "bias"),
                ("batch_stats", "mean"),
                ("batch_stats", "var"),
            ):
                claim(collection, path, leaf, 0, group)
        for consumer in group.consumers:
            claim("params", consumer.path, "kernel", -2, group, consumer.positions)
    return claims


@pytest.mark.parametrize(("name", "options"), COVERED)
def test_channel_groups_cover_the_network_and_new_widths_follow_them(name, options):
    net = shapes_only(name, **options)
    claims = claimed_axes(net)

    # Only these axes belong to no group: the image's channels, the logits, a depthwise convolution's single input,
    # and the pixels of kernels.
    for key, shape in leaf_shapes(net).items():
        channel_axes = range(len(shape) - 2, len(shape)) if key[-1] == "kernel" else range(len(shape))
        for axis in channel_axes:
            unclaimed = {("conv", "kernel", 2), ("head", "kernel", 1), ("head", "bias", 0)}
            if "depthwise_conv" in key and axis == 2:
                assert shape[axis] == 1
            else:
                assert ((key, axis) in claims) != ((*key[1:], axis) in unclaimed), (key, axis)

    # Every group another width, so that none can pass for another.
    widths = {group.name: index for index, group in enumerate(net.channel_groups(), start=1)}
    expected = {
        key: tuple(
            widths[claims[key, axis][0]] * claims[key, axis][1] if (key, axis) in claims else size
            for axis, size in enumerate(shape)
        )
        for key, shape in leaf_shapes(net).items()
    }
    changed = net.with_widths(widths)
    assert leaf_shapes(changed) == expected
    assert {group.name: group.width for group in changed.channel_groups()} == widths
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), np.uint8)
    logits = jax.eval_shape(lambda net, x: net.apply(net.params, net.batch_stats, x)[0], changed, images)
    assert logits.shape == (2, NUM_CLASSES)


def batch_norm_behind(path):
    """Returns the path of the BatchNorm that is applied to a convolution's output, by their names."""
    *block, layer = path.split("/")
    return "/".join((*block, layer.replace("conv", "bn")))


@pytest.mark.parametrize(("name", "options"), COVERED)
def test_constants_are_absorbed_by_unpadded_layers_outside_residual_streams(name, options):
    net = shapes_only(name, **options)
    shapes = leaf_shapes(net)
    for group in net.channel_groups():
        for consumer in group.consumers:
            kernel = shapes[("params", *consumer.path.split("/"), "kernel")]
            unpadded = len(kernel) == 2 or kernel[:2] == (1, 1)
            behind = consumer.path if len(kernel) == 2 else batch_norm_behind(consumer.path)
            has_one = len(kernel) == 2 or ("params", *behind.split("/"), "scale") in shapes
            exact = unpadded and has_one and not group.residual
            assert consumer.absorbs_into == (behind if exact else None), (group.name, consumer)


@pytest.mark.parametrize(
    ("name", "residual", "others"),
    [
        ("resnet18", {f"stage{stage}_stream" for stage in range(1, 5)}, {"stage4_block1_inner1"}),
        ("resnet50", {f"stage{stage}_stream" for stage in range(1, 5)}, {"stem", "stage3_block5_inner2"}),
        ("mobilenet_v2", {f"stage{stage}_stream" for stage in range(2, 7)}, {"stem", "stage1_stream", "last"}),
        ("wideresnet16_4", {f"stage{stage}_stream" for stage in range(1, 4)}, {"stem", "stage3_block1_inner1"}),
    ],
)
def test_residual_streams_are_those_that_several_blocks_add_to(name, residual, others):
    groups = {group.name: group for group in shapes_only(name).channel_groups()}
    assert {name for name, group in groups.items() if group.residual} == residual
    assert others <= set(groups) - residual


def test_a_stream_names_everyone_who_writes_and_reads_it():
    groups = {group.name: group for group in shapes_only("resnet18").channel_groups()}
    first, second = groups["stage1_stream"], groups["stage2_stream"]
    assert first.producers == ("conv", "stage1_block0/conv2", "stage1_block1/conv2")
    assert [consumer.path for consumer in first.consumers] == [
        "stage1_block0/conv1",
        "stage1_block1/conv1",
        "stage2_block0/conv1",
        "stage2_block0/shortcut_conv",
    ]
    assert second.producers == ("stage2_block0/conv2", "stage2_block0/shortcut_conv", "stage2_block1/conv2")
    assert second.batch_norms == ("stage2_block0/bn2", "stage2_block0/shortcut_bn", "stage2_block1/bn2")


def test_the_activation_behind_a_group_is_stated():
    groups = {group.name: group for group in shapes_only("mobilenet_v2").channel_groups()}
    assert groups["stage2_block0_expanded"].activation == groups["stem"].activation == "relu6"
    assert groups["stage1_stream"].activation == groups["stage2_stream"].activation == "linear"
    # The BatchNorm that the activation follows is the last one.
    assert groups["stage2_block0_expanded"].batch_norms[-1] == "stage2_block0/depthwise_bn"
    assert {group.activation for group in shapes_only("resnet18").channel_groups()} == {"relu"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "a ResNet has no channel group 'stage9'; it has stage1_stream, stage1_block0_inner1"),
        ("mobilenet_v2", "MobileNetV2 has no channel group 'stage9'; it has stem, stage1_stream, stage2_stream"),
        ("wideresnet16_4", "a wide ResNet has no channel group 'stage9'; it has stem, stage1_stream"),
    ],
)
def test_a_group_that_does_not_exist_is_refused_with_the_list(name, message):
    net = shapes_only(name)
    with pytest.raises(ValueError, match=message):
        net.with_widths({"stage9": 3})
    with pytest.raises(ValueError, match="width 0 of channel group 'stage2_stream'"):
        net.with_widths({"stage2_stream": 0})


def test_widths_add_up_over_two_rebuilds_and_keep_the_other_options():
    net = shapes_only("resnet18", stem="imagenet").with_widths({"stage1_stream": 5}).with_widths({"stage2_stream": 6})
    assert net.params["stage2_block0"]["shortcut_conv"]["kernel"].shape == (1, 1, 5, 6)
    assert net.params["conv"]["kernel"].shape == (7, 7, 3, 5)
    assert net.image_size == 224
