"""Times the forward pass of a network: dense, masked, and compact after half of the study's filters went.

    python benchmarks/latency.py                                  # VGG-16-BN, batch 256: about a minute on two cores
    python benchmarks/latency.py resnet110 --sparsity 0.7 --batch-size 64

Random weights: time does not depend on their values. The three networks are called in turn, so that other load on the
machine meets all; quotients are those of neighbouring calls, with their quartiles. What the arithmetic allows is the
quotient of the multiply-accumulates.
"""

import argparse

import jax
import measurements
import numpy as np

from jaxprune import models, pruning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vgg16_bn", choices=models.MODELS, metavar="MODEL")
    methods = pruning.METHODS.items()
    without_images = [name for name, method in methods if method.removes_channels and "images" not in method.needs]
    parser.add_argument("--method", default="filter_l1", choices=sorted(without_images))
    parser.add_argument("--sparsity", type=float, default=0.5, help="fraction of the channels of the method's layers")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    options = parser.parse_args()

    dense = models.create(options.model, num_classes=10, key=jax.random.key(0))
    masked, masks = pruning.prune(dense, method=options.method, sparsity=options.sparsity, key=jax.random.key(1))
    networks = {"dense": dense, "masked": masked, "compact": pruning.compact(masked, masks)}
    images = np.random.default_rng(0).integers(0, 256, (8, dense.image_size, dense.image_size, 3), np.uint8)
    expected = np.asarray(masked.logits(images))
    np.testing.assert_allclose(networks["compact"].logits(images), expected, atol=1e-5 * np.abs(expected).max())

    latencies = pruning.compare_latency(networks, batch_size=options.batch_size, repeats=options.repeats)
    operations = {name: pruning.summarize(network).total.multiply_accumulates for name, network in networks.items()}
    print(
        f"{options.model}, {options.method} at {options.sparsity:.0%}, jax {jax.__version__} on "
        f"{jax.devices()[0].device_kind}, {options.repeats} rounds"
    )
    for name, latency in latencies.items():
        line = f"{name:8} {operations[name] / 1e6:8.1f} million multiply-accumulates per image, {latency}"
        if name != "dense":
            what = f"{options.model}, {options.sparsity:.0%} of the filters removed, {name}"
            ours, dense_s = (np.divide(each.times_ms, 1000) for each in (latency, latencies["dense"]))
            measurements.add(options.json, what, against="dense", ours=ours, theirs=dense_s, work=options.batch_size)
            lower, median, upper = latency.speedup_over(latencies["dense"])
            line += f"; {median:.3f} x as fast as dense (quartiles {lower:.3f} to {upper:.3f})"
            line += f", arithmetic allows {operations['dense'] / operations[name]:.2f}"
        print(line)


if __name__ == "__main__":
    main()
