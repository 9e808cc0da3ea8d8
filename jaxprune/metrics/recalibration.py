"""Post-hoc recalibration, fitted on validation data: one temperature, or a scale and a bias for each class."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxprune.metrics._arguments import Labels, Outputs, PerExample, Scalar, as_integers, as_outputs, as_weights
from jaxprune.metrics._checked import refuse_values
from jaxprune.metrics._operators import refuse_arithmetic
from jaxprune.metrics._rows import at_label, log_loss
from jaxprune.metrics._sums import weighted_mean

MAX_TEMPERATURE = 1000.0  # and its inverse the least: separable data have no finite optimum
BOUND_TOLERANCE = 0.01  # relative: so near to a bound, it is the bound that stopped the search
TEMPERATURE_STEPS = 50  # bisection alone halves the bracket of 20 octaves below float32's resolution by then
VECTOR_SCALING_STEPS = 200


class VectorScaling(NamedTuple):
    """A scale and a bias for each class: `logits * scale + bias`."""

    scale: Float[Array, " classes"]
    bias: Float[Array, " classes"]

    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic

    def __call__(self, logits: ArrayLike) -> Outputs:
        """Returns the recalibrated logits `[batch, classes]`; a probability of 0 (minus infinity) stays one.

        Raises `ValueError` when the logits have another number of classes.
        """
        logits = as_outputs(logits)
        if logits.shape[1:] != self.scale.shape:
            raise ValueError(
                f"logits have {logits.shape[1]} classes, this scaling {self.scale.size}; fit it on the same classes"
            )
        impossible = jnp.isneginf(logits)
        scaled = jnp.where(impossible, 0, logits) * self.scale[None] + self.bias[None]
        return jnp.where(impossible, -jnp.inf, scaled)


def fit_temperature(
    logits: ArrayLike, labels: ArrayLike, *, split: str = "validation", weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the temperature T that minimises the negative log-likelihood of `softmax(logits / T)`.

    $$-\frac{1}{n} \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}$$

    The loss is convex in 1 / T; its derivative is brought to zero by Newton's steps, bisecting where they leave the
    bracket [0.001, 1000]. The result is never worse than T = 1 on the data given (Guo et al. 2017, Section 4.2), and 1
    where every T is as good. Where it stops at an end of the bracket it warns: the data have no finite optimum.

    A logit of minus infinity is a probability of 0, a class left out, at every temperature: `jnp.log(probs)` can be
    given. `split` says where the data come from and must not be a test split: a temperature fitted there makes the
    calibration reported on it look better than it is.

    Raises `ValueError` for a test split, wrong shapes, and, eagerly, for labels outside of the classes, negative
    weights, and rows whose loss is infinite or undefined at every temperature (a label whose logit is minus infinity, a
    logit of plus infinity). Under a transformation such rows make the result NaN, and nothing warns.

    >>> logits = jnp.array([[4.0, 0.0]] * 4)
    >>> round(fit_temperature(logits, jnp.array([0, 0, 0, 1]), split="validation").item(), 3)
    3.641
    """
    _refuse_test_split(split)
    arguments = {"logits": logits, "labels": labels, "weights": weights}
    temperature = _fit_temperature(**(arguments | refuse_values(arguments)))
    _warn_at_bounds(temperature)
    return temperature


def fit_vector_scaling(
    logits: ArrayLike, labels: ArrayLike, *, split: str = "validation", weights: ArrayLike | None = None
) -> VectorScaling:
    """Returns the `VectorScaling` that minimises the negative log-likelihood, found by L-BFGS from the identity.

    It is never worse than the identity on the data given (Guo et al. 2017, Section 4.2). `split`, logits of minus
    infinity and the errors are those of `fit_temperature`. Unlike a temperature it can change predictions.

    >>> scaling = fit_vector_scaling(jnp.array([[4.0, 0.0]] * 4), jnp.array([0, 0, 0, 1]), split="validation")
    >>> [round(p, 3) for p in jax.nn.softmax(scaling(jnp.array([[4.0, 0.0]])))[0].tolist()]
    [0.75, 0.25]
    """
    _refuse_test_split(split)
    arguments = {"logits": logits, "labels": labels, "weights": weights}
    return _fit_vector_scaling(**(arguments | refuse_values(arguments)))


