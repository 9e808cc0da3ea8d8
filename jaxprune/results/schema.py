"""The schema of a row of `rows.jsonl`: one table that documents every field, and that every row is checked against.

A row is one network measured on one test set. `markdown()` writes the table as a page; `check()` refuses a row that
breaks it, on reading and (with `strict=True`, which refuses unknown fields too) before writing.
"""

import difflib
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxprune import names
from jaxprune.results.versions import SCHEMA_VERSION

INFINITY = float("inf")
TEXT, COUNT, NUMBER, FLAG = "text", "whole number", "number", "true or false"
# Ends of float32 intervals may miss the exact accuracy by this much.
ROUNDING = 1e-6


class Field(NamedTuple):
    """One field: its kind, its range or allowed values, its unit and its meaning."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    low: float = 0.0
    high: float = INFINITY
    allowed: tuple[str, ...] = ()
    nullable: bool = False
    required: bool = True
    is_metric: bool = False


def _text(name: str, meaning: str, **options) -> Field:
    return Field(name, TEXT, meaning, **options)


def _count(name: str, meaning: str, unit: str = "", **options) -> Field:
    return Field(name, COUNT, meaning, unit, **options)


def _size(name: str, meaning: str, unit: str) -> Field:
    return Field(name, COUNT, f"{meaning[:-1]}; null where it is not known.", unit, nullable=True)


def _fraction(name: str, meaning: str, **options) -> Field:
    return Field(name, NUMBER, meaning, "fraction", **{"high": 1.0, **options})


def _metric(name: str, meaning: str, unit: str = "fraction", high: float = 1.0, **options) -> Field:
    return Field(name, NUMBER, meaning, unit, high=high, nullable=True, is_metric=True, **options)


def _calibration_error(binning: str, num_bins: int) -> Field:
    name = f"ece_{binning}_{num_bins}"
    return _metric(
        name, f"Expected calibration error of the top label, l1, {num_bins} {binning.replace('_', '-')} bins."
    )


FIELDS = (
    _count("schema_version", f"Version of this table; {SCHEMA_VERSION} here.", low=1),
    _text("study", "Name of the study."),
    _text("config_hash", "Changes with whatever of the configuration may change a row."),
    _text("dataset", "Data set whose test images are classified, clean or corrupted."),
    _text("arm", "An architecture with its training, unique in the study; dense and pruned networks share it."),
    _text("model", "Architecture."),
    _count("seed", "Seed of the initialisation, the training and the masks."),
    _text("method", "`dense`, or the pruning method; `random` and `channel_random` are the controls."),
    _text("granularity", "What the method removes.", allowed=names.GRANULARITIES),
    _fraction(
        "sparsity", "Requested fraction of the prunable weights, or of the channels of the chosen layers, removed."
    ),
    _fraction("sparsity_achieved", "The fraction that is removed; null where it is not known.", nullable=True),
    _size("num_parameters", "Stored parameters of the whole network, masked ones included.", "parameters"),
    _size("num_nonzero", "Parameters that no mask removes.", "parameters"),
    _size("size_bytes", "Size of the stored parameters.", "bytes"),
    _size("multiply_accumulates", "Of the convolutions and matrix products, masked weights included.", "per image"),
    _size("multiply_accumulates_nonzero", "The same without those of masked weights.", "per image"),
    _text(
        "stage",
        "`dense` as trained; `pruned` before any fine-tuning; `recalibrated` the same with BatchNorm measured again; "
        "`fine_tuned`; `scratch` the small network trained from scratch; `temperature` fine-tuned, with a temperature "
        "fitted on validation data. Of `set`, `rigl` and `ste`, whose masks move in training, `pruned` is the network "
        "that was trained so from the beginning, and `fine_tuned` the same trained on with its last masks. Steps are "
        "joined by `+`, as in `fine_tuned+temperature`.",
    ),
    _text("corruption", "Name of the corruption, or `clean`."),
    _count(
        "severity", "1 (mild) to 5 (strong), your own test sets may have more; 0 if and only if the images are clean."
    ),
    _count("n", "Test images.", "images", low=1),
    _metric("accuracy", "Fraction of images whose most probable class is the label."),
    _metric("accuracy_low", "Lower end of Wilson's 95 % interval of the accuracy, over images."),
    _metric("accuracy_high", "Upper end of it."),
    _metric("negative_log_likelihood", "Mean of -log p(label).", "nats", INFINITY),
    _metric("brier_score", "Mean over images of the squared error of the probabilities, summed over classes.", "", 2.0),
    _metric("mean_confidence", "Mean of the largest probability."),
    _metric("signed_calibration_gap", "Mean confidence minus accuracy; above 0 is overconfident.", low=-1.0),
    *(_calibration_error(binning, bins) for binning in ("equal_width", "equal_mass") for bins in (10, 15)),
    _count(
        "num_correct",
        "Images classified correctly; `accuracy` is this over `n`.",
        "images",
        nullable=True,
        required=False,
    ),
    _text("precision", "Type of the forward pass, such as float32; the metrics are float32 always.", required=False),
    Field(
        "finite", FLAG, "False where the network gave NaN or infinite outputs; its metrics are null.", required=False
    ),
    _count("pretrain_epochs", "Epochs of the dense network's training, or from scratch.", "epochs", required=False),
    _count("finetune_epochs", "Epochs of training after the pruning; 0 before it.", "epochs", required=False),
    _count("train_images", "Training images of an epoch.", "images", required=False),
    _text(
        "classifier",
        "What an evaluation calls the network, also in `examples/`; rows of studies have none.",
        required=False,
    ),
    _text("versions", "Versions of jaxprune and of what computed for it.", required=False),
    _text("device", "Platform, number and kind of the devices, and of CPUs the number of cores.", required=False),
    Field(
        "seconds",
        NUMBER,
        "Time of the test set's evaluation, its images' corruption included, over the networks that shared it.",
        "seconds",
        required=False,
    ),
    _metric("temperature", "What the logits were divided by, of stage `temperature`.", "", INFINITY, required=False),
)
BY_NAME = {field.name: field for field in FIELDS}
REQUIRED = tuple(field.name for field in FIELDS if field.required)
METRICS = tuple(field.name for field in FIELDS if field.is_metric and field.required)
# What a row may leave unknown of its network.
SIZES = tuple(field.name for field in FIELDS if field.nullable and not field.is_metric and field.required)

_HEAD = """# Rows

