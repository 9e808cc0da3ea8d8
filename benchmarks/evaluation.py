"""Speed, scaling, compilations and memory of `evaluation.evaluate`, against PyTorch and a NumPy implementation.

    python benchmarks/evaluation.py                          all parts, small: a few minutes
    python benchmarks/evaluation.py --images 10000 --rounds 5 --oracle-images 32      for the record
    python benchmarks/evaluation.py --parts forward corrupted

Parts:
  forward      ResNet-20 on clean images against PyTorch, channels last, with the same weights
  corrupted    15 corruptions x 5 severities against PyTorch on what NumPy, SciPy and Pillow corrupted
  generation   8 sparse ResNet-20 over 6 x 5 test sets: sets generated and seconds, against one network and 8 calls
  scaling      seconds against the number of images, corruptions, networks and devices
  compilation  how many programs are compiled for 15 x 5 test sets and three architectures, and for how long
  memory       peak memory of a process after a few test sets, and after 75 more

The sides of a comparison run in alternation; medians, quotients and their spread are printed. The oracle corrupts
`--oracle-images` of the images, one by one on one core as the original scripts do, and PyTorch classifies as many;
its time for all images is that per image times their number, and said to be so. On a machine that does other work too,
`taskset -c 0 ... --threads 1 --cpu-time` compares processor seconds on one core, which other work changes little.
"""

import argparse
import collections
import os
import resource
import statistics
import subprocess
import sys
import time

import corruptions as corruption_benchmark
import corruptions_oracle as oracle
import forward
import jax
import measurements
import numpy as np

from jaxprune import corruptions, data, evaluation, models, pruning
from jaxprune.evaluation import _programs, _run

SEVERITIES = evaluation.SEVERITIES
SIX = ("gaussian_noise", "defocus_blur", "fog", "contrast", "pixelate", "jpeg_compression")
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# The whole of CIFAR-10-C, to which costs per image are extrapolated.
ALL_IMAGES = 10_000
COMPILATION = "/jax/core/compile/backend_compile_duration"


def test_images(count: int) -> data.Dataset:
    """Returns CIFAR-10's test images where the shared folder has them, and pictures of random blobs otherwise."""
    folder = forward.shared("data/tfds")
    if folder:
        return data.load("cifar10", split="test", data_dir=folder, limit=count)
    labels = np.random.default_rng(0).integers(0, 10, count).astype(np.int32)
    return data.Dataset(corruption_benchmark.pictures(count, 32), labels, tuple("0123456789"), name="pictures")


def evaluate(networks, images: data.Dataset, **options) -> list[dict]:
    """Returns the rows for a fixed key."""
    return evaluation.evaluate(networks, images, key=jax.random.key(0), **options)


# Replaced by `--cpu-time`.
clock = time.perf_counter


def seconds(function) -> float:
    """Returns how long one call takes."""
    start = clock()
    function()
    return clock() - start


def part_forward(options) -> None:
    images, net, logits = test_images(options.images), forward.classifier(), forward.torch_side(options.threads)
    sides = {"jaxprune evaluate, clean": lambda: evaluate(net, images, corruptions=())}
    if logits is None:
        _torch_is_absent(options, "evaluate, clean")
    else:
        sides["PyTorch"] = lambda: logits(images.images)
        (row,) = evaluate(net, images, corruptions=())
        correct = int((logits(images.images).argmax(1) == images.labels).sum())
        print(f"correct of {len(images)}: jaxprune {row['num_correct']}, PyTorch {correct}")
    forward.compare(sides, "PyTorch", options.rounds, len(images), "images", clock, options.json)


