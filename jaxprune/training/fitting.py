"""Training and sparse fine-tuning: one jitted, donated step, driven by a Python loop."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from jaxprune import data, models, pruning

BATCH_SIZE = 64  # the study's protocol (STUDY)


class TrainState(NamedTuple):
    """What a training step changes."""

    params: PyTree
    batch_stats: PyTree
    optimizer_state: PyTree
    loss_sum: Array


class EpochRecord(NamedTuple):
    """What `fit` tells its caller after each epoch: `epoch` counts from 1, `loss` is the epoch's mean."""

    epoch: int
    epochs: int
    loss: float


def num_steps(num_examples: int, *, epochs: int, batch_size: int) -> int:
    """Returns how many steps `fit` takes: full batches only, at least one an epoch."""
    return epochs * max(1, num_examples // batch_size)


def fit(
    classifier: models.Classifier,
    dataset: data.Dataset,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    key: Key[Array, ""],
    masks: PyTree | None = None,
    batch_size: int = BATCH_SIZE,
    augment: Callable | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> models.Classifier:
    """Returns the classifier trained on `dataset` by minimising the mean cross-entropy.

    Each epoch visits a new permutation of the images in full batches; the few left over after the last full batch
    are not used in that epoch. With `masks`, weights whose mask is 0 are exactly 0 after every step, whatever the
    optimizer. The images are placed on the device once, as uint8. The same arguments give the same result.

    Args:
      classifier: where training starts; it is not changed.
      dataset: any split but "test".
      optimizer: any optax transformation; pass the same object again to avoid compiling again.
      epochs: passes over the data; 0 returns the classifier as it is.
      key: seeds the order, the augmentation and dropout.
      masks: pytree shaped like `classifier.params`, 1 = keep, None = not pruned.
      batch_size: images per step.
      augment: `augment(key, uint8 images) -> uint8 images`, one of `data.AUGMENTATIONS` or your own.
      on_epoch: called after each epoch.

    Raises:
      ValueError: a test split, no images, other classes than the classifier's, epochs < 0 or batch_size < 1.
      FloatingPointError: the loss is no longer finite.
    """
    _check(classifier, dataset, epochs, batch_size)
    if epochs == 0:
        return classifier
    batch_size = min(batch_size, len(dataset))
    steps_per_epoch = len(dataset) // batch_size
    images, labels = jax.device_put((dataset.images, dataset.labels))
    # Copies, because a step donates its state and the caller keeps the classifier.
    params, batch_stats = jax.tree.map(jnp.copy, (classifier.params, classifier.batch_stats))
    if masks is not None:
        params = pruning.mask_params(params, masks)
    state = TrainState(params, batch_stats, _init_optimizer(params, masks, optimizer=optimizer), jnp.zeros(()))
    # Shapes only: the forward pass is static, the weights travel in `state`.
    frozen = classifier.replace(params=None, batch_stats=None)
    for epoch in range(1, epochs + 1):
        epoch_key = jax.random.fold_in(key, epoch)
        order = jax.random.permutation(epoch_key, len(dataset))
        for step in range(steps_per_epoch):
            state = _train_step(
                state,
                frozen,
                masks,
                images,
                labels,
                order,
                jnp.asarray(step),
                epoch_key,
                optimizer=optimizer,
                augment=augment,
                batch_size=batch_size,
            )
        loss = float(state.loss_sum) / steps_per_epoch
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss of {classifier.name} became {loss} in epoch {epoch} of {epochs}; "
                f"lower the learning rate"
            )
        state = state._replace(loss_sum=jnp.zeros(()))
        if on_epoch is not None:
            on_epoch(EpochRecord(epoch, epochs, loss))
    return classifier.replace(params=state.params, batch_stats=state.batch_stats)


def _check(classifier, dataset, epochs: int, batch_size: int) -> None:
    data.refuse_test_split(dataset, "training")
    if not len(dataset):
        raise ValueError(f"data set {dataset.name!r} ({dataset.split}) has no images to train on")
    if classifier.num_classes != dataset.num_classes:
        raise ValueError(
            f"{classifier.name} has {classifier.num_classes} classes, data set {dataset.name!r} has "
            f"{dataset.num_classes}; create the classifier with num_classes={dataset.num_classes}"
        )
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}; epochs must be >= 0 and batch_size >= 1")


@functools.partial(jax.jit, static_argnames="optimizer")
def _init_optimizer(params, masks, *, optimizer):
    return pruning.masked_optimizer(optimizer, masks).init(params)


@functools.partial(jax.jit, static_argnames=("optimizer", "augment", "batch_size"), donate_argnums=0)
def _train_step(
    state: TrainState, frozen, masks, images, labels, order, step, epoch_key, *, optimizer, augment, batch_size
) -> TrainState:
    chosen = jax.lax.dynamic_slice_in_dim(order, step * batch_size, batch_size)
    batch_images, batch_labels = images[chosen], labels[chosen]
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(epoch_key, step))
    if augment is not None:
        batch_images = augment(augment_key, batch_images)

    def loss_of(params):
        logits, batch_stats = frozen.apply(params, state.batch_stats, batch_images, train=True, key=dropout_key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch_labels)
        return losses.mean(), batch_stats

    (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    transform = pruning.masked_optimizer(optimizer, masks)
    updates, optimizer_state = transform.update(grads, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, batch_stats, optimizer_state, state.loss_sum + loss)
