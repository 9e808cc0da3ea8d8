"""Training several classifiers at once: seeds, sparsities."""

import dataclasses
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Key, PyTree

from jaxprune import data, models, randomness
from jaxprune.training.fitting import check
from jaxprune.training.loop import Training
from jaxprune.training.options import Options
from jaxprune.training.records import EpochRecord

MODEL_AXES = ("loop", "vmap")


def fit_many(
    classifiers: Sequence[models.Classifier],
    dataset: data.Dataset,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    keys: Sequence[Key[Array, ""]],
    masks: Sequence[PyTree | None] | None = None,
    model_axis: str | None = None,
    on_epoch: Callable[[int, EpochRecord], None] | None = None,
    **options,
) -> list[models.Classifier]:
    """Returns the classifiers, each trained as `fit` trains it alone with its own key and masks.

    Args:
      classifiers: where training starts; of one architecture or of several.
      dataset, optimizer, epochs: as for `fit`; the same for all.
      keys: one per classifier.
      masks: one pytree or None per classifier; None if none is pruned.
      model_axis: "loop" trains one after another, to the same bits as `fit`; "vmap" trains those of one architecture
        and the same shapes as one program, equal up to rounding. By default "loop" on CPU, where stacked convolutions
        are slow, and "vmap" elsewhere.
      on_epoch: called with a classifier's index and its record after each epoch. In a stack, `images_per_second` counts
        each image once, however many models see it.
      **options: `batch_size`, `augment`, `devices`, `checkpoint_dir` and the other options of `fit`. Each classifier or
        stack has its own folder in `checkpoint_dir`, named after the index of its first classifier.

    Raises:
      ValueError: as for `fit`; no classifier; another number of keys or masks; an unknown `model_axis`.
      TypeError: an option that `fit` does not have.
    """
    if "compute_dtype" in options:
        options["precision"] = models.renamed(options.get("precision"), options.pop("compute_dtype"))
    options = Options(**options)
    masks = [None] * len(classifiers) if masks is None else masks
    if not isinstance(dataset, data.Dataset):
        raise ValueError(
            "fit_many needs the images in memory, where each classifier visits them in its own order; pass a "
            "data.Dataset, or call fit for one classifier after another"
        )
    _check(classifiers, keys, masks, model_axis)
    keys = [randomness.threefry_key(key) for key in keys]
    for classifier in classifiers:
        check(classifier, dataset, epochs=epochs, options=options)
    if epochs == 0:
        return list(classifiers)
    if model_axis is None:
        platform = options.devices[0].platform if options.devices else jax.default_backend()
        model_axis = "loop" if platform == "cpu" else "vmap"

    results: list = [None] * len(classifiers)
    for members in _groups(classifiers, model_axis):
        stacked = len(members) > 1
        whole = [(classifiers[k], keys[k]) for k in members]
        start, key = _stack(whole) if stacked else whole[0]
        training = Training(
            start,
            dataset,
            optimizer=optimizer,
            epochs=epochs,
            key=key,
            masks=_stack_masks([masks[k] for k in members]) if stacked else masks[members[0]],
            options=_in_own_folder(options, members[0]),
            stacked=stacked,
        )

        def report(records, members=members):
            for k, record in zip(members, records, strict=True):
                if on_epoch is not None:
                    on_epoch(k, record)

        trained = training.whole(report)
        for k, classifier in zip(members, _unstack(trained) if stacked else [trained], strict=True):
            results[k] = classifier
    return results


def _check(classifiers, keys, masks, model_axis) -> None:
    if not len(classifiers):
        raise ValueError("no classifier was given; give one or more to train")
    if len(keys) != len(classifiers) or len(masks) != len(classifiers):
        raise ValueError(
            f"{len(classifiers)} classifiers, {len(keys)} keys and {len(masks)} masks; give one key per classifier, "
            f"such as jax.random.split(key, {len(classifiers)}), and one mask pytree or None"
        )
    if model_axis not in (None, *MODEL_AXES):
        raise ValueError(f"unknown model_axis {model_axis!r}; known: {', '.join(MODEL_AXES)}")


def _groups(classifiers, model_axis: str) -> list[list[int]]:
    """Returns the indices that are trained together: each alone, or those whose arrays can be stacked."""
    if model_axis == "loop":
        return [[k] for k in range(len(classifiers))]
    groups = {}
    for k, classifier in enumerate(classifiers):
        kind = (jax.tree.structure(classifier), *(leaf.shape for leaf in jax.tree.leaves(classifier)))
        groups.setdefault(kind, []).append(k)
    return list(groups.values())


@jax.jit
def _stack(trees: list) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _unstack(tree) -> list:
    count = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(operator.itemgetter(k), tree) for k in range(count)]


def _stack_masks(masks: list) -> PyTree | None:
    """Returns the masks stacked; where only some models prune a parameter, the others keep all of it."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    nothing = jax.tree.map(lambda leaf: None, given[0])

    def stack(*leaves):
        shape = next((np.shape(leaf) for leaf in leaves if leaf is not None), None)
        if shape is None:
            return None
        return jnp.stack([jnp.ones(shape, jnp.uint8) if leaf is None else jnp.asarray(leaf) for leaf in leaves])

    whole = [nothing if mask is None else mask for mask in masks]
    return jax.tree.map(stack, *whole, is_leaf=lambda leaf: leaf is None)


def _in_own_folder(options: Options, first: int) -> Options:
    if options.checkpoint_dir is None:
        return options
    return dataclasses.replace(options, checkpoint_dir=epath.Path(options.checkpoint_dir) / f"model_{first:03d}")
