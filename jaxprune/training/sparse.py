"""Training that is sparse from the first step: the masks belong to an updater, which moves them."""

from collections.abc import Callable
from typing import Any

import optax
from jaxtyping import Array, Key, PyTree

from jaxprune import data, models, randomness
from jaxprune.training.fitting import check
from jaxprune.training.loop import Training
from jaxprune.training.options import Options
from jaxprune.training.records import EpochRecord


def fit_sparse(
    classifier: models.Classifier,
    dataset: data.Dataset | data.StreamedDataset,
    *,
    updater: Any,
    optimizer: optax.GradientTransformation,
    epochs: int,
    key: Key[Array, ""],
    on_epoch: Callable[[EpochRecord], None] | None = None,
    **options: Any,
) -> tuple[models.Classifier, PyTree]:
    """Returns (the classifier trained while its masks move, the masks that it ends with).

    The loss is computed at `updater.pre_forward_update(params)`, its gradient goes through `updater.wrap_optax`, and
    weights that the masks remove are exactly 0 after every step (`pruning.pruned_optimizer`). Straight-through
    updaters train weights that no forward pass sees; the result is without them too.

    Args:
      classifier: where training starts, such as random weights; it is not changed.
      updater: of `pruning`, such as `pruning.SET` or `pruning.METHODS["rigl"].updater(0.9, pruning.conv_kernels, key,
        num_steps)`, or of the original jaxpruner.
      dataset, optimizer, epochs, key, on_epoch: as for `fit`; with 0 epochs, the masks are those of the beginning.
      **options: `batch_size`, `augment`, `checkpoint_dir` and the other options of `fit` but `masks`.

    Raises:
      ValueError, FloatingPointError, OSError, Interrupted: as for `fit`.
      TypeError: an option that `fit` does not have, or a key that is none.
    """
    options = Options(**options)
    key = randomness.threefry_key(key)
    check(classifier, dataset, epochs=epochs, options=options)
    training = Training(
        classifier, dataset, optimizer=optimizer, epochs=epochs, key=key, masks=None, updater=updater, options=options
    )
    trained = training.whole(lambda records: on_epoch and on_epoch(records[0]))
    return trained, training.masks_now(trained.params)
