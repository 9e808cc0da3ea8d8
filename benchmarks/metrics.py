"""How fast the metrics are beside those of other libraries: `python benchmarks/metrics.py [--small]`.

Each pair runs on the same inputs, in turns, in one process; the medians divided are what counts, since times depend
on what else the machine does. Compilation and the copy of the inputs into each library's arrays are not counted, the
synchronisation of the device is. A library that is not installed is left out with the reason
(`pip install torchmetrics netcal relplot scikit-learn`).
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import measurements
import numpy as np

from jaxprune import metrics

NUM_BINS = 15
REPEATS = 11


def make_problem(size: int, classes: int) -> dict[str, np.ndarray]:
    """Returns logits, probabilities, labels, confidences and correctness of an overconfident classifier."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (size, classes)).astype(np.float32)
    labels = rng.integers(0, classes, size).astype(np.int32)
    logits[np.arange(size), labels] += rng.normal(3, 2, size).astype(np.float32)
    probs = np.array(jax.nn.softmax(2 * logits, axis=-1))
    confidence = probs.max(axis=1)
    return {
        "logits": 2 * logits,
        "probs": probs,
        "labels": labels,
        "confidence": confidence,
        "correct": probs.argmax(axis=1) == labels,
    }


def ours(metric: Callable, *names: str, **options) -> Callable:
    """Returns a maker of calls of one of our metrics on device arrays."""

    def make(problem):
        arguments = [jnp.asarray(problem[name]) for name in names]
        return lambda: jax.block_until_ready(metric(*arguments, **options))

    return make


@jax.jit
def smooth_error(confidence: jax.Array, correct: jax.Array) -> jax.Array:
    """Returns the smooth calibration error of confidences."""
    return metrics.SmoothCalibrationGrid.empty().update_examples(confidence, correct).compute()


def torchmetrics_error(source: str) -> Callable:
    """Returns a maker of calls of torchmetrics' functional calibration error."""

    def make(problem):
        torch = importlib.import_module("torch")
        functional = importlib.import_module("torchmetrics.functional.classification")
        outputs, labels = torch.from_numpy(problem[source]), torch.from_numpy(problem["labels"]).long()
        return lambda: functional.multiclass_calibration_error(
            outputs, labels, num_classes=outputs.shape[1], n_bins=NUM_BINS, norm="l1"
        )

    return make


def netcal_error(problem: dict) -> Callable:
    """Returns a call of netcal's ECE."""
    ece = importlib.import_module("netcal.metrics").ECE(NUM_BINS)
    return lambda: ece.measure(problem["probs"], problem["labels"])


def numpy_bincount(problem: dict) -> Callable:
    """Returns a call of the usual NumPy implementation, with confidences given."""
    confidence, correct = problem["confidence"], problem["correct"]

    def call():
        index = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        gaps = np.bincount(index, correct, NUM_BINS) - np.bincount(index, confidence, NUM_BINS)
        return np.abs(gaps).sum() / confidence.size

    return call


def relplot_smooth(problem: dict) -> Callable:
    """Returns a call of relplot's smECE, with confidences given."""
    relplot = importlib.import_module("relplot")
    return lambda: relplot.smECE(problem["confidence"], problem["correct"].astype(np.float32))


def sklearn_curve(problem: dict) -> Callable:
    """Returns a call of scikit-learn's calibration curve, with confidences given."""
    calibration = importlib.import_module("sklearn.calibration")
    return lambda: calibration.calibration_curve(problem["correct"], problem["confidence"], n_bins=NUM_BINS)


def sklearn_log_loss(problem: dict) -> Callable:
    """Returns a call of scikit-learn's log loss."""
    module = importlib.import_module("sklearn.metrics")
    classes = np.arange(problem["probs"].shape[1])
    return lambda: module.log_loss(problem["labels"], problem["probs"], labels=classes)


ECE = partial(ours, metrics.expected_calibration_error, num_bins=NUM_BINS)
BINNED = ours(metrics.binned_calibration_error, "confidence", "correct", num_bins=NUM_BINS)
COMPARISONS = {
    "ECE from logits": (ECE("logits", "labels", from_logits=True), {"torchmetrics": torchmetrics_error("logits")}),
    "ECE from probabilities": (
        ECE("probs", "labels"),
        {"torchmetrics": torchmetrics_error("probs"), "netcal": netcal_error},
    ),
    "ECE from confidences": (BINNED, {"NumPy bincount": numpy_bincount, "scikit-learn curve": sklearn_curve}),
    "smooth ECE from confidences": (ours(smooth_error, "confidence", "correct"), {"relplot": relplot_smooth}),
    "NLL from probabilities": (
        ours(metrics.negative_log_likelihood, "probs", "labels"),
        {"scikit-learn": sklearn_log_loss},
    ),
}


def milliseconds(call: Callable) -> float:
    """Returns the wall time of one call."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def compare(title: str, make_ours: Callable, rivals: dict[str, Callable], problem: dict, options) -> None:
    """Prints the medians and the speed-up, ours and each rival in alternation."""
    mine = make_ours(problem)
    mine()
    size, classes = problem["logits"].shape
    what = f"{title}, {size:,} x {classes}"
    for name, make in rivals.items():
        try:
            rival = make(problem)
            rival()
        except (ImportError, MemoryError) as error:
            print(f"    {name:22} skipped: {error}")
            measurements.add_absent(options.json, what, against=name, why=str(error))
            continue
        times = [(milliseconds(mine), milliseconds(rival)) for _ in range(options.repeats)]
        sides = dict(
            zip(("ours", "theirs"), (np.divide(column, 1000) for column in zip(*times, strict=True)), strict=True)
        )
        measurements.add(options.json, what, against=name, **sides)
        fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"    {name:22} {slow:8.2f} ms   ours {fast:8.2f} ms   {slow / fast:5.1f}x")


def main() -> None:
    """Runs all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the examples, to try the script")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", help="append the comparisons to this file, as JSON lines")
    options = parser.parse_args()
    scale = 10 if options.small else 1
    for size, classes in ((1_000_000 // scale, 10), (50_000 // scale, 1000)):
        problem = make_problem(size, classes)
        print(f"{size:,} examples x {classes} classes, {NUM_BINS} bins, {jax.devices()[0].device_kind}")
        for title, (make_ours, rivals) in COMPARISONS.items():
            print(f"  {title}")
            compare(title, make_ours, rivals, problem, options)


if __name__ == "__main__":
    main()
