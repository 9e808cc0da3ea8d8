"""Times training on this machine: against PyTorch, against a plain jitted loop, and what each option costs.

    python benchmarks/training.py                # a few minutes on two cores
    python benchmarks/training.py --rounds 9     # for the record
    python benchmarks/training.py --only torch loop

Random weights and images. Every comparison alternates its two sides in one process, so that other load on the machine
meets both; it prints medians, and the median and the range of the pairs' quotients. PyTorch's part needs the extra
`bench`; set OMP_NUM_THREADS or --threads to the cores to be used.
"""

import argparse
import os
import resource
import statistics
import time

# Before JAX starts: the scaling part needs simulated devices; all other parts use the first alone.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"

import jax
import jax.numpy as jnp
import measurements
import numpy as np
import optax

from jaxprune import data, models, pruning, training

BATCH = training.BATCH_SIZE
MODEL, SMALL_MODEL = "resnet20", "resnet8"
SPARSITY = 0.7
MANY = 4
SGD = training.sgd(schedule="constant", learning_rate=0.01)


def random_images(steps: int) -> data.Dataset:
    rng = np.random.default_rng(0)
    count = steps * BATCH
    labels = rng.integers(0, 10, count).astype(np.int32)
    return data.Dataset(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), labels, tuple("0123456789"), split="train")


def new_net(name: str = MODEL, seed: int = 0) -> models.Classifier:
    return models.create(name, num_classes=10, key=jax.random.key(seed))


def fit(net, images, **options):
    """Returns a function that trains for one epoch."""
    arguments = {"optimizer": SGD, "epochs": 1, "key": jax.random.key(1)} | options
    return lambda: jax.block_until_ready(training.fit(net, images, **arguments).params)


