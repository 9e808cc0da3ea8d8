"""A classifier, its masks and some metadata as a folder that orbax writes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import PyTree

from jaxprune import models, own_files
from jaxprune.checkpoints.description import (
    assemble,
    describe,
    expected_weights,
    first_difference,
    refuse_other_version,
)

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
      ValueError: the classifier is not of the `MODELS` table, or has other shapes than its options say, so that it
        could not be rebuilt.
    """
    description = describe(classifier, masks=masks, metadata=metadata)
    weights = {"params": classifier.params, "batch_stats": classifier.batch_stats}
    if masks is not None:
        # Every parameter gets a mask: orbax does not tell a None from a missing leaf. The names of the pruned ones
        # are kept in the description.
        weights["masks"] = jax.tree.map(_mask_or_ones, masks, classifier.params, is_leaf=lambda leaf: leaf is None)
    items = ocp.args.Composite(
        **{_WEIGHTS: ocp.args.StandardSave(jax.device_get(weights)), _DESCRIPTION: ocp.args.JsonSave(description)}
    )
    with _checkpointer() as checkpointer:
        checkpointer.save(epath.Path(path).absolute(), items, force=True)


def load(path) -> Checkpoint:
    """Returns what `save` wrote to `path`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: the checkpoint is damaged, of another format version, or its arrays are not those of the network that
        it names; tells the first that differs.
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
    refuse_other_version(description, f"the checkpoint at {path}")
    expected = expected_weights(description)
    difference = first_difference(_stored_shapes(path), expected)
    if difference:
        raise ValueError(f"the checkpoint at {path} does not hold a {description['name']} as it says: {difference}")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    targets = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), expected)
    weights = _restore(path, _WEIGHTS, ocp.args.StandardRestore(targets))
    masks = None
    if description["pruned_paths"] is not None:
        pruned = set(description["pruned_paths"])
        masks = jax.tree_util.tree_map_with_path(
            lambda path, mask: mask if jax.tree_util.keystr(path) in pruned else None, weights["masks"]
        )
    return Checkpoint(assemble(description, weights), masks, description["metadata"])


def _stored_shapes(path) -> PyTree:
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.metadata(path).item_metadata[_WEIGHTS].tree
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(_damaged(path, _brief(error))) from error


def _restore(path, item: str, how):
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(path, ocp.args.Composite(**{item: how}))[item]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(_damaged(path, _brief(error))) from error


def _checkpointer():
    return own_files.checkpointer(own_files.handler(arrays=_WEIGHTS, json=_DESCRIPTION))


def _brief(error: Exception) -> str:
    return str(error).split(" [")[0][:_LONGEST_CAUSE]  # tensorstore appends its whole specification


def _damaged(path, cause: str) -> str:
    return f"the checkpoint at {path} is damaged ({cause}); delete that folder and save it again"


def _mask_or_ones(mask, param):
    return jnp.ones(param.shape, jnp.uint8) if mask is None else mask
