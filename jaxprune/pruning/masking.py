"""Masks that hold: on parameters, and through any optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.pruning._annotations import Masks, Params, Updater
from jaxprune.pruning._trees import align_masks
from jaxprune.pruning.base_updater import apply_aligned, unpack_masks


class MaskedOptimizerState(NamedTuple):
    """State of `masked_optimizer`: the masks, in the parameters' container, and the optimiser's own state."""

    masks: Any
    inner_state: Any


def mask_params(params: Params, masks: Masks | None) -> Params:
    """Returns the parameters with exact zeros where masks are 0; parameters with a None mask pass as they are.

    Raises `ValueError` naming the first parameter that has no mask of its own shape, mask that has no parameter, or
    (outside jit) mask with other values than 0 and 1.

    >>> mask_params({"w": jnp.array([1.0, 2.0]), "b": 3.0}, {"w": jnp.array([0, 1]), "b": None})
    {'b': 3.0, 'w': Array([0., 2.], dtype=float32)}
    """
    return apply_aligned(params, align_masks(masks, params))


def masked_optimizer(optimizer: optax.GradientTransformation, masks: Masks | None) -> optax.GradientTransformation:
    """Returns the optimiser with pruned weights held at exactly 0: `optax.apply_updates` alone restores them to 0.

    Gradients of pruned weights are zeroed first, so they enter no momentum, moment or gradient norm; after the
    optimiser, each pruned weight's update is minus that weight, and w + (-w) is 0 in any floating-point format. So
    momentum, weight decay, Adam, averaging, clipping and accumulation over steps cannot bring one back. Make it the
    outermost transformation: one that scaled its updates would scale the return to 0 as well.

    The masks are copied into the state (`MaskedOptimizerState`), where jitted steps get them as data and may donate
    them. `masks=None` returns the optimiser itself. `init` raises `ValueError` for masks that `mask_params` refuses.

    >>> params, masks = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1, 0], dtype="uint8")}
    >>> tx = masked_optimizer(optax.adamw(0.5), masks)
    >>> updates, state = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"][1].item()
    0.0
    """
    if masks is None:
        return optimizer
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> MaskedOptimizerState:
        own = jax.tree.map(lambda mask: jnp.array(mask, copy=True), align_masks(masks, params))
        return MaskedOptimizerState(masks=own, inner_state=inner.init(params))

    def update(
        updates: Params, state: MaskedOptimizerState, params: Params | None = None, **kwargs: Any
    ) -> tuple[Params, MaskedOptimizerState]:
        if params is None:
            raise ValueError("masked_optimizer needs the parameters: call update(grads, state, params)")
        updates = apply_aligned(updates, state.masks)
        updates, inner_state = inner.update(updates, state.inner_state, params, **kwargs)
        return hold_at_zero(updates, params, state.masks), state._replace(inner_state=inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def pruned_optimizer(updater: Updater, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns `updater.wrap_optax(inner)` whose updates also bring pruned weights to exactly 0.

    With it, `post_gradient_update` need not be called. The state is the same `SparseState`. Make it the outermost
    transformation. The updater may be the original jaxpruner's. Straight-through updaters keep their dense weights:
    their masks are None.
    """
    wrapped = optax.with_extra_args_support(updater.wrap_optax(inner))

    def update(updates: Params, state: Any, params: Params | None = None, **kwargs: Any) -> tuple[Params, Any]:
        updates, state = wrapped.update(updates, state, params, **kwargs)
        return hold_at_zero(updates, params, _kept_masks(updater, state.masks, params)), state

    return optax.GradientTransformationExtraArgs(wrapped.init, update)


def current_masks(updater: Updater, params: Params, state: Any) -> Masks:
    """Returns the masks of the network that an updater has trained so far, from the state of its wrapped optimiser.

    Those that it keeps; of straight-through updaters, which keep none, those of `params` as they are now.
    """
    masks = _kept_masks(updater, state.masks, params)
    if jax.tree.leaves(masks):
        return masks
    return _kept_masks(updater, updater.instant_sparsify(params)[1], params)


def _kept_masks(updater: Updater, masks: Masks, params: Params) -> Masks:
    """Returns an updater's masks in the container of the parameters, a byte per weight."""
    masks = align_masks(masks, params, packed=updater.use_packed_masks, check_values=False)
    return unpack_masks(masks, params) if updater.use_packed_masks else masks


def hold_at_zero(updates: Params, params: Params, masks: Masks) -> Params:
    """Returns the updates with minus the parameter at pruned weights."""
    return jax.tree.map(
        lambda param, update, mask: update if mask is None else jnp.where(mask != 0, update, -param),
        params,
        updates,
        masks,
    )
