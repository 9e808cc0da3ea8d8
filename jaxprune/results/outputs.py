"""Per-example outputs that a run kept: what the paired comparisons, the reliability diagrams and the exemplars need.

A run folder may hold `examples/<network>/<corruption>-<severity>.npz`, the files of
`evaluation.evaluate(..., keep_examples=...)`, where `<network>` is `network_name` of the row: for example
`examples/seed0-resnet8-weight-0.5-fine_tuned/fog-3.npz`, and `clean-0.npz` for the clean images. Any of them may be
missing; what needs it is then left out and said to be.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxprune.results import examples

FOLDER = examples.FOLDER
NUM_BINS = 10  # of the calibration error, of equal width


class Outputs(NamedTuple):
    """What one network said of the images of one test set, each array `[n]`."""

    labels: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    negative_log_likelihood: np.ndarray
    brier_score: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction is the label."""
        return self.prediction == self.labels

    @property
    def gaps(self) -> np.ndarray:
        """Correctness minus confidence of each image, float64; its sums by bin make the calibration error."""
        return self.correct - self.confidence.astype(np.float64)


def network_name(row: Mapping[str, Any]) -> str:
    """Returns the name of the folder of a network's examples: that which an evaluation gave it, or a study.

    >>> network_name({"seed": 0, "arm": "resnet8", "method": "weight", "sparsity": 0.5, "stage": "fine_tuned"})
    'seed0-resnet8-weight-0.5-fine_tuned'
    """
    named = row.get("classifier")
    if isinstance(named, str):
        return named
    return f"seed{row['seed']}-{row['arm']}-{row['method']}-{row['sparsity']:g}-{row['stage']}"


def path_of(run_dir: epath.PathLike, row: Mapping[str, Any]) -> epath.Path:
    """Returns where the examples of a row would lie."""
    return examples.examples_path(epath.Path(run_dir) / FOLDER, network_name(row), row["corruption"], row["severity"])


def read(path: epath.PathLike) -> Outputs:
    """Returns the outputs in one file.

    Raises `FileNotFoundError`, or `ValueError` if it is damaged, of another format, or holds no image.
    """
    kept = examples.load_examples(path)
    if not len(kept.labels):
        raise ValueError(f"{path} holds no images; delete it and evaluate again")
    return Outputs(*(getattr(kept, name) for name in Outputs._fields))


def read_row(run_dir: epath.PathLike, row: Mapping[str, Any]) -> Outputs | None:
    """Returns the outputs that a row was measured from, None where they were not kept or the network has diverged.

    Raises `ValueError` if the file does not belong to the row: another number of images, or of correct ones.
    """
    path = path_of(run_dir, row)
    if not path.exists():
        return None
    outputs = read(path)
    if row["accuracy"] is None or not np.isfinite(row["accuracy"]) or not np.isfinite(outputs.confidence).all():
        return None
    found, stated = int(outputs.correct.sum()), row["accuracy"] * row["n"]
    if len(outputs.labels) != row["n"] or not abs(found - stated) < 0.5:
        raise ValueError(
            f"{path} has {found} correct of {len(outputs.labels)} images, its row in rows.jsonl {stated:g} of "
            f"{row['n']}; they are of different runs: delete the examples, or run the study again in a new folder"
        )
    return outputs
