"""Forward images/s of ResNet-20 on this machine: in cache-sized pieces, in one piece, and PyTorch where installed.

    python benchmarks/forward.py [--images 2000] [--rounds 5] [--pieces 16 50] [--threads 2]

The weights of the public checkpoint where JAXPRUNE_SHARED names a folder that holds it, random ones otherwise; random
images. The sides run in alternation; medians are printed, and each side's speed over PyTorch's in the same round.
On a machine that does other work too, `--cpu-time` with one core (`taskset -c 0`, `--threads 1`) is steadier.
"""

import argparse
import os
import pathlib
import statistics
import time

import jax
import measurements
import numpy as np

from jaxprune import data, models
from jaxprune.models.classifier import CPU_MICRO_BATCH, _logits

CHECKPOINT = "models/resnet20_cifar10_jpeg.pt"
# A piece that PyTorch likes: smaller and larger ones were slower.
TORCH_PIECE = 200


def shared(name: str) -> pathlib.Path | None:
    """Returns a file of the shared folder, or None."""
    path = pathlib.Path(os.environ.get("JAXPRUNE_SHARED", "../shared")) / name
    return path if path.exists() else None


def classifier() -> models.Classifier:
    """Returns ResNet-20 with the checkpoint's weights, or random ones."""
    options = {
        "name": "resnet20",
        "num_classes": 10,
        "mean": data.dataset.IMAGENET_MEAN,
        "std": data.dataset.IMAGENET_STD,
    }
    checkpoint = shared(CHECKPOINT)
    return models.from_torch(checkpoint, **options) if checkpoint else models.create(key=jax.random.key(0), **options)


def torch_side(threads: int):
    """Returns `logits(uint8 images)` of the same network in PyTorch, channels last; None where it is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None
    torch.set_num_threads(threads)

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

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
            self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
            self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    net = Network()
    if shared(CHECKPOINT):
        net.load_state_dict(torch.load(shared(CHECKPOINT), weights_only=True)["state_dict"])
    net = net.eval().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (data.dataset.IMAGENET_MEAN, data.dataset.IMAGENET_STD))

    @torch.inference_mode()
    def logits(images):
        inputs = torch.tensor(images).permute(0, 3, 1, 2)  # NHWC memory seen as NCHW: channels last
        return torch.cat([net((piece.float() / 255 - mean) / std) for piece in inputs.split(TORCH_PIECE)]).numpy()

    return logits


def compare(
    sides: dict, baseline: str, rounds: int, work: int, unit: str, clock=time.perf_counter, json: str | None = None
) -> None:
    """Runs the sides in alternation and prints `work` per second, and each side's speed over the baseline's."""
    speeds = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            start = clock()
            side()
            speeds[name].append(work / (clock() - start))
    for name, values in speeds.items():
        line = f"{name:34} {statistics.median(values):9.0f} {unit}/s  ({min(values):.0f} to {max(values):.0f})"
        if baseline in speeds:
            if name != baseline:
                ours, theirs = ([work / speed for speed in speeds[side]] for side in (name, baseline))
                measurements.add(json, name, against=baseline, ours=ours, theirs=theirs, work=work, unit=unit)
            quotients = [value / base for value, base in zip(values, speeds[baseline], strict=True)]
            line += f"   {statistics.median(quotients):.2f} x {baseline} ({min(quotients):.2f} to {max(quotients):.2f})"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pieces", type=int, nargs="+", default=[CPU_MICRO_BATCH])
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds instead of those of the clock")
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 32, 32, 3), np.uint8)
    net, torch_logits = classifier(), torch_side(options.threads)
    sides = {
        f"jaxprune, pieces of {piece}": lambda piece=piece: _logits(net, images, piece).block_until_ready()
        for piece in (*options.pieces, options.images)
    }
    if torch_logits is None:
        print("PyTorch is not installed: left out")
        measurements.add_absent(options.json, "ResNet-20 forward", against="PyTorch", why="it is not installed")
    else:
        sides["PyTorch"] = lambda: torch_logits(images)
        if shared(CHECKPOINT):
            difference = np.abs(torch_logits(images[:50]) - np.asarray(net.logits(images[:50]))).max()
            print(f"same weights: largest difference of the logits {difference:.1e}")
    clock = time.process_time if options.cpu_time else time.perf_counter
    compare(sides, "PyTorch", options.rounds, options.images, "images", clock, options.json)


if __name__ == "__main__":
    main()
