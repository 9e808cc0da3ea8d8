"""Checks of the values of inputs, outside of jit and only when asked for."""

import numpy as np
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import as_integers, as_outputs, as_weights

SUM_TOLERANCE = 1e-3  # float16 probabilities of 1,000 classes round to sums this far from 1


def check_inputs(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> None:
    """Raises `ValueError` with every problem of the values and its first row; rows of weight 0 may hold anything.

    It looks for NaN and infinities, labels outside of the classes, negative or undefined weights, and, unless
    `from_logits`, probabilities outside [0, 1] and rows that do not sum to 1 within 0.001, the mark of logits passed as
    probabilities. It copies the arrays to the host: call it once on a new source of outputs, not in a loop.

    >>> check_inputs(np.array([[0.5, 0.5]], np.float32), np.array([1]))
    >>> check_inputs(np.array([[2.0, -1.0]], np.float32), np.array([0]))
    Traceback (most recent call last):
    ...
    ValueError: 1 of 1 rows have values outside [0, 1] (first: row 0, [2.0, -1.0]); if these are logits pass
    from_logits=True
    """
    outputs = np.asarray(as_outputs(outputs), np.float64)
    labels = np.asarray(as_integers("labels", labels, len(outputs)))
    weights = np.asarray(np.ones(len(outputs)) if weights is None else as_weights(weights, len(outputs)), np.float64)
    counts = weights != 0
    defined = np.isfinite(outputs).all(axis=1)
    classes = outputs.shape[1]
    problems = [
        (np.isnan(weights) | (weights < 0), "negative or undefined weights", "a mask is 0 or 1"),
        (counts & ~defined, "NaN or infinite outputs", "look for a diverged model or an overflow in low precision"),
        (counts & ((labels < 0) | (labels >= classes)), f"labels outside 0 ... {classes - 1}", "count classes from 0"),
    ]
    if not from_logits:
        outside = ((outputs < 0) | (outputs > 1)).any(axis=1)
        unnormalised = np.abs(outputs.sum(axis=1) - 1) > SUM_TOLERANCE
        cure = "if these are logits pass from_logits=True"
        problems += [
            (counts & defined & outside, "values outside [0, 1]", cure),
            (counts & defined & ~outside & unnormalised, "probabilities that do not sum to 1", cure),
        ]
    messages = [_describe(*problem, outputs, labels) for problem in problems if problem[0].any()]
    if messages:
        raise ValueError("; ".join(messages))


def _describe(rows: np.ndarray, problem: str, cure: str, outputs: np.ndarray, labels: np.ndarray) -> str:
    first = int(rows.argmax())
    value = f"label {labels[first]}" if problem.startswith("labels") else np.round(outputs[first, :5], 4).tolist()
    return f"{rows.sum()} of {len(rows)} rows have {problem} (first: row {first}, {value}); {cure}"
