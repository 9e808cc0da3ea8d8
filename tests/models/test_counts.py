"""Parameters and multiply-accumulates of the CIFAR and VGG families equal the published ones."""

import jax
import pytest

from jaxprune import models, pruning

PROJECTION = {"shortcut": "projection"}
WIDE_HIDDEN = {"head": "two_hidden", "widths": {"hidden1": 4096, "hidden2": 4096}}


def count_parameters(name, *, num_classes=10, **options):
    params = models.abstract_state(name, num_classes=num_classes, **options)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def network_of_shapes(name, *, num_classes=10, **options):
    state = models.abstract_state(name, num_classes=num_classes, **options)
    return models.assemble(name, num_classes=num_classes, **state, mean=(0.0,) * 3, std=(1.0,) * 3, **options)


def count_multiply_accumulates(name, *, image_size=32, **options):
    """Of convolutions and linear layers, for one image; nothing is computed."""
    net = network_of_shapes(name, **options)
    return sum(pruning.multiply_accumulates(net, image_size=image_size).values())


# torchvision, models/vgg.py: `num_params`, and `_ops` in units of 1e9 multiply-accumulates, of the BN weights.
TORCHVISION = {
    "vgg11_bn": (132_868_840, 7.609),
    "vgg13_bn": (133_053_736, 11.308),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19_bn": (143_678_248, 19.632),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_vgg_for_imagenet_is_as_large_as_torchvisions(name):
    parameters, billions = TORCHVISION[name]
    options = {"num_classes": 1000, "head": "imagenet"}
    assert count_parameters(name, **options) == parameters
    operations = count_multiply_accumulates(name, image_size=224, **options)
    assert abs(operations / 1e9 - billions) <= 0.0005


# The table in the README of chenyaofo/pytorch-cifar-models, CIFAR-10: millions of parameters, millions of MAdds.
PUBLIC_CIFAR = {
    "resnet20": (0.27, 40.81, PROJECTION),
    "resnet32": (0.47, 69.12, PROJECTION),
    "resnet44": (0.66, 97.44, PROJECTION),
    "resnet56": (0.86, 125.75, PROJECTION),
    "vgg11_bn": (9.76, 153.29, {"head": "two_hidden"}),
    "vgg13_bn": (9.94, 228.79, {"head": "two_hidden"}),
    "vgg16_bn": (15.25, 313.73, {"head": "two_hidden"}),
    "vgg19_bn": (20.57, 398.66, {"head": "two_hidden"}),
}


@pytest.mark.parametrize("name", PUBLIC_CIFAR)
def test_sizes_equal_the_public_cifar_repositorys(name):
    parameters, operations, options = PUBLIC_CIFAR[name]
    assert abs(count_parameters(name, **options) / 1e6 - parameters) <= 0.005
    assert abs(count_multiply_accumulates(name, **options) / 1e6 - operations) <= 0.005


# The table in the README of huyvnphan/PyTorch_CIFAR10: torchvision's heads, over one pixel instead of 7 x 7.
@pytest.mark.parametrize(
    ("name", "millions"), [("vgg11_bn", 28.150), ("vgg13_bn", 28.334), ("vgg16_bn", 33.647), ("vgg19_bn", 38.959)]
)
def test_the_head_with_4096_units_is_as_large_as_published(name, millions):
    assert abs(count_parameters(name, **WIDE_HIDDEN) / 1e6 - millions) <= 0.001


# Li et al. 2017, Table 1: parameters, operations (multiply-accumulates), and the percentages that variant A removes.
LI_ET_AL = {
    "vgg16_bn": ({"head": "hidden"}, 1.5e7, 3.13e8, 64.0, 34.2),
    "resnet56": ({"shortcut": "average_pool"}, 8.5e5, 1.25e8, None, None),
    "resnet110": ({"shortcut": "average_pool"}, 1.72e6, 2.53e8, 2.3, 15.9),
}


@pytest.mark.parametrize("name", LI_ET_AL)
def test_sizes_equal_those_of_the_filter_pruning_paper(name):
    options, parameters, operations, *_ = LI_ET_AL[name]
    assert abs(count_parameters(name, **options) / parameters - 1) < 0.005
    assert abs(count_multiply_accumulates(name, **options) / operations - 1) < 0.005


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet110"])
def test_half_the_filters_of_the_studys_layers_are_as_much_as_published(name):
    options, *_, parameter_percent, operation_percent = LI_ET_AL[name]
    net = network_of_shapes(name, **options)
    studied = net.layer_choices()["study"]
    widths = {group.name: group.width // 2 for group in net.channel_groups() if group.name in studied}
    for count, percent in (
        (count_parameters, parameter_percent),
        (count_multiply_accumulates, operation_percent),
    ):
        assert round(100 - 100 * count(name, widths=widths, **options) / count(name, **options), 1) == percent


def test_slimmed_networks_begin_as_large_as_published():
    # Liu et al. 2017, Table 1: 20.04 and 1.70 million parameters. The README of Eric-mingjie/network-slimming gives
    # 1.71: there, one number per selectable channel (`select.indexes`) counts as a parameter.
    assert round(count_parameters("vgg19_bn") / 1e6, 2) == 20.04
    parameters = count_parameters("preresnet164")
    assert round(parameters / 1e6, 2) == 1.70
    selectable = sum(group.width for group in network_of_shapes("preresnet164").channel_groups() if group.selection)
    assert round((parameters + selectable) / 1e6, 2) == 1.71
