"""Saves and restores a classifier of the `MODELS` table, its masks and some metadata, with orbax."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from jaxprune import models

FORMAT_VERSION = 1
_WEIGHTS, _DESCRIPTION = "weights", "description"
_ESSENTIAL_FILES = (f"{_DESCRIPTION}/metadata", f"{_WEIGHTS}/_METADATA", f"{_WEIGHTS}/manifest.ocdbt")
_LONGEST_CAUSE = 300  # characters of another library's message that are worth showing


class Checkpoint(NamedTuple):
    """A restored classifier, its masks (None if there were none) and the metadata given at saving."""

    classifier: models.Classifier
    masks: PyTree | None
    metadata: dict


def save(path, classifier: models.Classifier, *, masks: PyTree | None = None, metadata: dict | None = None) -> None:
    """Writes a checkpoint folder, whole or not at all; an existing one at `path` is replaced.

    Args:
      path: a folder, local or `gs://`.
      classifier: one that `models.create` or `models.from_torch` made, or a changed copy of such a one.
      masks: pytree shaped like its parameters, None where nothing is pruned.
      metadata: anything JSON can hold.

    Raises:
      ValueError: the classifier is not of the `MODELS` table, so that it could not be rebuilt.
    """
    if classifier.name not in models.MODELS:
        raise ValueError(
            f"a checkpoint can hold the models {', '.join(models.MODELS)}, not {classifier.name!r}; "
            f"save the params and batch_stats of your own module with orbax"
        )
    weights = {"params": classifier.params, "batch_stats": classifier.batch_stats}
    if masks is not None:
        # Every parameter gets a mask: orbax does not tell a None from a missing leaf. The names of the pruned ones
        # are kept in the description.
        weights["masks"] = jax.tree.map(_mask_or_ones, masks, classifier.params, is_leaf=lambda leaf: leaf is None)
    description = {
        "format_version": FORMAT_VERSION,
        "name": classifier.name,
        "num_classes": classifier.num_classes,
        "options": dict(classifier.options),
        "mean": np.asarray(classifier.mean).tolist(),
        "std": np.asarray(classifier.std).tolist(),
        "pruned_paths": None if masks is None else [jax.tree_util.keystr(path) for path, _ in _leaves(masks)],
        "metadata": metadata or {},
    }
    items = ocp.args.Composite(
        **{_WEIGHTS: ocp.args.StandardSave(weights), _DESCRIPTION: ocp.args.JsonSave(description)}
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(epath.Path(path).absolute(), items, force=True)


def load(path) -> Checkpoint:
    """Returns what `save` wrote to `path`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: the checkpoint is damaged, or of another format version.
    """
    path = epath.Path(path).absolute()
    if not (path / _DESCRIPTION).exists():
        raise FileNotFoundError(
            f"no jaxprune checkpoint at {path}: {_DESCRIPTION}/ is missing; give the folder that checkpoints.save wrote"
        )
    for file in _ESSENTIAL_FILES:
        # Asked first, because orbax reports a missing one in background threads too.
        if not (path / file).exists():
            raise ValueError(_damaged(path, f"{file} is missing"))
    description = _restore(path, _DESCRIPTION, ocp.args.JsonRestore())
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"the checkpoint at {path} has format version {version}; this release reads {FORMAT_VERSION}")
    weights = _restore(path, _WEIGHTS, ocp.args.StandardRestore(_abstract_weights(description)))
    classifier = models.assemble(
        description["name"],
        num_classes=description["num_classes"],
        params=weights["params"],
        batch_stats=weights["batch_stats"],
        mean=description["mean"],
        std=description["std"],
        **description["options"],
    )
    masks = None
    if description["pruned_paths"] is not None:
        pruned = set(description["pruned_paths"])
        masks = jax.tree_util.tree_map_with_path(
            lambda path, mask: mask if jax.tree_util.keystr(path) in pruned else None, weights["masks"]
        )
    return Checkpoint(classifier, masks, description["metadata"])


def _restore(path, item: str, how):
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(path, ocp.args.Composite(**{item: how}))[item]
    except (OSError, KeyError, TypeError, ValueError) as error:
        cause = str(error).split(" [")[0][:_LONGEST_CAUSE]  # tensorstore appends its whole specification
        raise ValueError(_damaged(path, cause)) from error


def _damaged(path, cause: str) -> str:
    return f"the checkpoint at {path} is damaged ({cause}); delete that folder and save it again"


def _abstract_weights(description: dict) -> PyTree:
    weights = models.abstract_state(
        description["name"],
        num_classes=description["num_classes"],
        in_channels=len(description["mean"]),
        **description["options"],
    )
    if description["pruned_paths"] is not None:
        weights["masks"] = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.uint8), weights["params"])
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), weights)


def _leaves(tree: PyTree):
    return jax.tree_util.tree_leaves_with_path(tree)


def _mask_or_ones(mask, param):
    return jnp.ones(param.shape, jnp.uint8) if mask is None else mask