`rows.jsonl` of a run folder holds one JSON object per line: one network measured on one test set.
The schema has version {version}; rows of every earlier version are read, and what they do not say is null.
The rows that agree in {identity} are one measurement, which a file holds once.
Fractions lie in [0, 1] and are not percentages. A metric is null where a network has diverged.
This page is generated from `jaxprune/results/schema.py`.

| Field | Type | Unit | Range | Meaning |
|---|---|---|---|---|
"""


CURE = "delete that line and run the study again"


def check(row: Mapping[str, Any], where: str = "the row", *, strict: bool = False, cure: str = CURE) -> None:
    """Raises `ValueError`, beginning with `where`, unless the row has every field that it needs and each is possible.

    With `strict`, a field that the table does not know is refused too: what is written must be documented. `cure` says
    what to do about a value that is impossible.
    """
    missing = [name for name in REQUIRED if name not in row]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; run the study again in a new folder")
    if strict:
        _check_known(row, where)
    fields = (field for field in FIELDS if field.name in row)
    problem = next(filter(None, (_problem(field, row[field.name]) for field in fields)), None) or _contradiction(row)
    if problem:
        raise ValueError(f"{where}: {problem}; {cure}")


def markdown() -> str:
    """Returns the table of the fields as a page in Markdown."""
    lines = [
        f"| `{field.name}` | {_kind(field)} | {field.unit} | {_range(field)} | {field.meaning} |" for field in FIELDS
    ]
    identity = ", ".join(f"`{name}`" for name in names.IDENTITY)
    return _HEAD.format(version=SCHEMA_VERSION, identity=identity) + "\n".join(lines) + "\n"


def _check_known(row: Mapping[str, Any], where: str) -> None:
    for name in row:
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{where} has an unknown field {name!r}{hint} (a new field is added to FIELDS first)")


def _problem(field: Field, value: Any) -> str | None:
    name = field.name
    if field.kind == TEXT:
        if not isinstance(value, str) or not value:
            return f"{name} is {value!r}; it must be a name"
        if field.allowed and value not in field.allowed:
            return f"{name} is {value!r}; it must be one of {', '.join(field.allowed)}"
        return _problem_of_stage(value) if name == "stage" else None
    if field.kind == FLAG:
        return None if isinstance(value, bool) else f"{name} is {value!r}; it must be true or false"
    if field.nullable and (value is None or value != value):
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"{name} is {value!r}; it must be a number"
    if field.kind == COUNT and not (isinstance(value, int) and value >= field.low):
        return f"{name} is {value!r}; it must be a whole number of {field.low:g} or more"
    if not field.low <= value <= field.high:
        return f"{name} is {value!r}; it must lie in [{field.low:g}, {field.high:g}]"
    return None


def _problem_of_stage(stage: str) -> str | None:
    try:
        names.check_stage(stage)
    except ValueError as error:
        return str(error)
    return None


def _contradiction(row: Mapping[str, Any]) -> str | None:
    """Returns what two fields of a row, each possible by itself, say against each other."""
    corruption, severity = row["corruption"], row["severity"]
    if (corruption == names.CLEAN) != (severity == 0):
        return f"corruption {corruption!r} with severity {severity}; severity 0 and 'clean' go together"
    sizes = row["num_nonzero"], row["num_parameters"]
    if None not in sizes and sizes[0] > sizes[1]:
        return f"num_nonzero is {row['num_nonzero']}, more than num_parameters, {row['num_parameters']}"
    low, accuracy, high = row["accuracy_low"], row["accuracy"], row["accuracy_high"]
    known = all(isinstance(value, numbers.Real) for value in (low, accuracy, high))
    if known and (low > accuracy + ROUNDING or accuracy > high + ROUNDING):
        return f"accuracy is {accuracy}, outside its own interval [{low}, {high}]"
    if isinstance(row.get("num_correct"), int) and row["num_correct"] > row["n"]:
        return f"num_correct is {row['num_correct']}, more than n, {row['n']}"
    return None


def _kind(field: Field) -> str:
    return f"{field.kind}{', or null' if field.nullable else ''}{'' if field.required else ', may be absent'}"


def _range(field: Field) -> str:
    if field.kind == TEXT:
        return ", ".join(f"`{value}`" for value in field.allowed)
    if field.kind == FLAG:
        return ""
    return f"{field.low:g} to {field.high:g}" if field.high < INFINITY else f"{field.low:g} or more"
