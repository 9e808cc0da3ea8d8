"""Checks of the values of inputs, when asked for: everything an eager call refuses, and what it would turn into NaN."""

import numpy as np
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import as_integers, as_outputs, as_weights
from jaxprune.metrics._values import describe, findings, undefined


def check_inputs(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> None:
    """Raises `ValueError` with every problem of the values and its first row; rows of weight 0 may hold anything.

    It looks for NaN and infinities (a logit of minus infinity is a probability of 0, and allowed), labels outside of
    the classes, negative or undefined weights, and, unless `from_logits`, probabilities outside [0, 1] and rows that do
    not sum to 1 within 0.01, the mark of logits or percentages. It copies the arrays to the host: call it once on a new
    source of outputs, before compiled code that cannot look at values.

    >>> check_inputs(np.array([[0.5, 0.5]], np.float32), np.array([1]))
    >>> check_inputs(np.array([[2.0, -1.0]], np.float32), np.array([0]))
    Traceback (most recent call last):
    ...
    ValueError: 1 of 1 rows have values outside [0, 1] (first: row 0, [2.0, -1.0]); if these are logits pass
    from_logits=True, if percentages divide them by 100
    """
    outputs = np.asarray(as_outputs(outputs), np.float64)
    as_integers("labels", labels, len(outputs))
    labels = np.asarray(labels)  # and not as int32, in which an index beyond it would wrap
    weights = np.asarray(np.ones(len(outputs)) if weights is None else as_weights(weights, len(outputs)), np.float64)
    arguments = {"outputs": outputs, "labels": labels, "weights": weights}
    looked_at = {name: values for name, values in arguments.items() if name != "outputs" or not from_logits}
    found = [*undefined(outputs, weights, from_logits=from_logits), *findings(looked_at, outputs.shape[1])]
    messages = [describe(finding, arguments) for finding in found if finding.bad.any()]
    if messages:
        raise ValueError("; ".join(messages))
