import jax
import numpy as np
import pytest

from jaxprune import checkpoints, models


def create(name="resnet8", **options):
    return models.create(name, num_classes=3, key=jax.random.key(0), **options)


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 32, 44, 56, 110])
def test_depth_counts_the_weighted_layers_of_6n_plus_2(depth):
    params = models.abstract_state(f"resnet{depth}", num_classes=10)["params"]
    layers = [path for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]
    assert len(layers) == depth


def test_projections_stand_where_a_stage_begins():
    params = models.abstract_state("resnet14", num_classes=10, shortcut="projection")["params"]
    assert [name for name in params if "shortcut_conv" in params[name]] == ["stage2_block0", "stage3_block0"]
    assert params["stage3_block0"]["shortcut_conv"]["kernel"].shape == (1, 1, 32, 64)
    assert params["stage3_block0"]["shortcut_bn"]["scale"].shape == (64,)


def test_streams_are_groups_only_if_projections_separate_them():
    assert [group.name for group in create().channel_groups()] == ["stage1_block0", "stage2_block0", "stage3_block0"]
    groups = {group.name: group for group in create("resnet14", shortcut="projection").channel_groups()}
    assert [name for name, group in groups.items() if group.residual] == [
        "stage1_stream",
        "stage2_stream",
        "stage3_stream",
    ]
    middle = groups["stage2_stream"]
    assert middle.producers == ("stage2_block0/shortcut_conv", "stage2_block0/conv2", "stage2_block1/conv2")
    assert middle.batch_norms == ("stage2_block0/shortcut_bn", "stage2_block0/bn2", "stage2_block1/bn2")
    readers = ["stage2_block1/conv1", "stage3_block0/conv1", "stage3_block0/shortcut_conv"]
    assert [consumer.path for consumer in middle.consumers] == readers
    assert groups["stage1_stream"].producers[0] == "conv"
    assert [consumer.path for consumer in groups["stage3_stream"].consumers] == ["stage3_block1/conv1", "head"]


def test_a_stream_of_another_width_runs_and_survives_saving(tmp_path):
    net = create(shortcut="projection", widths={"stage2_stream": 20, "stage2_block0": 7})
    block = net.params["stage2_block0"]
    assert block["conv1"]["kernel"].shape == (3, 3, 16, 7)
    assert block["conv2"]["kernel"].shape == (3, 3, 7, 20)
    assert net.params["stage3_block0"]["shortcut_conv"]["kernel"].shape == (1, 1, 20, 64)
    checkpoints.save(tmp_path / "net", net)
    restored = checkpoints.load(tmp_path / "net").classifier
    assert restored.forward == net.forward
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(restored.logits(images), net.logits(images))
    assert net.with_widths({"stage2_stream": 5}).params["stage2_block0"]["conv2"]["kernel"].shape == (3, 3, 7, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "identity"}, "unknown shortcut 'identity'; known: subsample, average_pool, projection"),
        (
            {"widths": {"stage2_stream": 5}},
            "a CIFAR ResNet with the subsample shortcut has no channel group 'stage2_stream'; it has stage1_block0",
        ),
        ({"stage_widths": (16, 32)}, r"stage_widths \(16, 32\); give 3 integers >= 1, as \(16, 32, 64\)"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)
