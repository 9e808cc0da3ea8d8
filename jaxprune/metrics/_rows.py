"""What one row of outputs says: its confidence, its prediction, its losses."""

from math import isqrt

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from jaxprune.metrics._arguments import Labels, Outcomes, Outputs, PerExample, as_integers, as_outputs, as_weights

SPLIT_ARGMAX_ABOVE = 32  # classes; below it one argmax is as fast


def top_label_arguments(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, from_logits: bool
) -> tuple[PerExample, Outcomes, PerExample | None]:
    """Returns the checked confidences, whether each prediction is right, and the weights."""
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    confidence, _, correct = top_label(outputs, labels, from_logits=from_logits)
    return confidence, correct, as_weights(weights, outputs.shape[0])


def top_label(
    outputs: Outputs, labels: Labels, *, from_logits: bool
) -> tuple[PerExample, Labels, Bool[Array, " batch"]]:
    """Returns confidence, prediction and correctness; the confidence is NaN where the row or its label is undefined."""
    largest, prediction = first_maximum(outputs)
    if from_logits:
        largest = jax.nn.softmax(outputs, axis=-1).max(axis=-1)
    confidence = jnp.where(_is_class(labels, outputs.shape[1]), largest, jnp.nan)
    return confidence, prediction, (prediction == labels) & ~jnp.isnan(confidence)


def log_loss(outputs: Outputs, labels: Labels, *, from_logits: bool) -> PerExample:
    """Returns minus the log-probability of the label of each row."""
    chosen = at_label(outputs, labels)
    if not from_logits:
        return -jnp.log(jnp.where(jnp.isnan(outputs.max(axis=-1)), jnp.nan, chosen))
    # XLA computes the exponentials of a softmax in a vector loop, those of a log-sum-exp one by one.
    log_confidence = jnp.log(jax.nn.softmax(outputs, axis=-1).max(axis=-1))
    return (outputs.max(axis=-1) - chosen) - log_confidence


def squared_loss(probs: Outputs, labels: Labels) -> PerExample:
    """Returns the squared distance of each row to the indicator of its label, without writing that indicator down."""
    return jnp.maximum((probs**2).sum(axis=-1) - 2 * at_label(probs, labels) + 1, 0)


def at_label(outputs: Outputs, labels: Labels) -> PerExample:
    """Returns the output at the label of each row, NaN where the label is no class."""
    chosen = jnp.take_along_axis(outputs, labels[:, None], axis=1, mode="clip")[:, 0]
    return jnp.where(_is_class(labels, outputs.shape[1]), chosen, jnp.nan)


def where_defined(correct: Bool[Array, " batch"], confidence: PerExample) -> PerExample:
    """Returns `correct` as 0 and 1, NaN where the confidence is NaN."""
    return jnp.where(jnp.isnan(confidence), jnp.nan, correct)


def first_maximum(outputs: Outputs) -> tuple[PerExample, Labels]:
    """Returns the largest output of each row and its first index, exactly as `max` and `argmax`.

    For many classes in two steps, the block and then the place in it: on CPU, XLA vectorises `max` but not `argmax`.
    """
    batch, classes = outputs.shape
    width = next((width for width in range(isqrt(classes), 0, -1) if classes % width == 0), 1)
    if classes <= SPLIT_ARGMAX_ABOVE or width == 1:
        return outputs.max(axis=-1), outputs.argmax(axis=-1).astype(jnp.int32)
    blocks = outputs.reshape(batch, classes // width, width)
    largest = blocks.max(axis=-1)
    block = largest.argmax(axis=-1)
    rows = jnp.take_along_axis(blocks, block[:, None, None], axis=1, mode="clip")[:, 0]
    return largest.max(axis=-1), (block * width + rows.argmax(axis=-1)).astype(jnp.int32)


def _is_class(labels: Labels, classes: int) -> Bool[Array, " batch"]:
    return (labels >= 0) & (labels < classes)
