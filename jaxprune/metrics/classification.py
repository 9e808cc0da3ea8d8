"""How good the predictions are: accuracy and the proper scores."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar, as_integers, as_outputs, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._options import check_positive
from jaxprune.metrics._rows import (
    at_label,
    log_loss,
    squared_loss,
    top_label,
    top_label_arguments,
    where_defined,
)
from jaxprune.metrics._sums import weighted_mean


@checked(static_argnames="from_logits")
def accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    """Returns the fraction of examples whose largest output is that of the label, in [0, 1].

    Of equal largest outputs the first is the prediction, as in `argmax`. Logits and probabilities agree, unless two
    logits differ by less than a probability can show: `from_logits` is accepted so that metrics can be exchanged.

    >>> accuracy(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0, 0])).item()
    0.5
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    confidence, _, correct = top_label(outputs, labels, from_logits=from_logits)
    return weighted_mean(where_defined(correct, confidence), as_weights(weights, outputs.shape[0]))


@checked(static_argnames=("k", "from_logits"))
def top_k_accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, k: int = 5, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    """Returns the fraction of examples whose label is among the `k` largest outputs, in [0, 1].

    Equal outputs rank in the order of their classes, so that `k=1` is `accuracy`; with `k` at or above the number of
    classes the result is 1.

    >>> probs = jnp.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    >>> top_k_accuracy(probs, jnp.array([1, 2]), k=2).item()
    0.5
    """
    check_positive("k", k)
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    chosen = at_label(outputs, labels)[:, None]
    earlier = jnp.arange(outputs.shape[1])[None, :] < labels[:, None]
    rank = ((outputs > chosen) | ((outputs == chosen) & earlier)).sum(axis=-1)
    defined = jnp.where(jnp.isnan(outputs.max(axis=-1) + chosen[:, 0]), jnp.nan, rank < k)
    return weighted_mean(defined, as_weights(weights, outputs.shape[0]))


@checked(static_argnames="from_logits")
def negative_log_likelihood(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the mean of minus the natural logarithm of the label's probability, in nats, at least 0.

    $$-\frac{1}{n} \sum_i \log p_{i y_i}$$

    Nothing is clipped: a label of probability 0 gives infinity (elsewhere: scikit-learn's `log_loss` clips at the
    rounding error of the dtype). Logits keep more digits than probabilities.

    >>> round(negative_log_likelihood(jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 1])).item(), 4)
    0.4904
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    return weighted_mean(log_loss(outputs, labels, from_logits=from_logits), as_weights(weights, outputs.shape[0]))


@checked(static_argnames="from_logits")
def brier_score(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the mean squared distance of the probabilities to the label's indicator, *summed* over classes.

    $$\frac{1}{n} \sum_i \sum_k (p_{ik} - 1[y_i = k])^2$$

    It is in [0, 2] (Brier 1950). Elsewhere: what averages over the classes gives it divided by their number;
    scikit-learn's `brier_score_loss` is this sum for three classes and more, and half of it for two.

    >>> brier_score(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0])).item()
    0.3125
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    return weighted_mean(squared_loss(probs, labels), as_weights(weights, outputs.shape[0]))


@checked(static_argnames="from_logits")
def top_label_brier_score(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the mean squared distance of the confidence to whether the prediction is right, in [0, 1].

    $$\frac{1}{n} \sum_i (\mathrm{conf}_i - \mathrm{correct}_i)^2$$

    The Brier score of the top label alone, the one that `expected_calibration_error` bins: a proper score of the
    confidence, not of the other probabilities. Elsewhere: scikit-learn's `brier_score_loss` of these two columns.

    >>> top_label_brier_score(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])).item()
    0.15625
    """
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    return weighted_mean((confidence - where_defined(correct, confidence)) ** 2, weights)


@checked(static_argnames="from_logits")
def entropy(outputs: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None) -> Scalar:
    r"""Returns the mean entropy of the probabilities in nats, in [0, log classes]: how unsure it says it is.

    $$-\frac{1}{n} \sum_i \sum_k p_{ik} \log p_{ik}$$

    Probabilities of 0 contribute 0. It needs no labels; a calibrated classifier's equals its negative log-likelihood.

    >>> round(entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]])).item(), 4)
    0.3466
    """
    outputs = as_outputs(outputs)
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    return weighted_mean(jax.scipy.special.entr(probs).sum(axis=-1), as_weights(weights, outputs.shape[0]))
