"""What an optimiser remembers of weights that come back to life: nothing."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxprune.pruning._annotations import Masks, Params
from jaxprune.pruning._trees import Names, map_named, named_masks

# For each kind of optax state, the fields that remember something per weight.
MEMORIES: dict[type, tuple[str, ...]] = {
    optax.TraceState: ("trace",),
    optax.ScaleByAdamState: ("mu", "nu"),
    optax.ScaleByAmsgradState: ("mu", "nu", "nu_max"),
    optax.ScaleByBeliefState: ("mu", "nu"),
    optax.ScaleByLionState: ("mu",),
    optax.ScaleByRmsState: ("nu",),
    optax.ScaleByRStdDevState: ("mu", "nu"),
    optax.ScaleByRssState: ("sum_of_squares",),
    optax.EmaState: ("ema",),
    optax.MultiStepsState: ("acc_grads",),
}

# And those that hold other states.
INNER_STATES: dict[type, tuple[str, ...]] = {
    optax.MaskedState: ("inner_state",),
    optax.MultiStepsState: ("inner_opt_state",),
    optax.ApplyIfFiniteState: ("inner_state",),
    optax.InjectHyperparamsState: ("inner_state",),
    optax.InjectStatefulHyperparamsState: ("inner_state",),
}

MEMORYLESS = (optax.EmptyState, optax.ScaleByScheduleState, optax.AddNoiseState)


def restart_inner_state(state: Any, masks_activated: Any) -> Any:
    """Returns the optimiser state with zeros for the weights whose mask is 1; None masks leave it as it is.

    Raises `ValueError` for a state that is not in `MEMORIES`, `INNER_STATES`, `MEMORYLESS`, nor a tuple of such states.

    >>> state = optax.TraceState(trace={"w": jnp.array([3.0, 4.0])})
    >>> restart_inner_state(state, {"w": jnp.array([1, 0])}).trace["w"].tolist()
    [0.0, 4.0]
    """
    kind = type(state)
    if isinstance(state, MEMORYLESS):
        return state
    if kind in MEMORIES or kind in INNER_STATES:
        restarted = {
            name: _restart_using_mask(getattr(state, name), masks_activated) for name in MEMORIES.get(kind, ())
        }
        for name in INNER_STATES.get(kind, ()):
            restarted[name] = restart_inner_state(getattr(state, name), masks_activated)
        return state._replace(**restarted)
    if isinstance(state, optax.PartitionState):
        inner = {label: restart_inner_state(inner, masks_activated) for label, inner in state.inner_states.items()}
        return state._replace(inner_states=inner)
    if kind is tuple:
        return tuple(restart_inner_state(inner, masks_activated) for inner in state)
    raise ValueError(
        f"unrecognised optimizer state of type {kind.__name__}: growing weights must forget their past, and the fields "
        "that hold it are unknown; add it to pruning.algorithms.optimizer_restart.MEMORIES, or use one of "
        f"{', '.join(known.__name__ for known in [*MEMORIES, *INNER_STATES])}"
    )


def _restart_using_mask(target_tree: Params, masks: Masks) -> Params:
    """Returns the tree with zeros where masks are 1; found by name, as optax leaves parameters out of masked states."""
    named = named_masks(masks)

    def restart(names: Names, leaf: Any) -> Any:
        mask = named[names]
        return leaf if mask is None else jnp.where(jnp.asarray(mask) != 0, jnp.zeros_like(leaf), leaf)

    return map_named(restart, target_tree)
