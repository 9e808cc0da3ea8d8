"""A run folder with per-example outputs whose true accuracy and calibration error are known.

Every network has the same confidence on an image, u in [0.6, 1], and is right with the probability u - gap: its true
calibration error is `abs(gap)` and its true accuracy 0.8 - gap. Networks share the luck of an image.
"""

import numpy as np

from jaxprune.results import examples, outputs
from tests.report import runs

CLASSES = 10
MEAN_CONFIDENCE = 0.8


class Images:
    """The test images: labels, and for each image the confidence and the luck that networks share."""

    def __init__(self, n, seed=0):
        rng = np.random.default_rng(seed)
        self.n, self.rng = n, rng
        self.labels = rng.integers(0, CLASSES, n).astype(np.int32)
        self.confidence = rng.uniform(0.6, 1, n).astype(np.float32)
        self.luck = rng.uniform(0, 1, n)

    def outputs(self, gap, *, shared=0.8):
        """Returns a network's outputs; a fraction `shared` of the images has the luck that all networks share."""
        own = self.rng.uniform(0, 1, self.n)
        luck = np.where(self.rng.uniform(0, 1, self.n) < shared, self.luck, own)
        correct = luck < self.confidence - gap
        prediction = np.where(correct, self.labels, (self.labels + self.rng.integers(1, CLASSES, self.n)) % CLASSES)
        p = np.where(correct, self.confidence, (1 - self.confidence) / (CLASSES - 1))
        return outputs.Outputs(
            self.labels, prediction.astype(np.int32), self.confidence, -np.log(p).astype(np.float32), (1 - p) ** 2
        )


def calibration_error(found):
    """Returns the calibration error with 10 equal-width bins, by a loop over bins."""
    total = 0.0
    for index in range(10):
        here = np.floor(found.confidence * np.float32(10)).clip(0, 9) == index
        if here.any():
            total += here.mean() * abs(found.correct[here].mean() - found.confidence[here].astype(float).mean())
    return total


def row(found, base):
    """Returns the row of `base`'s names with the metrics of the outputs."""
    accuracy, error = float(found.correct.mean()), calibration_error(found)
    half = 2 * np.sqrt(accuracy * (1 - accuracy) / len(found.labels)) + 1e-3
    return base | {
        "n": len(found.labels),
        "num_correct": int(found.correct.sum()),
        "accuracy": accuracy,
        "accuracy_low": max(accuracy - half, 0.0),
        "accuracy_high": min(accuracy + half, 1.0),
        "negative_log_likelihood": float(found.negative_log_likelihood.mean()),
        "brier_score": float(found.brier_score.mean()),
        "mean_confidence": float(found.confidence.mean()),
        "signed_calibration_gap": float(found.confidence.mean() - accuracy),
        **{f"ece_{kind}_{bins}": error for kind in ("equal_width", "equal_mass") for bins in (10, 15)},
    }


def write_run(folder, rows, gap_of, *, n=600, keep=True, config=None):
    """Writes rows and outputs into a folder: `gap_of(row)` is the gap of each, the images are the same for all."""
    images = Images(n)
    written = []
    for each in rows:
        found = images.outputs(gap_of(each))
        written.append(row(found, each))
        if keep:
            save(outputs.path_of(folder, each), found)
    return runs.write(folder, written, config)


def save(path, found):
    """Writes outputs as an evaluation keeps them."""
    corruption, _, severity = path.stem.rpartition("-")
    about = {"classifier": path.parent.name, "corruption": corruption, "severity": int(severity)}
    floats = ("confidence", "negative_log_likelihood", "brier_score")
    kept = {
        name: np.asarray(each, np.float32 if name in floats else np.int32) for name, each in found._asdict().items()
    }
    examples.save_examples(
        path.parent.parent, examples.Examples(**about, dataset="digits", precision="float32", **kept), dtype="float32"
    )
