"""PyTorch checkpoints of the VGG, CIFAR ResNet and PreResNet families give the logits that PyTorch computes.

The networks are written here from the architectures' descriptions, with the attribute names of the public repositories.
"""

import numpy as np
import pytest

from jaxprune import models

torch = pytest.importorskip("torch", reason="PyTorch is only needed to compare with it")
nn = torch.nn

VGG11, VGG13, VGG16 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3)
NARROW = (6, 9, 10, 12, 14)


class Vgg(nn.Module):
    """Convolutions of `NARROW` widths; `classifier` is the head's module, behind an optional pooling module."""

    def __init__(self, convs_per_stage, classifier, *, features="features", bias=True, last_pool=None, pool=None):
        super().__init__()
        layers, channels = [], 3
        for stage, count in enumerate(convs_per_stage):
            for _ in range(count):
                width = NARROW[stage]
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            if stage < 4:
                layers.append(nn.MaxPool2d(2))
        layers.append(last_pool or nn.MaxPool2d(2))
        setattr(self, features, nn.Sequential(*layers))
        self.features_name, self.pool, self.classifier = features, pool or nn.Identity(), classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(getattr(self, self.features_name)(x)), 1))


def vgg_widths(convs_per_stage, *hidden):
    convs = [width for width, count in zip(NARROW, convs_per_stage, strict=True) for _ in range(count)]
    widths = {f"conv{number}": width for number, width in enumerate(convs, 1)}
    return widths | {f"hidden{number}": width for number, width in enumerate(hidden, 1)}


def two_hidden(features, first, second, *, dropout_first=False):
    layers = [nn.Linear(features, first), nn.ReLU(), nn.Dropout(), nn.Linear(first, second), nn.ReLU()]
    if dropout_first:
        layers = [nn.Dropout(), *layers[:2], nn.Dropout(), *layers[3:]]
    else:
        layers.append(nn.Dropout())
    return nn.Sequential(*layers, nn.Linear(second, 10))


class BasicBlock(nn.Module):
    def __init__(self, channels, width, stride, shortcut, shortcut_name):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.extra, self.stride, self.kind, self.shortcut_name = width - channels, stride, shortcut, shortcut_name
        if shortcut == "projection" and stride > 1:
            projection = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            setattr(self, shortcut_name, projection)

    def skip(self, x):
        if self.stride == 1:
            return x
        if self.kind == "projection":
            return getattr(self, self.shortcut_name)(x)
        if self.kind == "subsample":
            half = self.extra // 2
            return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return nn.functional.pad(nn.functional.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self.extra))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


class PreActivationBottleneck(nn.Module):
    def __init__(self, channels, width, stride, selection):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.select = selection(channels)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.downsample = nn.Identity()
        if channels != 4 * width or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False))

    def forward(self, x):
        y = self.conv1(torch.relu(self.select(self.bn1(x))))
        y = self.conv3(torch.relu(self.bn3(self.conv2(torch.relu(self.bn2(y))))))
        return y + self.downsample(x)


