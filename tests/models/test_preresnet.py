import jax
import numpy as np
import pytest

from jaxprune import checkpoints, models

STAGE_WIDTHS = (4, 6, 8)
WIDTHS = {
    "stage1_block0_select": (0, 3),
    "stage1_block0_conv1": 3,
    "stage2_block0_conv2": 5,
    "stage3_block0_select": (1, 2, 20),
    "head_select": (0, 30, 31),
}


def create(name="preresnet11", **options):
    return models.create(name, num_classes=3, key=jax.random.key(0), stage_widths=STAGE_WIDTHS, **options)


@pytest.mark.parametrize(("name", "blocks"), [("preresnet20", 2), ("preresnet110", 12), ("preresnet164", 18)])
def test_depth_counts_the_weighted_layers_of_9n_plus_2(name, blocks):
    params = models.abstract_state(name, num_classes=10)["params"]
    assert sum(layer.startswith("stage1_") for layer in params) == blocks
    layers = [path for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]
    assert len([path for path in layers if path[-2].key != "shortcut_conv"]) == int(name.removeprefix("preresnet"))


def test_blocks_have_the_studys_shapes():
    params = models.abstract_state("preresnet20", num_classes=10)["params"]
    shapes = {
        layer: leaves["kernel"].shape for layer, leaves in params["stage2_block0"].items() if not layer.startswith("bn")
    }
    assert shapes == {
        "conv1": (1, 1, 64, 32),
        "conv2": (3, 3, 32, 32),
        "conv3": (1, 1, 32, 128),
        "shortcut_conv": (1, 1, 64, 128),
    }
    assert params["conv"]["kernel"].shape == (3, 3, 3, 16)
    assert params["bn"]["scale"].shape == (256,)
    assert "shortcut_conv" not in params["stage2_block1"]
    assert not [path for path in jax.tree_util.tree_leaves_with_path(params) if "shortcut_bn" in str(path)]


def test_widths_and_selections_make_a_smaller_network_that_runs():
    net = create(widths=WIDTHS)
    block = net.params["stage1_block0"]
    assert block["bn1"]["scale"].shape == (2,)
    assert block["conv1"]["kernel"].shape == (1, 1, 2, 3)
    assert block["shortcut_conv"]["kernel"].shape == (1, 1, 4, 16)  # the shortcut reads the whole stream
    assert net.params["stage2_block0"]["conv3"]["kernel"].shape == (1, 1, 5, 24)
    assert net.params["head"]["kernel"].shape == (3, 3)
    assert net.logits(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 3)


def test_training_reaches_selected_channels_only(rng):
    net = create(widths=WIDTHS)
    images = rng.random((4, 32, 32, 3), np.float32)
    gradient = jax.jit(jax.grad(lambda params: net.apply(params, net.batch_stats, images, train=True)[0][:, 0].var()))
    gradients = gradient(net.params)
    # The stage-3 stream ends in the head, which reads three of its 32 channels.
    reached = np.flatnonzero(np.abs(gradients["stage3_block0"]["conv3"]["kernel"]).sum((0, 1, 2)))
    assert reached.tolist() == [0, 30, 31]


def test_a_selection_counts_in_the_stream_however_often_one_selects():
    net = create(widths=WIDTHS)
    group = {group.name: group for group in net.channel_groups()}["stage3_block0_select"]
    assert (group.width, group.indices, group.selection, group.producers) == (3, (1, 2, 20), True, ())
    narrower = net.with_widths({"stage3_block0_select": group.indices[1:]})
    assert {group.name: group for group in narrower.channel_groups()}["stage3_block0_select"].indices == (2, 20)
    assert narrower.params["stage3_block0"]["bn1"]["scale"].shape == (2,)
    assert narrower.params["stage1_block0"]["bn1"]["scale"].shape == (2,)  # the earlier widths stay


def test_a_smaller_network_survives_saving(tmp_path):
    net = create(widths=WIDTHS)
    checkpoints.save(tmp_path / "net", net)
    restored = checkpoints.load(tmp_path / "net").classifier
    assert restored.options == net.options
    assert restored.forward == net.forward
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(restored.logits(images), net.logits(images))


def test_numpy_integers_are_widths_too():
    net = create(widths={"stage1_block0_conv1": np.int64(3), "stage1_block0_select": np.flatnonzero([1, 0, 0, 1])})
    assert dict(net.options)["widths"] == (("stage1_block0_conv1", 3), ("stage1_block0_select", (0, 3)))
    assert type(dict(dict(net.options)["widths"])["stage1_block0_conv1"]) is int


@pytest.mark.parametrize(
    "indices",
    [2, (), (0, 4), (-1, 0), (1, 0), (0, 0), (0.0, 1.0)],
    ids=["number", "", "4", "-1", "order", "twice", "real"],
)
def test_a_wrong_selection_is_refused(indices):
    message = (
        r"of channel group 'stage1_block0_select' in a PreResNet; give the indices .* stream's 4 channels, .* \(0, 3\)"
    )
    with pytest.raises(ValueError, match=message):
        create(widths={"stage1_block0_select": indices})


@pytest.mark.parametrize("stage_widths", [(4, 6), (4, 6, 0), (4, 6, 8, 10)])
def test_wrong_stage_widths_are_refused(stage_widths):
    with pytest.raises(ValueError, match=r"stage_widths \(4, 6.*\); give 3 integers >= 1, as \(16, 32, 64\)"):
        models.create("preresnet11", num_classes=3, key=jax.random.key(0), stage_widths=stage_widths)