@jax.jit
def _fit_temperature(logits, labels, weights) -> Scalar:
    logits, labels, weights = _arguments(logits, labels, weights)
    chosen = _finite_at_label(logits, labels)
    possible = ~jnp.isneginf(logits)
    # Differences to the label's logit keep the digits that a large common offset would take.
    margins = jnp.where(possible, logits - chosen[:, None], 0)

    def loss(sharpness):
        return weighted_mean(jax.nn.logsumexp(sharpness * margins, axis=1, where=possible), weights)

    slope = jax.grad(loss)

    def step(_, state):
        low, high, sharpness = state
        value, curvature = jax.jvp(slope, (sharpness,), (jnp.ones_like(sharpness),))
        low, high = jnp.where(value < 0, sharpness, low), jnp.where(value < 0, high, sharpness)
        newton = sharpness - value / curvature
        inside = (newton > low) & (newton < high)
        return low, high, jnp.where(inside, newton, jnp.sqrt(low * high))

    # Made of the data, so that under shard_map they vary over devices as the data do.
    one = 1 + 0 * chosen.sum()
    _, _, sharpness = jax.lax.fori_loop(0, TEMPERATURE_STEPS, step, (one / MAX_TEMPERATURE, one * MAX_TEMPERATURE, one))
    # Where every label has the largest logit, the loss has no minimum, and its slope underflows within the bracket.
    largest = margins.max(initial=0)
    sharpness = jnp.where(largest <= 0, one * MAX_TEMPERATURE, sharpness)
    no_worse = _loss(logits * sharpness, labels, weights) <= _loss(logits, labels, weights)
    matters = (largest > 0) | (margins.min(initial=0) < 0)
    return jnp.where(no_worse & matters, 1 / sharpness, one)


@jax.jit
def _fit_vector_scaling(logits, labels, weights) -> VectorScaling:
    logits, labels, weights = _arguments(logits, labels, weights)
    classes = logits.shape[1]
    zero = 0 * _finite_at_label(logits, labels).sum()
    identity = VectorScaling(jnp.ones(classes) + zero, jnp.zeros(classes) + zero)
    optimiser = optax.lbfgs()

    def loss(scaling):
        return _loss(scaling(logits), labels, weights)

    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(_, state):
        scaling, memory, best, best_value = state
        value, gradient = value_and_grad(scaling, state=memory)
        updates, memory = optimiser.update(gradient, memory, scaling, value=value, grad=gradient, value_fn=loss)
        better = value < best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), scaling, best)
        return optax.apply_updates(scaling, updates), memory, best, jnp.where(better, value, best_value)

    initial = identity, optimiser.init(identity), identity, loss(identity)
    last, _, best, best_value = jax.lax.fori_loop(0, VECTOR_SCALING_STEPS, step, initial)
    return jax.tree.map(lambda new, old: jnp.where(loss(last) < best_value, new, old), last, best)


def _finite_at_label(logits: Outputs, labels: Labels) -> PerExample:
    """Returns the logit of each label, NaN where no temperature gives the row a finite loss."""
    chosen = at_label(logits, labels)
    # The largest logit is NaN where any is.
    return jnp.where(jnp.isfinite(chosen) & (logits.max(axis=1, initial=-jnp.inf) < jnp.inf), chosen, jnp.nan)


def _warn_at_bounds(temperature: Scalar) -> None:
    if isinstance(temperature, jax.core.Tracer):
        return
    value = float(temperature)
    if value > MAX_TEMPERATURE * (1 - BOUND_TOLERANCE):
        reason = "the logits say nothing of these labels, or the opposite: look whether both are in the same order"
    elif value < (1 + BOUND_TOLERANCE) / MAX_TEMPERATURE:
        reason = "every label has the largest logit, so that no confidence is too high: use more validation data"
    else:
        return
    warnings.warn(
        f"the temperature stopped at {value:.4g}, a bound of the search in [{1 / MAX_TEMPERATURE:g}, "
        f"{MAX_TEMPERATURE:g}]; {reason}",
        stacklevel=3,
    )


def _loss(logits: Outputs, labels: Labels, weights: PerExample | None) -> Scalar:
    return weighted_mean(log_loss(logits, labels, from_logits=True), weights)


def _arguments(logits, labels, weights) -> tuple[Outputs, Labels, PerExample | None]:
    logits = as_outputs(logits)
    labels = as_integers("labels", labels, logits.shape[0])
    weights = as_weights(weights, logits.shape[0])
    if weights is not None:  # a weight of 0 hides a NaN from the loss, but not from its derivative
        counts = weights != 0
        logits, labels = jnp.where(counts[:, None], logits, 0), jnp.where(counts, labels, 0)
    return logits, labels, weights


def _refuse_test_split(split: str) -> None:
    if "test" in split.lower():
        raise ValueError(
            f"split is {split!r}, but what is fitted on test data cannot be measured on them; fit on a validation "
            'split and say split="validation"'
        )
