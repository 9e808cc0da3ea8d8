import jax
import numpy as np
import pytest

from jaxprune import models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Expansion, blocks and stride of the stages (Sandler et al. 2018, Table 2); the second one's stride by the stem.
STAGES = ((1, 1, 1), (6, 2, None), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
STEM_STRIDE = {"cifar": 1, "imagenet": 2}


# 1000 classes: `num_params` of torchvision's weights; with 10 classes 990 rows of 1280 weights and a bias fewer.
@pytest.mark.parametrize(
    ("num_classes", "stem", "expected"), [(1000, "imagenet", 3_504_872), (10, "cifar", 3_504_872 - 990 * 1281)]
)
def test_parameter_counts_equal_the_published_ones(num_classes, stem, expected):
    params = models.abstract_state("mobilenet_v2", num_classes=num_classes, stem=stem)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="unknown stem 'tiny'; known: cifar, imagenet"):
        models.abstract_state("mobilenet_v2", num_classes=5, stem="tiny")


def torch_mobilenet(widths, *, stem, num_classes):
    """Returns the network with torchvision's names, random weights and random BatchNorm statistics."""
    torch = pytest.importorskip("torch", reason="PyTorch is only needed to compare with it")
    from torch import nn

    def conv_bn_relu6(in_features, features, kernel, stride=1, groups=1):
        conv = nn.Conv2d(in_features, features, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(features), nn.ReLU6())

    class Block(nn.Module):
        def __init__(self, in_features, expanded, features, stride, identity):
            super().__init__()
            layers = [] if expanded is None else [conv_bn_relu6(in_features, expanded, 1)]
            expanded = expanded or in_features
            layers.append(conv_bn_relu6(expanded, expanded, 3, stride, groups=expanded))
            layers += [nn.Conv2d(expanded, features, 1, bias=False), nn.BatchNorm2d(features)]
            self.conv, self.identity = nn.Sequential(*layers), identity

        def forward(self, x):
            return x + self.conv(x) if self.identity else self.conv(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            features = widths["stem"]
            layers = [conv_bn_relu6(3, features, 3, STEM_STRIDE[stem])]
            for stage, (expansion, blocks, stride) in enumerate(STAGES, start=1):
                for block in range(blocks):
                    expanded = widths[f"stage{stage}_block{block}_expanded"] if expansion > 1 else None
                    step = (stride or STEM_STRIDE[stem]) if block == 0 else 1
                    stream = widths[f"stage{stage}_stream"]
                    layers.append(Block(features, expanded, stream, step, block > 0))
                    features = stream
            layers.append(conv_bn_relu6(features, widths["last"], 1))
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths["last"], num_classes))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(1, 2)
            module.bias.data.normal_(0, 0.5)
            module.momentum = 1
    # Statistics of a batch: with arbitrary ones, so many ReLU6 leave nothing of the image.
    net.train()(2 * torch.randn(16, 3, 32, 32))
    net.eval()
    return torch, net


@pytest.fixture(scope="module")
def widths():
    state = models.abstract_state("mobilenet_v2", num_classes=5)
    groups = models.assemble("mobilenet_v2", num_classes=5, **state, mean=MEAN, std=STD).channel_groups()
    return {group.name: 4 + index % 5 for index, group in enumerate(groups)}


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_logits_equal_pytorchs(tmp_path, rng, widths, stem):
    # Without the option, the stem is the one for small images.
    option = {} if stem == "cifar" else {"stem": stem}
    torch, reference = torch_mobilenet(widths, stem=stem, num_classes=5)
    torch.save(reference.state_dict(), tmp_path / "net.pth")
    net = models.from_torch(tmp_path / "net.pth", name="mobilenet_v2", num_classes=5, widths=widths, **option)
    # Every image has colours of its own: a mean over pure noise would hide the image from the head.
    images = (rng.normal(0, 2, (3, 32, 32, 3)) + rng.normal(0, 2, (3, 1, 1, 3))).astype(np.float32)
    with torch.no_grad():
        x = torch.tensor(images).permute(0, 3, 1, 2)
        expected = reference(x).numpy()
        assert reference.features[0](x).max() == 6  # ReLU6 cuts something off
    assert np.ptp(expected, axis=0).max() > 0.1  # the logits depend on the image
    np.testing.assert_allclose(net.logits(images), expected, rtol=1e-4, atol=1e-4)
    assert net.image_size == {"cifar": 32, "imagenet": 224}[stem]
