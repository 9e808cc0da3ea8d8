"""Which numbers of every example `evaluate` keeps; `results.examples` has their files."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import files, metrics
from jaxprune.results import examples
from jaxprune.results.examples import EXAMPLE_DTYPES, check_examples_paths, examples_path, save_examples

__all__ = [
    "EXAMPLE_DTYPES",
    "Examples",
    "KeepExamples",
    "check_examples_paths",
    "examples_of",
    "examples_path",
    "load_examples",
    "save_examples",
]


@dataclasses.dataclass(frozen=True)
class KeepExamples:
    """Where and how `evaluate` keeps the numbers of every example.

    Attributes:
      folder: local or `gs://`; holds one folder per classifier, and there one file per test set.
      dtype: "float32", with which every metric of the row can be computed again, or "float16", half as large and with
        relative errors up to 0.05 %, which move some confidences into the next bin.
      probs: whether the probabilities of all classes are kept too, for temperatures, entropies and ensembles.
    """

    folder: Any
    dtype: str = "float32"
    probs: bool = False

    def __post_init__(self):
        if self.dtype not in EXAMPLE_DTYPES:
            raise ValueError(f"examples cannot be kept as {self.dtype!r}; known: {', '.join(EXAMPLE_DTYPES)}")
        files.named(self.folder, what="examples")


class Examples(examples.Examples):
    """The numbers of one classifier's examples on one test set, and what the metrics take of them."""

    @property
    def statistics(self) -> metrics.ExampleStatistics:
        """What `metrics.summarize_examples` takes, in float32."""
        floats = (self.confidence, self.negative_log_likelihood, self.brier_score)
        confidence, negative_log_likelihood, brier_score = (jnp.asarray(each, jnp.float32) for each in floats)
        correct = jnp.asarray((self.prediction == self.labels) & ~np.isnan(self.confidence))
        return metrics.ExampleStatistics(
            confidence, jnp.asarray(self.prediction), correct, negative_log_likelihood, brier_score
        )


def load_examples(path) -> Examples:
    """Returns what `evaluate` kept in one file. No pickle is ever loaded.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file (its check sums are compared), or one of another format.
    """
    return Examples(**vars(examples.load_examples(path)))


def examples_of(outputs, index: int, **about) -> Examples:
    """Returns the examples of one classifier of a stack's outputs on the host."""
    confidence, prediction, _, negative_log_likelihood, brier_score = jax.tree.map(
        lambda leaf: leaf[index], outputs.statistics
    )
    return Examples(
        **about,
        prediction=prediction.astype(np.int32),
        confidence=confidence,
        negative_log_likelihood=negative_log_likelihood,
        brier_score=brier_score,
        probs=None if outputs.probs is None else outputs.probs[index],
    )
