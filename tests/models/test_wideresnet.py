import jax
import numpy as np
import pytest

from jaxprune import models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# Zagoruyko and Komodakis 2016, Tables 4 and 5: WRN-40-2 2.2 million, WRN-28-10 36.5 million. To the last digit:
# 36,479,194 in the model tables of imgclsmob, 2,748,890 for WRN-16-4 in reports of the same architecture.
@pytest.mark.parametrize(
    ("name", "expected"),
    [("wideresnet28_10", 36_479_194), ("wideresnet40_2", 2_243_546), ("wideresnet16_4", 2_748_890)],
)
def test_parameter_counts_equal_the_published_ones(name, expected):
    params = models.abstract_state(name, num_classes=10)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def torch_wideresnet(widths, *, blocks_per_stage, num_classes):
    """Returns the network with the names of the widely used implementation, random weights and statistics."""
    torch = pytest.importorskip("torch", reason="PyTorch is only needed to compare with it")
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, in_features, inner, features, stride, first):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(in_features), nn.BatchNorm2d(inner)
            self.conv1 = nn.Conv2d(in_features, inner, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, features, 3, 1, 1, bias=False)
            self.convShortcut = nn.Conv2d(in_features, features, 1, stride, bias=False) if first else None

        def forward(self, x):
            activated = functional.relu(self.bn1(x))
            y = self.conv2(functional.relu(self.bn2(self.conv1(activated))))
            return y + (x if self.convShortcut is None else self.convShortcut(activated))

    class Stage(nn.Module):
        def __init__(self, *blocks):
            super().__init__()
            self.layer = nn.Sequential(*blocks)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            features = widths["stem"]
            self.conv1 = nn.Conv2d(3, features, 3, 1, 1, bias=False)
            for stage in (1, 2, 3):
                blocks = []
                for block in range(blocks_per_stage):
                    inner, stream = widths[f"stage{stage}_block{block}_inner1"], widths[f"stage{stage}_stream"]
                    stride = 2 if block == 0 and stage > 1 else 1
                    blocks.append(Block(features, inner, stream, stride, block == 0))
                    features = stream
                self.add_module(f"block{stage}", Stage(*blocks))
            self.bn1 = nn.BatchNorm2d(features)
            self.fc = nn.Linear(features, num_classes)

        def forward(self, x):
            x = self.conv1(x)
            for stage in (self.block1, self.block2, self.block3):
                x = stage.layer(x)
            return self.fc(functional.relu(self.bn1(x)).mean((2, 3)))

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


def test_logits_equal_pytorchs(tmp_path, rng):
    state = models.abstract_state("wideresnet16_4", num_classes=5)
    groups = models.assemble("wideresnet16_4", num_classes=5, **state, mean=MEAN, std=STD).channel_groups()
    widths = {group.name: 4 + index % 5 for index, group in enumerate(groups)}
    torch, reference = torch_wideresnet(widths, blocks_per_stage=2, num_classes=5)
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "net.pt")
    net = models.from_torch(tmp_path / "net.pt", name="wideresnet16_4", num_classes=5, widths=widths)
    # Every image has colours of its own: a mean over pure noise would hide the image from the head.
    images = (rng.normal(0, 2, (3, 32, 32, 3)) + rng.normal(0, 2, (3, 1, 1, 3))).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1  # the logits depend on the image
    np.testing.assert_allclose(net.logits(images), expected, rtol=1e-4, atol=1e-4)
