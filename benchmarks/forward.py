"""Forward images/s of ResNet-20 on this machine: in cache-sized pieces, in one piece, and PyTorch where installed.

    python benchmarks/forward.py [--images 2000] [--rounds 5]

Random weights and images. The sides run in alternation; medians are printed, and each side's speed over PyTorch's.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from jaxprune import models
from jaxprune.models.classifier import CPU_MICRO_BATCH, _logits


def jax_side(images, micro_batch):
    net = models.create("resnet20", num_classes=10, key=jax.random.key(0))
    return lambda: _logits(net, images, micro_batch).block_until_ready()


def torch_side(images):
    """Returns a forward pass of the same architecture in PyTorch, channels last, or None where it is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if x.shape != y.shape:
                half = (y.shape[1] - x.shape[1]) // 2
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
            return torch.relu(x + y)

    blocks = [Block(*shape) for shape in [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2]
    blocks += [Block(*shape) for shape in [(32, 64, 2)] + [(64, 64, 1)] * 2]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    net = nn.Sequential(*stem, *blocks, *head).eval().to(memory_format=torch.channels_last)
    inputs = torch.tensor(images).permute(0, 3, 1, 2)  # NHWC memory seen as NCHW: channels last

    @torch.inference_mode()
    def forward():
        return [net(piece.float() / 255) for piece in inputs.split(200)]

    return forward


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 32, 32, 3), np.uint8)
    sides = {
        f"jaxprune, pieces of {CPU_MICRO_BATCH}": jax_side(images, CPU_MICRO_BATCH),
        "jaxprune, one piece": jax_side(images, options.images),
        "PyTorch, channels last": torch_side(images),
    }
    if sides["PyTorch, channels last"] is None:
        print("PyTorch is not installed: left out")
    sides = {name: side for name, side in sides.items() if side is not None}
    speeds = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(options.rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            speeds[name].append(options.images / (time.perf_counter() - start))
    baseline = speeds.get("PyTorch, channels last")
    for name, values in speeds.items():
        line = f"{name:28} {statistics.median(values):8.0f} images/s  ({min(values):.0f} to {max(values):.0f})"
        if baseline:
            line += f"   {statistics.median(v / b for v, b in zip(values, baseline, strict=True)):.2f} x PyTorch"
        print(line)


if __name__ == "__main__":
    main()