def plain_loop(net, images, optimizer=SGD, masks=None):
    """Returns the training loop that one would write by hand, for one epoch: one jitted, donated step."""

    @jax.jit
    def gather(images, labels, order, step):
        chosen = jax.lax.dynamic_slice_in_dim(order, step * BATCH, BATCH)
        return images[chosen], labels[chosen]

    def step(params, batch_stats, opt_state, images, labels):
        def loss_of(params):
            logits, stats = net.apply(params, batch_stats, images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), stats

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    all_images, all_labels = jax.device_put((images.images, images.labels))

    def epoch():
        params, batch_stats = jax.tree.map(jnp.copy, (net.params, net.batch_stats))
        opt_state = optimizer.init(params)
        order = jax.random.permutation(jax.random.key(1), len(images))
        for index in range(len(images) // BATCH):
            batch = gather(all_images, all_labels, order, index)
            params, batch_stats, opt_state, _ = step(params, batch_stats, opt_state, *batch)
        jax.block_until_ready(params)

    return epoch


def torch_loop(net, images, threads: int):
    """Returns one epoch of the same network with the same weights in PyTorch, channels last, or None without it."""
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

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            shapes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
            for index, shape in enumerate(shapes):
                setattr(self, f"stage{index // 3 + 1}_block{index % 3}", Block(*shape))
            self.blocks = [f"stage{index // 3 + 1}_block{index % 3}" for index in range(len(shapes))]
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            x = torch.relu(self.bn(self.conv(x)))
            for name in self.blocks:
                x = getattr(self, name)(x)
            return self.head(x.mean((2, 3)))

    module = ResNet()
    weights = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
        *parents, kind = (entry.key for entry in path)
        array = np.array(leaf)
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        weights[".".join([*parents, {"kernel": "weight", "scale": "weight"}.get(kind, kind)])] = torch.tensor(array)
    missing = module.load_state_dict(weights, strict=False).missing_keys
    assert all("running" in name or "num_batches" in name for name in missing), missing
    first = images.images[:BATCH]
    with torch.no_grad():
        module.train()
        theirs = module(torch.tensor(first).permute(0, 3, 1, 2).float() / 255).numpy()
    ours, _ = net.apply(net.params, net.batch_stats, jnp.asarray(first), train=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)

    module = module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    all_images = torch.tensor(images.images).permute(0, 3, 1, 2)  # NHWC memory seen as NCHW: channels last
    all_labels = torch.tensor(images.labels).long()

    def epoch():
        for chosen in torch.randperm(len(all_labels)).split(BATCH):
            loss = nn.functional.cross_entropy(module(all_images[chosen].float() / 255), all_labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(name: str, ours, others, rounds: int, images: int, json: str | None = None) -> None:
    """Prints both sides' images/s, and how often as fast ours is; runs them in turn after one run each to compile."""
    ours(), others()
    pairs = [(seconds(ours), seconds(others)) for _ in range(rounds)]
    speeds = [statistics.median(images / pair[side] for pair in pairs) for side in (0, 1)]
    what, _, against = name.partition(" and ")
    mine, theirs = zip(*pairs, strict=True)
    measurements.add(json, what, against=against, ours=mine, theirs=theirs, work=images)
    quotients = [other / mine for mine, other in pairs]
    print(
        f"{name:44s} {speeds[0]:8.0f} and {speeds[1]:8.0f} images/s: {statistics.median(quotients):.3f} times as fast "
        f"({min(quotients):.3f} to {max(quotients):.3f})"
    )


def against_torch(options) -> None:
    net, images = new_net(), random_images(options.steps)
    others = torch_loop(net, images, options.threads)
    if others is None:
        print("PyTorch is not installed: left out")
        measurements.add_absent(options.json, f"{MODEL}: fit", against="PyTorch", why="it is not installed")
        return
    compare(f"{MODEL}: fit and PyTorch", fit(net, images), others, options.rounds, len(images), options.json)


def against_a_plain_loop(options) -> None:
    net, images = new_net(), random_images(options.steps)
    loop = plain_loop(net, images)
    compare(f"{MODEL}: fit and a plain loop", fit(net, images), loop, options.rounds, len(images), options.json)


def cost_of_masks(options) -> None:
    net, images = new_net(), random_images(options.steps)
    sparse, masks = pruning.prune(net, method="weight", sparsity=SPARSITY)
    masked, plain = fit(sparse, images, masks=masks), fit(sparse, images)
    compare(f"{MODEL}: fit with masks and fit without", masked, plain, options.rounds, len(images), options.json)


def several_at_once(options) -> None:
    nets = [new_net(SMALL_MODEL, seed) for seed in range(MANY)]
    keys = jax.random.split(jax.random.key(1), MANY)
    default = "loop" if jax.default_backend() == "cpu" else "vmap"
    for model_axis in training.MODEL_AXES:
        # The strategy that is not the default may be slower by an order of magnitude: one step shows it.
        steps, rounds = (options.steps, options.rounds) if model_axis == default else (1, 1)
        images = random_images(steps)
        arguments = {"optimizer": SGD, "epochs": 1, "model_axis": model_axis, "keys": keys}

        def together(arguments=arguments, images=images):
            jax.block_until_ready([net.params for net in training.fit_many(nets, images, **arguments)])

        def one_by_one(images=images):
            for net, key in zip(nets, keys, strict=True):
                fit(net, images, key=key)()

        name = f"{MANY} x {SMALL_MODEL} by {model_axis} and one by one"
        compare(name, together, one_by_one, rounds, MANY * len(images), options.json)


def several_devices(options) -> None:
    """Simulated devices share the machine's cores, so this shows what splitting costs, not what it gains."""
    net, images = new_net(SMALL_MODEL), random_images(options.steps)
    alone = fit(net, images)
    for count in (1, 2, 4, 8):
        if count <= len(jax.devices()):
            split = fit(net, images, devices=jax.devices()[:count])
            compare(
                f"{SMALL_MODEL} on {count} devices and on 1", split, alone, options.rounds, len(images), options.json
            )


def compilation_and_memory(options) -> None:
    images = random_images(2)
    for name in (SMALL_MODEL, MODEL):
        net = new_net(name)
        # A new optimizer object, so that no earlier part has compiled it.
        run = fit(net, images, optimizer=training.sgd(schedule="constant", learning_rate=0.01))
        first, second = seconds(run), seconds(run)
        print(f"{name}: the first call takes {first - second:.1f} s longer, compilation included")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, all parts so far: {peak:.0f} MiB")
    memory = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in memory:
        print(f"peak memory of the device: {memory['peak_bytes_in_use'] / 2**20:.0f} MiB")


PARTS = {
    "torch": against_torch,
    "loop": against_a_plain_loop,
    "masks": cost_of_masks,
    "many": several_at_once,
    "devices": several_devices,
    "compile": compilation_and_memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help=f"training steps of {BATCH} images per round")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind} x{len(jax.devices())}, {os.cpu_count()} cores, batch {BATCH}")
    for name in options.only:
        PARTS[name](options)


if __name__ == "__main__":
    main()
