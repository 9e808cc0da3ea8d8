"""The study's optimizer and its learning-rate schedules."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from jaxprune.training.options import is_count, is_number

# The study's protocol (STUDY): baseline training and fine-tuning after pruning.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
SCHEDULES = ("constant", "step", "cosine")
_STEP_MILESTONES, _STEP_FACTOR = (0.5, 0.75), 0.1  # epochs 80 and 120 of 160


def sgd(
    *,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
    weight_decay: float = WEIGHT_DECAY,
    schedule: str = "step",
    num_steps: int = 0,
    scale_penalty: float = 0.0,
) -> optax.GradientTransformation:
    """Returns the study's optimizer: SGD with momentum, and weight decay added to the gradient, as PyTorch's SGD does.

    Args:
      learning_rate: the initial one.
      momentum: of the velocity.
      weight_decay: added to the gradient as `weight_decay * parameter`, on all parameters.
      schedule: "constant"; "step", a tenth after 50 % and again after 75 % of `num_steps`; or "cosine", to zero.
      num_steps: the length of training, for the last two.
      scale_penalty: strength of `slimming_penalty`, 0 for none.

    Raises:
      ValueError: a number that is not finite or outside its range; an unknown schedule, or one that needs `num_steps`.
    """
    for name, value, is_fine, allowed in (
        ("learning_rate", learning_rate, lambda value: value > 0, "a finite number above 0"),
        ("momentum", momentum, lambda value: 0 <= value < 1, "a number >= 0 and less than 1"),
        ("weight_decay", weight_decay, lambda value: value >= 0, "a finite number >= 0"),
        ("scale_penalty", scale_penalty, lambda value: value >= 0, "a finite number >= 0"),
    ):
        # An array may be a traced one, as of `optax.inject_hyperparams`.
        if not (isinstance(value, jax.Array) or (is_number(value) and is_fine(value))):
            raise ValueError(f"{name}={value!r}; it must be {allowed}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    if schedule != "constant" and not is_count(num_steps, least=1):
        raise ValueError(f"schedule {schedule!r} needs num_steps >= 1, the number of training steps; got {num_steps}")
    rate = learning_rate
    if schedule == "step":
        boundaries = {round(fraction * num_steps): _STEP_FACTOR for fraction in _STEP_MILESTONES}
        rate = optax.piecewise_constant_schedule(learning_rate, boundaries)
    elif schedule == "cosine":
        rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    penalty = [] if is_number(scale_penalty) and not scale_penalty else [slimming_penalty(scale_penalty)]
    return optax.chain(*penalty, optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=momentum))


def slimming_penalty(strength: float) -> optax.GradientTransformation:
    """Returns the transformation that adds an L1 penalty on every BatchNorm scale to the gradients.

    The loss gains strength * sum |gamma|, so the gradient of a scale gains strength * sign(gamma), a subgradient that
    is 0 at 0. Put it first in the chain, in front of momentum. Channels that the loss does not need are driven
    towards 0, and `pruning.prune(..., method="slimming")` removes them. Scales are the leaves named "scale".

    Args:
      strength: >= 0; 1e-4 for the study's VGG, 1e-5 for its residual network.

    Raises:
      ValueError: a negative strength; or, in `init`, parameters without a leaf named "scale".

    Source: Liu et al. 2017, "Network slimming", equation 1.

    >>> penalty = slimming_penalty(0.5)
    >>> params = {"scale": jnp.array([2.0, 0.0, -1.0])}
    >>> penalty.update({"scale": jnp.ones(3)}, penalty.init(params), params)[0]["scale"].tolist()
    [1.5, 1.0, 0.5]
    """
    if not (isinstance(strength, jax.Array) or (is_number(strength) and strength >= 0)):
        raise ValueError(f"the slimming penalty's strength is {strength}; give a number >= 0, such as 1e-4")

    def init(params: PyTree) -> optax.EmptyState:
        if not any(_is_scale(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)):
            raise ValueError("the slimming penalty found no BatchNorm scale (a leaf named 'scale') in the parameters")
        return optax.EmptyState()

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree | None = None):
        if params is None:
            raise ValueError("the slimming penalty needs the parameters: call update(gradients, state, params)")
        penalised = jax.tree_util.tree_map_with_path(
            lambda path, gradient, param: gradient + strength * jnp.sign(param) if _is_scale(path) else gradient,
            updates,
            params,
        )
        return penalised, state

    return optax.GradientTransformation(init, update)


def _is_scale(path) -> bool:
    return bool(path) and str(getattr(path[-1], "key", getattr(path[-1], "name", ""))) == "scale"
