"""The values that arguments may have, and the words for those that they may not.

The arguments of the metrics have the same names everywhere, so that one table serves all. A NaN is no mistake here: it
makes the result NaN, which is seen. Rows of weight 0 may hold anything.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-2  # of probabilities and of their sums: a softmax computed in bfloat16 leaves 1 by 0.004
ROUNDING = 1e-5  # of frequencies in float32, relative for counts that are made of them

# name -> least, largest, what is wrong beyond them, what to do
RANGES = {
    "weights": (0, np.inf, "rows have negative weights", "a mask is 0 or 1"),
    "confidence": (-TOLERANCE, 1 + TOLERANCE, "rows have confidences outside [0, 1]", "divide percentages by 100"),
    "correct": (-ROUNDING, 1 + ROUNDING, "rows have outcomes outside [0, 1]", "what came true is 1, the rest is 0"),
    "p_values": (0, 1, "p-values are outside [0, 1]", "a comparison that could not be made is NaN"),
    "error": (-ROUNDING, 1 + ROUNDING, "error rates are outside [0, 1]", "divide percentages by 100"),
    "baseline_error": (-ROUNDING, 1 + ROUNDING, "baseline errors are outside [0, 1]", "divide percentages by 100"),
    "bandwidth": (
        float(np.finfo(np.float32).tiny),
        float(np.finfo(np.float32).max),
        "bandwidths are not positive and finite",
        "give 0.05, for instance, or None for the metric's own",
    ),
}
CLASSES = ("labels", "predictions", "reference_predictions")
PER_EXAMPLE = (*CLASSES, "outputs", "logits", "weights", "confidence", "correct")
NAMES = {*RANGES, *PER_EXAMPLE, "num_correct", "num_examples"}


class Finding(NamedTuple):
    """Which values of an argument are wrong, and words that go on from "3 of 60"."""

    argument: str
    bad: Any
    words: str
    cure: str


def findings(arguments: Mapping[str, Any], num_classes: int | None) -> Iterator[Finding]:
    """Yields what is looked for in the arguments (NumPy or JAX arrays; `outputs` are probabilities), found or not."""
    counts = arguments["weights"] != 0 if "weights" in arguments else True
    for name, values in arguments.items():
        if name in RANGES:
            least, largest, words, cure = RANGES[name]
            bad = (values < least) | (values > largest)
            yield Finding(name, bad & counts if name in PER_EXAMPLE else bad, words, cure)
        elif name in CLASSES and num_classes is not None:
            values = values.astype(np.int32) if values.dtype.itemsize < 4 else values
            bad = counts & ((values < 0) | (values >= num_classes))
            words = f"rows have {name.replace('_', ' ')} outside 0 ... {num_classes - 1}"
            yield Finding(name, bad, words, "count classes from 0, and give rows to leave out the weight 0")
    if "outputs" in arguments:
        yield _not_probabilities(arguments["outputs"], counts)
    if "logits" in arguments:
        yield from _cannot_be_scaled(arguments["logits"], arguments["labels"], counts)
    if "num_examples" in arguments:
        correct, size = arguments["num_correct"], arguments["num_examples"]
        bad = (correct < 0) | (size < 0) | (correct > size * (1 + ROUNDING))
        words = "numbers of correct examples are negative or above the number of examples"
        yield Finding("num_correct", bad, words, "give counts, not an accuracy")


def undefined(outputs: np.ndarray, weights: np.ndarray, *, from_logits: bool) -> Iterator[Finding]:
    """Yields what is no mistake in a call, but gives NaN: `check_inputs` names it."""
    yield Finding("weights", np.isnan(weights), "rows have undefined weights", "a mask is 0 or 1")
    # A logit of minus infinity is a probability of 0, unless no other is left.
    infinite = np.isposinf(outputs) | np.isneginf(outputs).all(axis=1, keepdims=True) if from_logits else False
    bad = (np.isnan(outputs) | (infinite if from_logits else np.isinf(outputs))).any(axis=1)
    cure = "look for a diverged model or an overflow in low precision"
    yield Finding("outputs", bad & (weights != 0), "rows have NaN or infinite outputs", cure)


def describe(found: Finding, arguments: Mapping[str, Any]) -> str:
    """Returns how many values are wrong, the first of them, and what to do; all arrays are NumPy's."""
    bad = found.bad
    values = arguments[found.argument]
    if values.ndim == bad.ndim:
        values = np.broadcast_to(values, bad.shape)
    position = np.unravel_index(bad.argmax(), bad.shape)
    value = np.round(values[position].astype(np.float64), 4)
    where = f"row {position[0]}, " if found.argument in PER_EXAMPLE and bad.ndim == 1 else ""
    if values.ndim > bad.ndim:
        shown = str(value[:5].tolist())
    elif found.argument in CLASSES:
        shown = f"{found.argument.removesuffix('s').replace('_', ' ')} {int(value)}"
    else:
        shown = f"{value:g}"
    return f"{bad.sum()} of {bad.size} {found.words} (first: {where}{shown}); {found.cure}"


def _not_probabilities(outputs, counts) -> Finding:
    outputs = outputs.astype(np.float32) if outputs.dtype.itemsize < 4 else outputs
    words, cure = "rows are no probabilities", ""
    if isinstance(outputs, np.ndarray) and _all_probabilities(outputs):
        return Finding("outputs", np.zeros(len(outputs), bool), words, cure)
    # No largest value is needed: what is not negative and sums to 1 is at most 1.
    with np.errstate(invalid="ignore", over="ignore"):
        least, total = outputs.min(axis=1), outputs.sum(axis=1)
        bad = counts & ((least < -TOLERANCE) | (abs(total - 1) > TOLERANCE))
    if isinstance(outputs, np.ndarray) and bad.any():
        outside = (bad & ((least < -TOLERANCE) | (outputs.max(axis=1) > 1 + TOLERANCE))).any()
        words = "rows have values outside [0, 1]" if outside else "rows have probabilities that do not sum to 1"
        cure = "if these are logits pass from_logits=True, if percentages divide them by 100"
    return Finding("outputs", bad, words, cure)


def _all_probabilities(outputs: np.ndarray) -> bool:
    """Returns whether nothing is wrong, or undefined, in any row; much faster than a `sum` by row."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.einsum("ij->i", outputs)
    return bool(outputs.min(initial=0) >= -TOLERANCE and (abs(total - 1) <= TOLERANCE).all())


def _cannot_be_scaled(logits, labels, counts) -> Iterator[Finding]:
    """Yields the rows whose loss is infinite or undefined at every temperature."""
    bad = counts & (logits == np.inf).any(axis=1)
    yield Finding("logits", bad, "rows have logits of plus infinity", "look for an overflow in low precision")
    impossible = (logits == -np.inf).all(axis=1)
    yield Finding("logits", counts & impossible, "rows have no finite logit", "give them the weight 0")
    chosen = logits[np.arange(logits.shape[0]), labels.clip(0, logits.shape[1] - 1)]
    words = "rows have a label whose logit is minus infinity, an infinite loss at every temperature"
    cure = "give that class a finite logit, or such rows the weight 0"
    yield Finding("logits", counts & ~impossible & (chosen == -np.inf), words, cure)
