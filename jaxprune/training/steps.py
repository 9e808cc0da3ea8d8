"""The training step, for one model or a stack of them, once or several times per dispatch."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import pruning
from jaxprune.devices import placement
from jaxprune.training import losses
from jaxprune.training.state import Tally, TrainState, update_average

# Folded into a step's key for mixup, beside the two keys that it is split into.
_MIXUP_STREAM = 1


class Recipe(NamedTuple):
    """The static part of a step: pass the same objects again to avoid compiling again.

    `forward_params(params, optimizer_state)` returns the parameters that the loss is computed, and differentiated, at;
    None for the parameters themselves.
    """

    optimizer: optax.GradientTransformation
    forward_params: Callable | None
    augment: Callable | None
    batch_size: int
    label_smoothing: float
    mixup: float
    ema: float | None
    mesh: Mesh | None


@functools.partial(jax.jit, static_argnames=("num_images", "stacked"))
def epoch_order(key, epoch, *, num_images: int, stacked: bool):
    """Returns the epoch's key, and the permutation in which it visits the images; for each model of a stack."""

    def one(key):
        epoch_key = jax.random.fold_in(key, epoch)
        return epoch_key, jax.random.permutation(epoch_key, num_images)

    return (jax.vmap(one) if stacked else one)(key)


@functools.partial(jax.jit, static_argnames=("recipe", "looped", "stacked"), donate_argnums=0)
def train_steps(
    state: TrainState,
    frozen,
    masks,
    images,
    labels,
    order,
    epoch_key,
    count,
    *,
    recipe: Recipe,
    looped: bool,
    stacked: bool,
) -> TrainState:
    """Returns the state after one more step, or `looped` after `count` more of them in one program.

    Args:
      state: donated.
      frozen: the classifier without its weights, which travel in `state`.
      masks: pytree like the parameters, or None.
      images, labels: the whole data set.
      order, epoch_key: from `epoch_order`.
      count: how many steps, if `looped`.
      recipe: the static part.
      looped: a loop around training steps is slow on CPU, so a single step has none.
      stacked: whether state, frozen, masks, order and epoch_key have a leading model axis.
    """

    def one(state, frozen, masks, order, epoch_key):
        return _train_step(state, frozen, masks, images, labels, order, epoch_key, recipe)

    def step(state):
        mapped = jax.vmap(one) if stacked else one
        state = mapped(state, frozen, masks, order, epoch_key)
        return _constrain(state, recipe.mesh, PartitionSpec())

    return jax.lax.fori_loop(0, count, lambda _, state: step(state), state) if looped else step(state)


def _train_step(state, frozen, masks, images, labels, order, epoch_key, recipe: Recipe) -> TrainState:
    tally = state.tally
    chosen = jax.lax.dynamic_slice_in_dim(order, tally.step * recipe.batch_size, recipe.batch_size)
    # The rows of a batch are split among the devices, and padded by the compiler where they do not divide: the program
    # means the whole batch still, BatchNorm's statistics included.
    rows = PartitionSpec(placement.DATA_AXIS)
    batch_images, batch_labels = _constrain((images[chosen], labels[chosen]), recipe.mesh, rows)
    step_key = jax.random.fold_in(epoch_key, tally.step)
    augment_key, dropout_key = jax.random.split(step_key)
    if recipe.augment is not None:
        batch_images = recipe.augment(augment_key, batch_images)
    targets = [(1.0, batch_labels)]
    if recipe.mixup:
        mixup_key = jax.random.fold_in(step_key, _MIXUP_STREAM)
        batch_images, other_labels, weight = losses.mixup(mixup_key, batch_images, batch_labels, alpha=recipe.mixup)
        targets = [(weight, batch_labels), (1 - weight, other_labels)]

    def loss_of(params):
        logits, batch_stats = frozen.apply(params, state.batch_stats, batch_images, train=True, key=dropout_key)
        parts = [
            weight * losses.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing).mean()
            for weight, labels in targets
        ]
        num_correct = jnp.sum(logits.argmax(axis=-1) == batch_labels, dtype=jnp.int32)
        return sum(parts), (batch_stats, num_correct)

    at = state.params if recipe.forward_params is None else recipe.forward_params(state.params, state.optimizer_state)
    (loss, (batch_stats, num_correct)), grads = jax.value_and_grad(loss_of, has_aux=True)(at)
    transform = pruning.masked_optimizer(recipe.optimizer, masks)
    updates, optimizer_state = transform.update(grads, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if recipe.ema is not None:
        average = update_average(average, params, batch_stats, recipe.ema)
    is_first_bad = ~jnp.isfinite(loss) & (tally.first_bad_step == 0)
    tally = Tally(
        step=tally.step + 1,
        loss_sum=tally.loss_sum + loss,
        num_correct=tally.num_correct + num_correct,
        first_bad_step=jnp.where(is_first_bad, tally.step + 1, tally.first_bad_step),
    )
    return TrainState(params, batch_stats, optimizer_state, average, tally)


def _constrain(tree, mesh: Mesh | None, spec: PartitionSpec):
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))
