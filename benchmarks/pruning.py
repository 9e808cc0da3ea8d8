"""Times pruning: one global threshold over a large tree, many sparsities at once, and the optimiser that holds masks.

    python benchmarks/pruning.py                        # 25 million weights, 95 sparsities: 8 GB, about ten minutes
    python benchmarks/pruning.py --weights 2_500_000    # about two

Every comparison alternates its two sides in one process, so that other load on the machine meets both.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import measurements
import numpy as np
import optax

from jaxprune import models, pruning

SPARSITY = 0.7
BATCH = 64  # the study's
STEPS_PER_ROUND = 20
LAYERS = 50  # kernels that share the weights of the large tree, with sizes that differ by up to a hundred


def make_params(weights: int) -> dict:
    """Returns a tree of 3x3 convolution kernels with about this many weights."""
    shares = np.geomspace(1, 100, LAYERS)
    channels = np.sqrt(weights * shares / shares.sum() / 9).astype(int)
    keys = jax.random.split(jax.random.key(0), LAYERS)
    return {
        f"conv{index}": {"kernel": jax.random.normal(key, (3, 3, width, width))}
        for index, (key, width) in enumerate(zip(keys, channels, strict=True))
    }


def topk_by_argsort(scores, sparsity):
    """Returns the same mask with the threshold looked up in a sorted order, as jaxpruner finds it."""
    count = jnp.maximum(1, jnp.round(scores.size * (1 - sparsity)).astype(int))
    last = jnp.argsort(-scores)[count - 1]
    threshold = scores[last]
    return ((scores > threshold) | ((scores == threshold) & (jnp.arange(scores.size) <= last))).astype(jnp.uint8)


def seconds(function, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def alternate(first, second, rounds: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of both sides, run in turn after one run each to compile."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def show(name: str, ours: list[float], theirs: list[float], json: str | None) -> None:
    what, _, against = name.partition("; ")
    measurements.add(json, what, against=against, ours=ours, theirs=theirs)
    quotients = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(
        f"{name:58s} {statistics.median(ours):9.4f} s  {statistics.median(theirs):9.4f} s  "
        f"first / second {statistics.median(quotients):7.4f}  [{min(quotients):.4f}, {max(quotients):.4f}]",
        flush=True,
    )


def global_threshold(options) -> None:
    params = make_params(options.weights)
    exact = pruning.GlobalMagnitudePruning(sparsity=SPARSITY, use_normalization=False)
    sorting = pruning.GlobalMagnitudePruning(sparsity=SPARSITY, use_normalization=False, topk_fn=topk_by_argsort)
    masks = [jax.block_until_ready(pruner.instant_sparsify(params)[1]) for pruner in (exact, sorting)]
    jax.tree.map(np.testing.assert_array_equal, *masks)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    sides = (lambda: exact.instant_sparsify(params)), (lambda: sorting.instant_sparsify(params))
    show(f"global threshold, {size:,} weights; argsort", *alternate(*sides, options.rounds), options.json)


def many_sparsities(options) -> None:
    params = make_params(options.weights)
    sparsities = jnp.linspace(0.01, 0.95, options.sparsities)

    @jax.jit
    def prune(params, sparsity):
        pruner = pruning.GlobalMagnitudePruning(sparsity=sparsity, use_normalization=False)
        return pruner.instant_sparsify(params)[1]

    batch = jax.jit(jax.vmap(prune, in_axes=(None, 0)))

    def loop():
        for sparsity in sparsities:
            masks = prune(params, sparsity)
        return masks

    times = alternate(lambda: batch(params, sparsities), loop, 1)
    show(f"{options.sparsities} sparsities at once, masks only; a loop", *times, options.json)


def optimiser_overhead(options) -> None:
    rounds = STEPS_PER_ROUND * options.rounds
    net = models.create("resnet20", num_classes=10, key=jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (BATCH, 32, 32, 3))
    labels = jnp.arange(BATCH) % 10
    sparse, masks = pruning.prune(net, method="weight", sparsity=SPARSITY)
    optimiser = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    gradual = pruning.GlobalMagnitudePruning(
        sparsity=SPARSITY,
        filter_fn=pruning.conv_kernels,
        scheduler=pruning.PolynomialSchedule(update_freq=100, update_start_step=100, update_end_step=10_000),
    )

    def stepper(tx):
        def loss(params):
            logits, _ = sparse.apply(params, sparse.batch_stats, images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        @jax.jit
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        carry = [sparse.params, tx.init(sparse.params)]

        def run():
            carry[:] = step(*carry)
            return carry

        return run

    plain = stepper(optimiser)
    show(
        "ResNet-20 step, masked_optimizer; plain",
        *alternate(stepper(pruning.masked_optimizer(optimiser, masks)), plain, rounds),
        options.json,
    )
    show(
        "ResNet-20 step, pruned_optimizer on a schedule; plain",
        *alternate(stepper(pruning.pruned_optimizer(gradual, optimiser)), plain, rounds),
        options.json,
    )


PARTS = {"steps": optimiser_overhead, "threshold": global_threshold, "sparsities": many_sparsities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=25_000_000, help="weights of the large tree")
    parser.add_argument("--sparsities", type=int, default=95, help="sparsities at once")
    parser.add_argument("--rounds", type=int, default=3, help=f"pairs; steps get {STEPS_PER_ROUND} times more")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    options = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}; medians, and quotients of pairs with their range")
    for name in options.only:
        PARTS[name](options)


if __name__ == "__main__":
    main()
