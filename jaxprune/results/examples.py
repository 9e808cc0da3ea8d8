"""The numbers of every example, in files, so that any metric, interval or paired test can be computed later.

A run folder may hold them in `examples/`, one folder per network and there one file per test set.
"""

import dataclasses
import io
import zipfile
from collections.abc import Iterable

import numpy as np
from etils import epath

from jaxprune import files
from jaxprune.files import npz

FOLDER = "examples"
EXAMPLE_DTYPES = ("float32", "float16")
FORMAT_VERSION = 1
_FLOATS = ("confidence", "negative_log_likelihood", "brier_score", "probs")
_TEXTS = ("classifier", "corruption", "dataset", "precision")
_INTEGERS = ("labels", "prediction")
_CURE = "delete it and evaluate again"


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


def check_examples_paths(folder, names: Iterable[str], test_sets: Iterable[tuple[str, int]]) -> None:
    """Raises an error if examples of classifiers on test sets cannot be written, or would replace what are none.

    Raises:
      ValueError: a name that cannot be that of a folder or file.
      FileExistsError: something else lies where examples would.
      OSError: nothing can be written there.
    """
    names, test_sets = list(names), list(test_sets)
    check_file_names([*names, *(corruption for corruption, _ in test_sets)])
    for name in names:
        # One listing of a folder, for asking an object store after each file takes minutes.
        of_one = files.check_folder(epath.Path(folder) / name, what="examples")
        present = {path.name for path in of_one.iterdir()} if of_one.exists() else set()
        for corruption, severity in test_sets:
            path = examples_path(folder, name, corruption, severity)
            if path.name in present:
                files.check_output(path, what="file of examples", is_ours=_are_examples)


def _are_examples(path: epath.Path) -> bool:
    """Returns whether a file has the members of one of examples; what is in them is not looked at."""
    needed = {f"{field.name}.npy" for field in dataclasses.fields(Examples)} - {"probs.npy"} | {"format_version.npy"}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return needed <= set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def save_examples(folder, examples: Examples, *, dtype: str) -> epath.Path:
    """Writes a compressed npz file, whole or not at all, and returns its path; floats are stored as `dtype`."""
    path = examples_path(folder, examples.classifier, examples.corruption, examples.severity)
    content = {name: value for name, value in vars(examples).items() if value is not None}
    # Beyond float16's range lies no loss that means anything but "certain and wrong".
    with np.errstate(over="ignore"):
        content |= {name: content[name].astype(dtype) for name in _FLOATS if name in content}
    buffer = io.BytesIO()  # a ZIP archive is written back and forth
    np.savez_compressed(buffer, allow_pickle=False, format_version=FORMAT_VERSION, dtype=dtype, **content)
    files.write(path, buffer.getvalue())
    return path


def load_examples(path) -> Examples:
    """Returns what `evaluate` kept in one file. No pickle is ever loaded.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file (its check sums are compared), or one of another format.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no examples at {path}; give a file that evaluate(..., keep_examples=...) wrote")
    content = npz.read(path, cure=_CURE)
    version = content.pop("format_version", None)
    fields = {field.name for field in dataclasses.fields(Examples)}
    if (
        not np.array_equal(version, FORMAT_VERSION)
        or not fields - {"probs"} <= content.keys() - {"dtype"} <= fields
        or "dtype" not in content
    ):
        raise ValueError(f"{path} holds {', '.join(content)}; this release reads examples of format {FORMAT_VERSION}")
    problem = _problem(content)
    if problem:
        raise ValueError(f"{path} is damaged ({problem}); {_CURE}")
    del content["dtype"]
    content |= {name: str(content[name]) for name in _TEXTS} | {"severity": int(content["severity"])}
    return Examples(**content)


def _problem(content: dict[str, np.ndarray]) -> str | None:
    """Returns what makes it impossible that `save_examples` wrote these arrays, if anything does."""
    for name in (*_TEXTS, "severity", "dtype"):
        if content[name].ndim or content[name].dtype.kind != ("i" if name == "severity" else "U"):
            return f"{name} is {content[name].dtype} {list(content[name].shape)}"
    if str(content["dtype"]) not in EXAMPLE_DTYPES:
        return f"its type is {content['dtype']}"
    size = content["labels"].shape[:1]
    for name in (*_INTEGERS, *_FLOATS):
        array = content.get(name)
        if array is None:
            continue
        dtype = np.dtype("int32" if name in _INTEGERS else str(content["dtype"]))
        if array.dtype != dtype or array.ndim != 1 + (name == "probs") or array.shape[:1] != size:
            return f"{name} is {array.dtype} {list(array.shape)}, not {dtype} of {list(size)} examples"
    return None
