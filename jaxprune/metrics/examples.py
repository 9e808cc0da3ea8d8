"""What the metrics need of each example: a few numbers, so that no matrix of logits has to leave the device."""

from typing import NamedTuple

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxprune.metrics._arguments import as_integers, as_outputs, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import refuse_arithmetic, short_repr
from jaxprune.metrics._rows import log_loss, squared_loss, top_label, where_defined
from jaxprune.metrics._sums import weighted_mean
from jaxprune.metrics.binning import binned_calibration_error


class ExampleStatistics(NamedTuple):
    """Per example: the largest probability, its class, whether that is the label, and the two proper scores."""

    confidence: Float[Array, " batch"]
    prediction: Int[Array, " batch"]
    correct: Bool[Array, " batch"]
    negative_log_likelihood: Float[Array, " batch"]
    brier_score: Float[Array, " batch"]

    __repr__ = short_repr
    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


@checked(static_argnames="from_logits")
def example_statistics(outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False) -> ExampleStatistics:
    """Returns `ExampleStatistics` of the rows of `outputs`, 17 bytes for each example.

    All the top-label metrics can be computed from them. Of equal largest outputs the first is the prediction, as in
    `argmax`. A NaN output or a label outside of the classes makes the row's numbers NaN and `correct` False.

    >>> import jax.numpy as jnp
    >>> statistics = example_statistics(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]))
    >>> statistics.prediction.tolist(), statistics.correct.tolist(), statistics.brier_score.tolist()
    ([0, 0], [True, False], [0.125, 0.5])
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    confidence, prediction, correct = top_label(outputs, labels, from_logits=from_logits)
    return ExampleStatistics(
        confidence, prediction, correct, log_loss(outputs, labels, from_logits=from_logits), squared_loss(probs, labels)
    )


@checked()
def summarize_examples(
    statistics: ExampleStatistics, *, weights: ArrayLike | None = None
) -> dict[str, Float[Array, ""]]:
    """Returns the scalars of a test set from its per-example numbers; rows of weight 0 (padding) do not count.

    >>> import jax.numpy as jnp
    >>> statistics = example_statistics(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]))
    >>> {name: round(value.item(), 4) for name, value in summarize_examples(statistics).items()}
    {'accuracy': 0.5, 'brier_score': 0.3125, 'ece_equal_mass_10': 0.375, 'ece_equal_mass_15': 0.375,
     'ece_equal_width_10': 0.375, 'ece_equal_width_15': 0.375, 'mean_confidence': 0.625,
     'negative_log_likelihood': 0.4904, 'signed_calibration_gap': 0.125}
    """
    confidence, _, correct, log_losses, squared_losses = statistics
    weights = as_weights(weights, confidence.shape[0])
    defined = where_defined(correct, confidence)
    mean_confidence, accuracy = weighted_mean(confidence, weights), weighted_mean(defined, weights)
    summary = {
        "accuracy": accuracy,
        "negative_log_likelihood": weighted_mean(log_losses, weights),
        "brier_score": weighted_mean(squared_losses, weights),
        "mean_confidence": mean_confidence,
        "signed_calibration_gap": weighted_mean(confidence - defined, weights),
    }
    for binning in ("equal_width", "equal_mass"):
        for num_bins in (10, 15):
            summary[f"ece_{binning}_{num_bins}"] = binned_calibration_error(
                confidence, correct, weights=weights, num_bins=num_bins, binning=binning
            )
    return summary