def part_corrupted(options) -> None:
    images, net, logits = test_images(options.images), forward.classifier(), forward.torch_side(options.threads)
    if logits is None:
        _torch_is_absent(options, "evaluate, corrupted")
        return
    names, few = corruptions.COMMON_CORRUPTIONS, images.take(options.oracle_images)
    pixels, sizes = corruptions.FrostTextures.procedural().atlas("cifar", (32, 32))
    textures = [slot[:height, :width] for slot, (height, width) in zip(pixels, sizes, strict=True)]
    spent = collections.Counter()

    def theirs():
        rng = np.random.RandomState(0)
        for name in names:
            for severity in SEVERITIES:
                start = clock()
                corrupted = [
                    oracle.apply(name, x, oracle.draw(rng, name, x, severity, "cifar", textures), severity, "cifar")
                    for x in few.images
                ]
                spent["corruptions"] += clock() - start
                # As many images at a time as PyTorch likes: a small piece would be slow.
                shown = np.resize(np.stack(corrupted).astype(np.uint8), (forward.TORCH_PIECE, 32, 32, 3))
                start = clock()
                logits(shown)
                spent["forward"] += (clock() - start) * len(few) / len(shown)
        return spent

    print(f"compiling {seconds(lambda: evaluate(net, images, clean=False)):.1f} s with the first run")
    quotients, sets, sides = [], len(names) * len(SEVERITIES), {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        spent.clear()
        theirs()
        per_image = {what: value / len(few) for what, value in spent.items()}
        ours = seconds(lambda: evaluate(net, images, clean=False)) / len(images)
        sides["ours"].append(ours * ALL_IMAGES)
        sides["theirs"].append(sum(per_image.values()) * ALL_IMAGES)
        quotients.append(sum(per_image.values()) / ours)
        print(
            f"  for {ALL_IMAGES} images x {sets} sets, from {len(images)} of ours and {len(few)} of theirs: jaxprune "
            f"{ours * ALL_IMAGES:.0f} s, corruptions in NumPy {per_image['corruptions'] * ALL_IMAGES:.0f} s "
            f"+ PyTorch {per_image['forward'] * ALL_IMAGES:.0f} s"
        )
    what = f"ResNet-20 on {sets} corrupted sets of {ALL_IMAGES:,} images, extrapolated"
    measurements.add(options.json, what, against="NumPy, SciPy, Pillow, then PyTorch", **sides)
    print(f"{statistics.median(quotients):.2f} x as fast ({min(quotients):.2f} to {max(quotients):.2f})")


def _torch_is_absent(options, what: str) -> None:
    print("PyTorch is not installed: left out")
    measurements.add_absent(options.json, what, against="PyTorch", why="it is not installed")


def part_generation(options) -> None:
    images, net = test_images(options.images), forward.classifier()
    sparse = {
        f"sparsity {sparsity}": pruning.prune(net, method="weight", sparsity=sparsity)[0] for sparsity in SPARSITIES
    }
    count, corrupt = collections.Counter(), _programs.corrupt

    def counted(*args, **place):
        count[place["name"], int(args[3])] += int(args[2]) == 0
        return corrupt(*args, **place)

    _run._programs.corrupt = counted
    selection = {"corruptions": SIX, "clean": False}
    sides = {
        "one network": lambda: evaluate(net, images, **selection),
        "8 networks in one call": lambda: evaluate(sparse, images, **selection),
        "8 calls of one network": lambda: [evaluate(each, images, **selection) for each in sparse.values()],
        "generating the sets alone": lambda: generate(images, SIX),
    }
    times = {name: [] for name in sides}
    for name, side in sides.items():
        count.clear()
        side()
        if count:
            print(f"{name}: {len(count)} test sets, generated {count.total()} times in all")
    for _ in range(options.rounds):
        for name, side in sides.items():
            times[name].append(seconds(side))
    _run._programs.corrupt = corrupt
    for name, values in times.items():
        print(f"{name:28} {statistics.median(values):7.2f} s  ({min(values):.2f} to {max(values):.2f})")
    one, eight, calls, sets = (statistics.median(times[name]) for name in sides)
    print(
        f"8 networks if nothing were shared: {8 * one:.2f} s; sets once and 8 forwards: {sets + 8 * (one - sets):.2f} s"
    )
    print(f"one call over 8 calls: {calls / eight:.2f} x as fast")


def generate(images: data.Dataset, names) -> None:
    """Generates the test sets as `evaluate` does, and shows them to nobody."""
    for name in names:
        for severity in SEVERITIES:
            key = evaluation.test_set_key(jax.random.key(0), name, severity)
            for start in range(0, len(images), evaluation.BATCH_SIZE):
                batch = images.images[start : start + evaluation.BATCH_SIZE]
                corruptions.corrupt(key, batch, name=name, severity=severity, first_index=start).block_until_ready()


def part_scaling(options) -> None:
    net, base = forward.classifier(), options.images
    two = {"corruptions": ("gaussian_noise", "contrast"), "severities": (1, 3, 5), "clean": False}
    networks = {f"net{index}": net for index in range(8)}

    def table(what, values, run, size):
        print(f"{what:12} {'seconds':>8} {'per unit':>9} {'of linear':>10}")
        first = None
        for value in values:
            run(value)
            took = statistics.median(seconds(lambda value=value: run(value)) for _ in range(options.rounds))
            unit = took / size(value)
            first = first or unit
            print(f"{value!s:12} {took:8.2f} {unit:9.5f} {unit / first:10.2f}", flush=True)

    table("images", [base // 8, base // 4, base // 2, base], lambda n: evaluate(net, test_images(n), **two), int)
    six = [SIX[:count] for count in (1, 2, 4, 6)]
    images = test_images(base)
    table(
        "corruptions",
        [len(names) for names in six],
        lambda count: evaluate(net, images, corruptions=SIX[:count], severities=(1, 3, 5), clean=False),
        int,
    )
    table("networks", [1, 2, 4, 8], lambda n: evaluate(dict(list(networks.items())[:n]), images, **two), int)
    print("devices: one program over simulated devices of this machine's cores, in a process each")
    for count in (1, 2, 4, 8):
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        print(f"{count:12} {_child(['--one', 'devices', '--images', base], environment)} s", flush=True)


def part_compilation(options) -> None:
    events = []

    def listen(event, duration, *, fun_name="", **details):
        del details
        if event == COMPILATION:
            events.append((fun_name, duration))

    jax.monitoring.register_event_duration_secs_listener(listen)
    images = test_images(64)
    networks = {
        name: models.create(name, num_classes=10, key=jax.random.key(0)) for name in ("resnet8", "resnet20", "resnet32")
    }
    events.clear()
    took = seconds(lambda: evaluate(networks, images))
    counts = collections.Counter(name.removeprefix("jit_").removeprefix("jit(").removesuffix(")") for name, _ in events)
    print(
        f"{len(networks)} architectures, 76 test sets: {counts['corrupt']} corruptions, {counts['classify']} forwards, "
        f"{counts['summarize']} summary, {len(events)} compilations with the one-line programs; they took "
        f"{sum(duration for _, duration in events):.1f} s of the first call's {took:.1f} s"
    )
    events.clear()
    print(f"second call: {seconds(lambda: evaluate(networks, images)):.1f} s, {len(events)} compilations")


def part_memory(options) -> None:
    first, all_sets = _child(["--one", "memory", "--images", options.images]).split()
    print(f"{options.images} images: peak {first} MB after a set of each of 3 corruptions, {all_sets} MB after 75 more")


def _one_devices(options) -> None:
    images, net = test_images(options.images), forward.classifier()
    two = {"corruptions": ("gaussian_noise", "contrast"), "severities": (1, 3, 5), "clean": False}
    evaluate(net, images, **two)
    print(f"{statistics.median(seconds(lambda: evaluate(net, images, **two)) for _ in range(3)):.2f}")


def _one_memory(options) -> None:
    """Prints the peak resident memory, in MB, after one test set of each of three corruptions and after 75 more."""
    images, net, peaks = test_images(options.images), forward.classifier(), []
    names = ("gaussian_noise", "glass_blur", "contrast")
    for severities, keys in (((1,), [0]), (SEVERITIES, [0, 1, 2, 3, 4])):
        for seed in keys:
            key = jax.random.key(seed)
            evaluation.evaluate(net, images, key=key, corruptions=names, severities=severities, clean=False)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(*peaks)


def _child(arguments, environment=None) -> str:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


PARTS = {
    "forward": part_forward,
    "corrupted": part_corrupted,
    "generation": part_generation,
    "scaling": part_scaling,
    "compilation": part_compilation,
    "memory": part_memory,
}


def main() -> None:
    """Reads the command line and runs the parts it asks for."""
    global clock
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--oracle-images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds instead of those of the clock")
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    parser.add_argument("--one", choices=("devices", "memory"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        {"devices": _one_devices, "memory": _one_memory}[options.one](options)
        return
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores, {options.images} images")
    for name in options.parts:
        print(f"\n{name}")
        PARTS[name](options)


if __name__ == "__main__":
    main()
