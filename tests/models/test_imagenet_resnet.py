import jax
import numpy as np
import pytest

from jaxprune import models
from jaxprune.models import imagenet_resnet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# 1000 classes: `num_params` of torchvision's weights. 10 classes, CIFAR stem: the sum over the same layers, which the
# users of the common CIFAR repository print (ResNet-18 and -34 with projections, ResNet-50).
@pytest.mark.parametrize(
    ("name", "num_classes", "stem", "expected"),
    [
        ("resnet18", 1000, "imagenet", 11_689_512),
        ("resnet34", 1000, "imagenet", 21_797_672),
        ("resnet50", 1000, "imagenet", 25_557_032),
        ("resnet18", 10, "cifar", 11_173_962),
        ("resnet34", 10, "cifar", 21_282_122),
        ("resnet50", 10, "cifar", 23_520_842),
    ],
)
def test_parameter_counts_equal_the_published_ones(name, num_classes, stem, expected):
    params = models.abstract_state(name, num_classes=num_classes, stem=stem)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="unknown stem 'tiny'; known: cifar, cifar_max_pool, imagenet"):
        models.abstract_state("resnet18", num_classes=10, stem="tiny")


def torch_resnet(name, *, widths, stem, num_classes):
    """Returns the network with torchvision's names, random weights and random BatchNorm statistics."""
    torch = pytest.importorskip("torch", reason="PyTorch is only needed to compare with it")
    from torch import nn
    from torch.nn import functional

    layout = imagenet_resnet.LAYOUTS[name]

    class Block(nn.Module):
        def __init__(self, features, stride, projected):
            super().__init__()
            if len(features) == 3:
                kernels, strides = (3, 3), (stride, 1)
            else:
                kernels, strides = (1, 3, 1), (1, stride, 1)
            self.count = len(kernels)
            for i, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
                conv = nn.Conv2d(features[i], features[i + 1], kernel, step, padding=kernel // 2, bias=False)
                self.add_module(f"conv{i + 1}", conv)
                self.add_module(f"bn{i + 1}", nn.BatchNorm2d(features[i + 1]))
            self.downsample = nn.Sequential()
            if projected:
                conv = nn.Conv2d(features[0], features[-1], 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(features[-1]))

        def forward(self, x):
            y = x
            for i in range(1, self.count + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = functional.relu(y) if i < self.count else y
            return functional.relu(y + self.downsample(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            features = widths.get("stem", widths["stage1_stream"])
            if stem == "imagenet":
                self.conv1 = nn.Conv2d(3, features, 7, 2, 3, bias=False)
            else:
                self.conv1 = nn.Conv2d(3, features, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(features)
            for stage, blocks in enumerate(layout.blocks, start=1):
                layer = []
                for block in range(blocks):
                    inner = [widths[f"stage{stage}_block{block}_inner1"]]
                    if name == "resnet50":
                        inner.append(widths[f"stage{stage}_block{block}_inner2"])
                    first = block == 0
                    stride = 2 if first and stage > 1 else 1
                    projected = first and (stage > 1 or name == "resnet50")
                    layer.append(Block((features, *inner, widths[f"stage{stage}_stream"]), stride, projected))
                    features = widths[f"stage{stage}_stream"]
                self.add_module(f"layer{stage}", nn.Sequential(*layer))
            self.fc = nn.Linear(features, num_classes)

        def forward(self, x):
            x = functional.relu(self.bn1(self.conv1(x)))
            if stem == "imagenet":
                x = functional.max_pool2d(x, 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.3)
    return torch, net


def narrow_widths(name):
    state = models.abstract_state(name, num_classes=5)
    net = models.assemble(name, num_classes=5, **state, mean=MEAN, std=STD)
    return {group.name: 4 + index % 5 for index, group in enumerate(net.channel_groups())}


@pytest.mark.parametrize(("name", "stem", "size"), [("resnet18", "cifar", 32), ("resnet50", "imagenet", 64)])
def test_logits_equal_pytorchs_under_both_namings(tmp_path, rng, name, stem, size):
    widths = narrow_widths(name)
    torch, reference = torch_resnet(name, widths=widths, stem=stem, num_classes=5)
    torch.save(reference.state_dict(), tmp_path / "net.pth")
    options = {"name": name, "num_classes": 5, "widths": widths, "stem": stem}
    net = models.from_torch(tmp_path / "net.pth", **options)
    # Every image has colours of its own: a mean over pure noise would hide the image from the head.
    images = (rng.normal(0, 2, (3, size, size, 3)) + rng.normal(0, 2, (3, 1, 1, 3))).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1  # the logits depend on the image
    np.testing.assert_allclose(net.logits(images), expected, rtol=1e-4, atol=1e-4)
    assert net.image_size == {"cifar": 32, "imagenet": 224}[stem]

    renamed = {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for key, value in reference.state_dict().items()
    }
    torch.save({"net": renamed}, tmp_path / "cifar.pth")
    other = models.from_torch(tmp_path / "cifar.pth", **options)
    jax.tree.map(np.testing.assert_array_equal, other, net)


def test_weights_of_the_other_stem_are_refused(tmp_path):
    widths = narrow_widths("resnet18")
    torch, reference = torch_resnet("resnet18", widths=widths, stem="imagenet", num_classes=5)
    torch.save(reference.state_dict(), tmp_path / "net.pth")
    with pytest.raises(
        ValueError, match=r"conv1.weight has shape \(4, 3, 7, 7\) .* give the name, num_classes and opt"
    ):
        models.from_torch(tmp_path / "net.pth", name="resnet18", num_classes=5, widths=widths)
