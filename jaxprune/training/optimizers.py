"""The study's optimizer and its learning-rate schedules."""

import optax

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
) -> optax.GradientTransformation:
    """Returns the study's optimizer: SGD with momentum, and weight decay added to the gradient, as PyTorch's SGD does.

    Args:
      learning_rate: the initial one.
      momentum: of the velocity.
      weight_decay: added to the gradient as `weight_decay * parameter`, on all parameters.
      schedule: "constant"; "step", a tenth after 50 % and again after 75 % of `num_steps`; or "cosine", to zero.
      num_steps: the length of training, for the last two.

    Raises:
      ValueError: an unknown schedule, or one that needs `num_steps`.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    if schedule != "constant" and num_steps < 1:
        raise ValueError(f"schedule {schedule!r} needs num_steps >= 1, the number of training steps; got {num_steps}")
    rate = learning_rate
    if schedule == "step":
        boundaries = {round(fraction * num_steps): _STEP_FACTOR for fraction in _STEP_MILESTONES}
        rate = optax.piecewise_constant_schedule(learning_rate, boundaries)
    elif schedule == "cosine":
        rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=momentum))
