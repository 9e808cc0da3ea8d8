"""Does the pruned model still do what the dense one did? Beyond mean accuracy: per image and per class.

Predictions are class indices, as in `ExampleStatistics.prediction`. An eager call refuses labels and predictions
outside of `num_classes`; a traced one cannot see them, and counts them in no class.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxprune.metrics._arguments import Scalar, as_integers, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._options import check_positive
from jaxprune.metrics._sums import weighted_mean


@checked()
def prediction_churn(
    predictions: ArrayLike, reference_predictions: ArrayLike, *, weights: ArrayLike | None = None
) -> Scalar:
    """Returns the fraction of examples `[batch]` on which two models predict different classes, in [0, 1].

    Two models of the same accuracy can disagree on many images (Fard et al. 2016).

    >>> round(prediction_churn(jnp.array([0, 1, 2]), jnp.array([0, 2, 2])).item(), 3)
    0.333
    """
    batch = jnp.shape(predictions)[0] if jnp.ndim(predictions) else 0
    predictions = as_integers("predictions", predictions, batch)
    reference_predictions = as_integers("reference_predictions", reference_predictions, batch)
    differs = (predictions != reference_predictions).astype(jnp.float32)
    return weighted_mean(differs, as_weights(weights, batch))


@checked(static_argnames="num_classes")
def per_class_accuracy(
    predictions: ArrayLike, labels: ArrayLike, *, num_classes: int, weights: ArrayLike | None = None
) -> Float[Array, " classes"]:
    """Returns the accuracy among the examples of each class, `[classes]`; NaN for a class without examples.

    >>> per_class_accuracy(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), num_classes=3).tolist()
    [0.5, 1.0, nan]
    """
    check_positive("num_classes", num_classes)
    batch = jnp.shape(labels)[0] if jnp.ndim(labels) else 0
    labels = as_integers("labels", labels, batch)
    right = as_integers("predictions", predictions, batch) == labels
    weights = as_weights(weights, batch)
    weights = jnp.ones(batch) if weights is None else weights
    # A label outside of the classes falls in no segment.
    index = jnp.where(labels < 0, num_classes, labels)
    correct, mass = (jax.ops.segment_sum(x, index, num_classes) for x in (right * weights, weights))
    return correct / mass


@checked(static_argnames="num_classes")
def per_class_accuracy_change(
    predictions: ArrayLike,
    reference_predictions: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    weights: ArrayLike | None = None,
) -> Float[Array, " classes"]:
    """Returns by how much the accuracy of each class rose over the reference model, `[classes]`, in [-1, 1].

    Pruning takes more from some classes than from others while the mean hardly moves (Hooker et al. 2019).

    >>> labels = jnp.array([0, 0, 1, 1])
    >>> per_class_accuracy_change(jnp.array([1, 0, 1, 1]), jnp.array([0, 0, 1, 0]), labels, num_classes=2).tolist()
    [-0.5, 0.5]
    """
    options = {"num_classes": num_classes, "weights": weights}
    return per_class_accuracy(predictions, labels, **options) - per_class_accuracy(
        reference_predictions, labels, **options
    )