class Selection(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.indexes = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x[:, self.indexes != 0]


class Residual(nn.Module):
    """Three stages of `block(channels, width, stride)`; BatchNorm and ReLU stand at the end if `norm` is "bn"."""

    def __init__(self, block, blocks, *, expansion=1, norm="bn1", head="linear", selection=nn.Identity):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        channels = 16
        for stage, width in enumerate((16, 32, 64), 1):
            layers = []
            for index in range(blocks):
                layers.append(block(channels, width, 2 if stage > 1 and index == 0 else 1))
                channels = expansion * width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.pre_activation, self.head_name = norm == "bn", head
        setattr(self, norm, nn.BatchNorm2d(channels if self.pre_activation else 16))
        self.select = selection(channels)
        setattr(self, head, nn.Linear(channels, 10))

    def forward(self, x):
        x = self.conv1(x)
        if not self.pre_activation:
            x = torch.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.pre_activation:
            x = torch.relu(self.select(self.bn(x)))
        return getattr(self, self.head_name)(x.mean((2, 3)))


def resnet20(shortcut, head="linear", shortcut_name="downsample"):
    return Residual(lambda *shape: BasicBlock(*shape, shortcut, shortcut_name), 3, head=head)


def preresnet20(selection, head="fc"):
    return Residual(
        lambda *shape: PreActivationBottleneck(*shape, selection),
        2,
        expansion=4,
        norm="bn",
        head=head,
        selection=selection,
    )


def with_random_weights(network):
    """Weights that keep activations near 1 through all layers, so that a difference anywhere reaches the logits."""
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("indexes") or not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            state[name] = noise * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            state[name] = 1 + 0.3 * noise.abs()
        else:
            state[name] = 0.1 * noise
    network.load_state_dict(state)
    return network.eval()


def hidden_head():
    return nn.Sequential(nn.Linear(14, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 10))


# What the public repository is, how it is written in PyTorch, how it is called here, and the images' height and width.
CASES = {
    "vgg16 of the slimming repositories": (
        lambda: Vgg(VGG16, nn.Linear(14, 10), features="feature", bias=False, last_pool=nn.AvgPool2d(2)),
        "vgg16_bn",
        {"widths": vgg_widths(VGG16)},
        (32, 32),
    ),
    "vgg16 of the study's filter pruning": (
        lambda: Vgg(VGG16, hidden_head(), features="feature", bias=False, last_pool=nn.AvgPool2d(2)),
        "vgg16_bn",
        {"head": "hidden", "widths": vgg_widths(VGG16, 20)},
        (32, 32),
    ),
    "vgg11 with biases and a fifth max-pool": (
        lambda: Vgg(VGG11, nn.Linear(14, 10)),
        "vgg11_bn",
        {"pool": "max", "conv_bias": True, "widths": vgg_widths(VGG11)},
        (32, 32),
    ),
    "vgg11 with two hidden layers": (
        lambda: Vgg(VGG11, two_hidden(14, 30, 20)),
        "vgg11_bn",
        {"head": "two_hidden", "widths": vgg_widths(VGG11, 30, 20)},
        (32, 32),
    ),
    "vgg11 whose classifier begins with dropout": (
        lambda: Vgg(VGG11, two_hidden(14, 30, 20, dropout_first=True)),
        "vgg11_bn",
        {"head": "two_hidden", "widths": vgg_widths(VGG11, 30, 20)},
        (32, 32),
    ),
    "vgg16 of torchvision": (
        lambda: Vgg(VGG16, two_hidden(49 * 14, 30, 20), pool=nn.AdaptiveAvgPool2d((7, 7))),
        "vgg16_bn",
        {"head": "imagenet", "widths": vgg_widths(VGG16, 30, 20)},
        (64, 288),  # 2 x 9 pixels become 7 x 7: repeated in one direction, averaged over overlaps in the other
    ),
    "resnet20, subsampled": (lambda: resnet20("subsample"), "resnet20", {}, (32, 32)),
    "resnet20 of the study": (
        lambda: resnet20("average_pool", "fc"),
        "resnet20",
        {"shortcut": "average_pool"},
        (32, 32),
    ),
    "resnet20, projected": (lambda: resnet20("projection", "fc"), "resnet20", {"shortcut": "projection"}, (32, 32)),
    "resnet20, option B": (
        lambda: resnet20("projection", "linear", "shortcut"),
        "resnet20",
        {"shortcut": "projection"},
        (32, 32),
    ),
    "preresnet20": (lambda: preresnet20(nn.Identity), "preresnet20", {}, (32, 32)),
    "preresnet20 of the slimming repositories": (lambda: preresnet20(Selection), "preresnet20", {}, (32, 32)),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_pytorchs(case, tmp_path):
    build, name, options, (height, width) = CASES[case]
    network = with_random_weights(build())
    torch.save(network.state_dict(), tmp_path / "net.pt")
    net = models.from_torch(tmp_path / "net.pt", name=name, num_classes=10, **options)
    images = np.random.default_rng(0).normal(size=(3, height, width, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1  # the images differ, so that agreement says something
    np.testing.assert_allclose(net.logits(images), expected, atol=1e-4, rtol=1e-4)


def vgg(convs_per_stage, **options):
    return Vgg(convs_per_stage, nn.Linear(14, 10), **options)


def selected(network):
    with torch.no_grad():
        network.layer2[1].select.indexes[:100] = 0
    return network


@pytest.mark.parametrize(
    ("build", "name", "options", "message"),
    [
        (
            lambda: vgg(VGG11, bias=False),
            "vgg13_bn",
            {"widths": vgg_widths(VGG13)},
            r"does not hold a vgg13_bn: features.3.weight is missing; its",
        ),
        (
            lambda: vgg(VGG16, bias=False),
            "vgg13_bn",
            {"widths": vgg_widths(VGG13)},
            r"features.21.weight has shape \(10,\) and gives \(10,\) where \(3, 3, 10, 12\) fits",
        ),
        (
            lambda: vgg(VGG11),
            "vgg11_bn",
            {"widths": vgg_widths(VGG11)},
            r"features.0.bias has no place \(8 such tensors\)",
        ),
        (
            lambda: vgg(VGG11, bias=False),
            "vgg11_bn",
            {},
            r"features.0.weight has shape \(6, 3, 3, 3\) and gives \(3, 3, 3, 6\) where \(3, 3, 3, 64\) fits",
        ),
        (
            lambda: resnet20("subsample"),
            "resnet20",
            {"shortcut": "projection"},
            r"layer2.0.downsample.0.weight is missing",
        ),
        (
            lambda: resnet20("projection"),
            "resnet20",
            {},
            r"layer2.0.downsample.0.weight has no place \(10 such tensors\)",
        ),
        (
            lambda: resnet20("subsample"),
            "preresnet20",
            {},
            r"does not hold a preresnet20: layer1.0.conv1.weight has shape \(16, 16, 3, 3\)",
        ),
        (
            lambda: selected(preresnet20(Selection)),
            "preresnet20",
            {},
            r"channels were removed from: layer2.1.select.indexes chooses 28 of 128; import the network from before",
        ),
    ],
)
def test_the_weights_of_another_network_are_refused(build, name, options, message, tmp_path):
    torch.save(build().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=message):
        models.from_torch(tmp_path / "net.pt", name=name, num_classes=10, **options)
