"""The numbers of every example, in files, so that any metric, interval or paired test can be computed later."""

import dataclasses
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxprune import metrics

EXAMPLE_DTYPES = ("float32", "float16")
FORMAT_VERSION = 1
_FLOATS = ("confidence", "negative_log_likelihood", "brier_score", "probs")
_TEXTS = ("classifier", "corruption", "dataset", "precision")


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


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The numbers of one classifier's examples on one test set, in the order of the data set.

    Attributes:
      classifier, corruption, severity, dataset: what was measured.
      precision: of the forward pass, as in the rows.
      labels, prediction: int32 `[n]`.
      confidence: `[n]`, the largest probability.
      negative_log_likelihood: `[n]`, the loss, in nats.
      brier_score: `[n]`, the squared loss over all classes.
      probs: `[n, classes]`, None where they were not kept.
    """

    classifier: str
    corruption: str
    severity: int
    dataset: str
    precision: str
    labels: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    negative_log_likelihood: np.ndarray
    brier_score: np.ndarray
    probs: np.ndarray | None = None

    @property
    def true_class_probability(self) -> np.ndarray:
        """The probability of the label, `exp(-negative_log_likelihood)`."""
        return np.exp(-self.negative_log_likelihood)

    @property
    def statistics(self) -> metrics.ExampleStatistics:
        """What `metrics.summarize_examples` takes, in float32."""
        floats = (jnp.asarray(getattr(self, name), jnp.float32) for name in _FLOATS[:3])
        confidence, negative_log_likelihood, brier_score = floats
        correct = jnp.asarray((self.prediction == self.labels) & ~np.isnan(self.confidence))
        return metrics.ExampleStatistics(
            confidence, jnp.asarray(self.prediction), correct, negative_log_likelihood, brier_score
        )


def examples_path(folder, classifier: str, corruption: str, severity: int) -> epath.Path:
    """Returns where the examples of one classifier on one test set lie."""
    return epath.Path(folder) / classifier / f"{corruption}-{severity}.npz"


def check_file_names(names) -> None:
    """Raises a ValueError for a name that cannot be that of a folder or file."""
    for name in names:
        if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
            raise ValueError(
                f"examples of {name!r} cannot be kept: the name becomes that of a folder or file; "
                f"rename it without slashes, and without a leading dot"
            )


def save_examples(folder, examples: Examples, *, dtype: str) -> epath.Path:
    """Writes a compressed npz file, whole or not at all, and returns its path; floats are stored as `dtype`."""
    path = examples_path(folder, examples.classifier, examples.corruption, examples.severity)
    content = {name: value for name, value in vars(examples).items() if value is not None}
    # Beyond float16's range lies no loss that means anything but "certain and wrong".
    with np.errstate(over="ignore"):
        content |= {name: content[name].astype(dtype) for name in _FLOATS if name in content}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, format_version=FORMAT_VERSION, dtype=dtype, **content)
    temporary.replace(path)
    return path


def load_examples(path) -> Examples:
    """Returns what `evaluate` kept in one file. No pickle is ever loaded.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, or one of another format.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no examples at {path}; give a file that evaluate(..., keep_examples=...) wrote")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and evaluate again") from error
    version = content.pop("format_version", None)
    fields = {field.name for field in dataclasses.fields(Examples)}
    if version != FORMAT_VERSION or not fields - {"probs"} <= content.keys() - {"dtype"} <= fields:
        raise ValueError(f"{path} holds {', '.join(content)}; this release reads examples of format {FORMAT_VERSION}")
    del content["dtype"]
    content |= {name: str(content[name]) for name in _TEXTS} | {"severity": int(content["severity"])}
    return Examples(**content)


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
