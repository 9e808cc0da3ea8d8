"""How good the predictions are: accuracy and the proper scores."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar, as_integers, as_outputs, as_weights, check_positive
from jaxprune.metrics._rows import at_label, log_loss, squared_loss, top_label, where_defined
from jaxprune.metrics._sums import weighted_mean


@partial(jax.jit, static_argnames="from_logits")
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


@partial(jax.jit, static_argnames=("k", "from_logits"))
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


@partial(jax.jit, static_argnames="from_logits")
def negative_log_likelihood(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    """Returns the mean of minus the natural logarithm of the label's probability, in nats, at least 0.

    Nothing is clipped: a label of probability 0 gives infinity. Logits keep more digits than probabilities.

    >>> round(negative_log_likelihood(jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 1])).item(), 4)
    0.4904
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    return weighted_mean(log_loss(outputs, labels, from_logits=from_logits), as_weights(weights, outputs.shape[0]))


@partial(jax.jit, static_argnames="from_logits")
def brier_score(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the mean squared distance of the probabilities to the label's indicator, *summed* over classes.

    $$\frac{1}{n} \sum_i \sum_k (p_{ik} - 1[y_i = k])^2$$

    It is in [0, 2] (Brier 1950); libraries that average over the classes give it divided by their number.

    >>> brier_score(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0])).item()
    0.3125
    """
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    return weighted_mean(squared_loss(probs, labels), as_weights(weights, outputs.shape[0]))


@partial(jax.jit, static_argnames="from_logits")
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
