"""What many models of one kind, trained from several seeds, say together: modal predictions and exemplars."""

from typing import Any

import numpy as np

from jaxprune.metrics._host import HostArray, namespace, refuse_on_host
from jaxprune.metrics._options import check_positive


def modal_prediction(predictions: Any, *, num_classes: int | None = None) -> HostArray:
    """Returns the class that most of the models predict for each example, from `[models, batch]`; of equals the first.

    In NumPy; where JAX arrays are given, traced or not, in JAX. Raises `ValueError` for another shape or dtype, and, of
    values that can be seen and with `num_classes`, for predictions outside of the classes. Elsewhere:
    `scipy.stats.mode(predictions, axis=0).mode` is the same.

    >>> modal_prediction(np.array([[0, 1], [2, 1], [2, 0]])).tolist()
    [2, 1]
    """
    predictions = _population("predictions", predictions, num_classes)
    xp = namespace(predictions)
    # How many models agree with each; of the predictions with most the smallest.
    votes = (predictions[:, None] == predictions[None]).sum(axis=1)
    largest = np.iinfo(predictions.dtype).max
    return xp.where(votes == votes.max(axis=0, keepdims=True), predictions, largest).min(axis=0).astype(np.int32)


def pruning_identified_exemplars(
    predictions: Any, reference_predictions: Any, *, num_classes: int | None = None
) -> HostArray:
    """Returns which examples the pruned models, taken together, classify differently from the dense ones, `[batch]`.

    Both arguments are `[seeds, batch]`, each a population of models trained from different seeds (their numbers may
    differ); an example is identified when the two `modal_prediction` differ (Hooker et al. 2019, Section 2). With one
    seed that is where the prediction flips. Raises as `modal_prediction`, and when the numbers of examples differ.

    >>> pruned, dense = np.array([[0, 1], [0, 1], [1, 1]]), np.array([[1, 1], [1, 1], [1, 0]])
    >>> pruning_identified_exemplars(pruned, dense).tolist()
    [True, False]
    """
    pruned = _population("predictions", predictions, num_classes)
    dense = _population("reference_predictions", reference_predictions, num_classes)
    if pruned.shape[1] != dense.shape[1]:
        raise ValueError(
            f"both populations must have predicted the same examples, got {pruned.shape[1]} and {dense.shape[1]}"
        )
    return modal_prediction(pruned) != modal_prediction(dense)


def _population(name: str, predictions: Any, num_classes: int | None) -> HostArray:
    predictions = predictions if hasattr(predictions, "dtype") else np.asarray(predictions)
    if num_classes is not None:
        check_positive("num_classes", num_classes)
    if predictions.ndim != 2 or not predictions.shape[0] or not np.issubdtype(predictions.dtype, np.integer):
        raise ValueError(
            f"{name} must be integer class indices of the shape [models, batch], got {predictions.dtype} "
            f"{list(predictions.shape)}; stack the predictions of the seeds"
        )
    refuse_on_host({name: predictions}, num_classes)
    return predictions
