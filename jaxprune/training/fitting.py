"""Training and sparse fine-tuning of one classifier, in one call."""

from collections.abc import Callable, Sequence

import jax
import optax
from jaxtyping import Array, Key, PyTree

from jaxprune import data, models, randomness
from jaxprune.training.loop import Training
from jaxprune.training.options import BATCH_SIZE, Options
from jaxprune.training.records import EpochRecord
from jaxprune.training.resume import KEPT


def fit(
    classifier: models.Classifier,
    dataset: data.Dataset | data.StreamedDataset,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    key: Key[Array, ""],
    masks: PyTree | None = None,
    batch_size: int = BATCH_SIZE,
    augment: Callable | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    ema: float | None = None,
    precision: str | None = None,
    steps_per_dispatch: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    validation: data.Dataset | None = None,
    checkpoint_dir=None,
    checkpoint_every: int | None = None,
    checkpoints_kept: int = KEPT,
    compute_dtype: str | None = None,
) -> models.Classifier:
    """Returns the classifier trained on `dataset` by minimising the mean cross-entropy.

    Each epoch visits a new permutation of the images in full batches; the few left over after the last full batch
    are not used in that epoch. With `masks`, weights whose mask is 0 are exactly 0 after every step, whatever the
    optimizer. The images are placed on the device once, as uint8; those of a `StreamedDataset` batch by batch. The
    same arguments give the same result.

    With `checkpoint_dir`, the same call continues where an earlier one was stopped, and gives the same bits as if it
    had not been, on devices of one kind and number. `epochs` may be higher then, and the optimizer may have other
    constants; everything else must be the same. SIGTERM saves and raises `Interrupted`.

    Args:
      classifier: where training starts; it is not changed.
      dataset: any split but "test".
      optimizer: any optax transformation; pass the same object again to avoid compiling again.
      epochs: passes over the data; 0 returns the classifier as it is.
      key: seeds the order, the augmentation and dropout; the same ones whatever JAX's settings are.
      masks: pytree shaped like `classifier.params`, 1 = keep, None = not pruned.
      batch_size: images per step, on all devices together.
      augment: `augment(key, uint8 images) -> images`, one of `data.AUGMENTATIONS` or your own.
      on_epoch: called after each epoch.
      label_smoothing: part of each target that is spread evenly over the classes, in [0, 1).
      mixup: alpha of the Beta distribution from which images are mixed in pairs, 0 for none; see `losses.mixup`.
      ema: decay per step, in (0, 1), of a moving average of weights and batch statistics, which is then what is
        validated and returned; pruned weights stay exactly 0 in it.
      precision: type of the forward and backward pass, "float32" or "bfloat16", or None for that of the classifier's
        own layers (see `models.in_precision`); parameters, batch statistics, loss
        and optimizer stay in float32.
      steps_per_dispatch: training steps per program; by default 1 on CPU, where more are slow, and 32 elsewhere. The
        result agrees to rounding. Always 1 for a `StreamedDataset`.
      devices: split each batch among these devices; the result agrees with that of one device to rounding, batches
        that they do not divide and BatchNorm's statistics included. None trains where JAX places arrays by default.
      validation: any split but "test", measured after each epoch.
      checkpoint_dir: folder, local or `gs://`, that the state is saved to in the background; and `epochs.jsonl`.
      checkpoint_every: save after this many steps too, not only after each epoch.
      checkpoints_kept: how many of the last checkpoints stay.
      compute_dtype: the former name of `precision`.

    Raises:
      ValueError: a test split, no images, other classes or channels than the classifier's, an option outside its
        range; a classifier that is not finite; a checkpoint of another run, or none that is intact.
      TypeError: a key that is none, such as a seed.
      FloatingPointError: the loss, a parameter or a batch statistic is no longer finite; names the step. The last good
        checkpoint is kept.
      OSError: a checkpoint could not be written, as on a full disk; names the last good one.
      Interrupted: SIGTERM came while `checkpoint_dir` was given; a SystemExit with code 143.
    """
    options = Options(
        batch_size=batch_size,
        augment=augment,
        label_smoothing=label_smoothing,
        mixup=mixup,
        ema=ema,
        precision=models.renamed(precision, compute_dtype),
        steps_per_dispatch=steps_per_dispatch,
        devices=devices,
        validation=validation,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        checkpoints_kept=checkpoints_kept,
    )
    key = randomness.threefry_key(key)
    check(classifier, dataset, epochs=epochs, options=options)
    if epochs == 0:
        return classifier
    training = Training(classifier, dataset, optimizer=optimizer, epochs=epochs, key=key, masks=masks, options=options)
    return training.whole(lambda records: on_epoch and on_epoch(records[0]))


def check(
    classifier: models.Classifier, dataset: data.Dataset | data.StreamedDataset, *, epochs: int, options: Options
) -> None:
    """Raises a ValueError for anything that `fit` refuses before it starts."""
    models.check_finite(classifier, classifier.name)
    _check_data(classifier, dataset, "training", "train on")
    if options.validation is not None:
        if not isinstance(options.validation, data.Dataset):
            raise ValueError("validation images must fit in memory; pass a data.Dataset, some of them are enough")
        _check_data(classifier, options.validation, "validation during training", "validate on")
    options.check(epochs=epochs)


def _check_data(classifier, dataset, purpose: str, verb: str) -> None:
    data.refuse_test_split(dataset, purpose)
    if not len(dataset):
        raise ValueError(f"data set {dataset.name!r} ({dataset.split}) has no images to {verb}")
    if classifier.num_classes != dataset.num_classes:
        raise ValueError(
            f"{classifier.name} has {classifier.num_classes} classes, data set {dataset.name!r} has "
            f"{dataset.num_classes}; create the classifier with num_classes={dataset.num_classes}"
        )
    if classifier.mean.shape[-1] != dataset.image_shape[-1]:
        raise ValueError(
            f"{classifier.name} takes images of {classifier.mean.shape[-1]} channels, those of data set "
            f"{dataset.name!r} have {dataset.image_shape[-1]}; create the classifier with one mean per channel"
        )
