import jax
import numpy as np
import pytest

from jaxprune import checkpoints, models
from jaxprune.models.vgg import adaptive_average_pool

NARROW = {f"conv{number}": 5 for number in range(1, 9)}


def create(name="vgg11_bn", **options):
    return models.create(name, num_classes=3, key=jax.random.key(0), **options)


@pytest.mark.parametrize(
    ("options", "head_layers", "conv_bias", "image_size"),
    [
        ({}, {"head": (512, 3)}, False, 32),
        ({"head": "hidden"}, {"hidden1": (512, 512), "head": (512, 3)}, False, 32),
        ({"head": "two_hidden"}, {"hidden1": (512, 512), "hidden2": (512, 512), "head": (512, 3)}, True, 32),
        ({"head": "imagenet"}, {"hidden1": (25088, 4096), "hidden2": (4096, 4096), "head": (4096, 3)}, True, 224),
        ({"conv_bias": True}, {"head": (512, 3)}, True, 32),
        ({"head": "two_hidden", "conv_bias": False}, {"hidden2": (512, 512)}, False, 32),
    ],
)
def test_heads_have_the_layers_they_are_published_with(options, head_layers, conv_bias, image_size):
    state = models.abstract_state("vgg16_bn", num_classes=3, **options)
    net = models.assemble("vgg16_bn", num_classes=3, **state, mean=(0.0,) * 3, std=(1.0,) * 3, **options)
    params = net.params
    for name, shape in head_layers.items():
        assert params[name]["kernel"].shape == shape
        assert params[name]["bias"].shape == shape[1:]
    assert ("hidden1_bn" in params) == (options.get("head") == "hidden")
    assert [name for name in params if name.startswith("conv") and ("bias" in params[name]) != conv_bias] == []
    assert net.image_size == image_size


def test_the_widths_are_those_of_the_study():
    params = models.abstract_state("vgg19_bn", num_classes=3)["params"]
    widths = [params[f"conv{number}"]["kernel"].shape for number in range(1, 17)]
    assert widths[0] == (3, 3, 3, 64)
    assert [shape[-1] for shape in widths] == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8


def test_the_average_pool_is_the_studys_and_the_fifth_max_pool_the_public_ones(rng):
    # Through the last BatchNorm's bias only, the pools agree; with different pixels the average is below the maximum.
    average, maximum = create(widths=NARROW), create(widths=NARROW, pool="max")
    params = jax.tree.map(np.array, average.params)
    params["head"]["kernel"] = np.abs(params["head"]["kernel"])
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    low, high = (net.replace(params=params).logits(images) for net in (average, maximum))
    assert np.all(low < high)
    params["bn8"]["scale"] *= 0
    params["bn8"]["bias"] += 0.5
    low, high = (net.replace(params=params).logits(images) for net in (average, maximum))
    np.testing.assert_allclose(low, high, rtol=1e-6)
    np.testing.assert_allclose(low[0], 0.5 * params["head"]["kernel"].sum(0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 7), (2, 9), (14, 8), (1, 1)])
def test_adaptive_average_pooling_equals_its_definition(shape, rng):
    x = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    expected = np.empty((2, 7, 7, 3), np.float32)
    for row, column in np.ndindex(7, 7):
        rows, columns = (
            slice(int(np.floor(cell * size / 7)), int(np.ceil((cell + 1) * size / 7)))
            for cell, size in zip((row, column), shape, strict=True)
        )
        expected[:, row, column] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(adaptive_average_pool(x, 7), expected, atol=1e-6)


def test_the_studys_layers_are_the_first_and_the_last_six():
    net = create("vgg16_bn", widths=NARROW)
    assert net.layer_choices()["study"] == ("conv1", "conv8", "conv9", "conv10", "conv11", "conv12", "conv13")
    assert len(net.layer_choices()["convolutions"]) == 13
    assert "study" not in create(widths=NARROW).layer_choices()


def test_slimming_begins_with_scales_of_one_half():
    net = create(widths=NARROW, initial_scale=0.5)
    np.testing.assert_array_equal(net.params["bn3"]["scale"], np.full(5, 0.5))
    np.testing.assert_array_equal(net.params["bn3"]["bias"], np.zeros(5))
    assert net.forward == create(widths=NARROW).forward  # no other architecture


def test_a_narrow_network_survives_saving(tmp_path):
    net = create(head="hidden", widths=NARROW | {"hidden1": 6}).with_widths({"conv2": 4})
    net = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), net)
    checkpoints.save(tmp_path / "net", net)
    restored = checkpoints.load(tmp_path / "net").classifier
    assert restored.options == net.options
    assert restored.forward == net.forward
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(restored.logits(images), net.logits(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "conv"}, "unknown head 'conv'; known: linear, hidden, two_hidden, imagenet"),
        ({"pool": "mean"}, "unknown pool 'mean'; known: average, max"),
        ({"widths": {"conv9": 3}}, "VGG-11 with the linear head has no channel group 'conv9'; it has conv1, conv2"),
        ({"widths": {"hidden1": 3}}, "VGG-11 with the linear head has no channel group 'hidden1'"),
        ({"widths": {"conv1": 0}}, "width 0 of channel group 'conv1' in VGG-11 .*; give an integer >= 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)


def test_images_that_the_pools_would_use_up_are_refused():
    with pytest.raises(
        ValueError, match=r"images of 8 x 32 pixels are too small for 4 max-pools; give at least 16 x 16"
    ):
        create(widths=NARROW).logits(np.zeros((1, 8, 32, 3), np.uint8))
