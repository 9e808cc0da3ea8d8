"""A classifier, its masks and some metadata as a folder that orbax writes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import PyTree

from jaxprune import files, models
from jaxprune.checkpoints import orbax_folder
from jaxprune.checkpoints.description import (
    FORMAT_VERSION,
    MASK_TYPE,
    assemble,
    check_arrays,
    describe,
    expected_weights,
    first_difference,
    refuse_other_version,
    unusual_types,
)
from jaxprune.checkpoints.orbax_folder import DamagedError

_WEIGHTS, _DESCRIPTION = "weights", "description"


class Checkpoint(NamedTuple):
    """A restored classifier, its masks (None if there were none) and the metadata given at saving."""

    classifier: models.Classifier
    masks: PyTree | None
    metadata: dict


def save(
    path,
    classifier: models.Classifier,
    *,
    masks: PyTree | None = None,
    metadata: dict | None = None,
    replace: bool = True,
) -> None:
    """Writes a checkpoint folder, whole or not at all, with a check sum of everything in it.

    Args:
      path: a folder, local or `gs://`; an empty one counts as nothing.
      classifier: one that `models.create` or `models.from_torch` made, or a changed copy of such a one. Its arrays come
        back in the types that they have: float32, bfloat16 or float16.
      masks: pytree shaped like its parameters, 0 and 1, None where nothing is pruned.
      metadata: anything JSON can hold.
      replace: whether a checkpoint folder of jaxprune's at `path`, with nothing else in it, gives way to the new one.

    Raises:
      ValueError: an empty path; the classifier is not of the `MODELS` table, or has other shapes or types than its
        options say, so that it could not be rebuilt; masks of another network, or with other values.
      FileExistsError: something is at `path` that may not be replaced; or another process wrote there meanwhile.
      OSError: the folder could not be written, as on a full disk; what was at `path` still is.
    """
    path = files.check_output(path, what="checkpoint folder", is_ours=_is_ours if replace else None)
    description, weights = describe(classifier, masks=masks, metadata=metadata)
    # What was not there when it was asked about is not replaced.
    orbax_folder.write(path, _WEIGHTS, _with_all_masks(weights, np.ones), description, replace=files.is_there(path))


def load(path) -> Checkpoint:
    """Returns what `save` wrote to `path`.

    Folders from before there were check sums are read too; there, damage that leaves shapes and types passes.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: the checkpoint is damaged, of another format version, or its arrays are not of the shapes and types of
        the network that it names, or not finite; tells the first that differs.
    """
    path = epath.Path(path).absolute()
    if not (path / _DESCRIPTION).exists():
        raise FileNotFoundError(
            f"no jaxprune checkpoint at {path}: {_DESCRIPTION}/ is missing; give the folder that checkpoints.save wrote"
        )
    try:
        return _load(path)
    except DamagedError as damage:
        raise ValueError(
            f"the checkpoint at {path} is damaged ({damage}); delete that folder and save it again"
        ) from damage


def _load(path: epath.Path) -> Checkpoint:
    description = orbax_folder.read_description(path)
    refuse_other_version(description, f"the checkpoint at {path}")
    orbax_folder.check_seal(description)
    stored = orbax_folder.stored_arrays(path, _WEIGHTS)
    if "dtypes" not in description:
        description["dtypes"] = unusual_types(stored, expected_weights(description))
    expected = expected_weights(description)
    difference = first_difference(stored, _with_all_masks(expected, jax.ShapeDtypeStruct))
    if difference:
        raise ValueError(f"the checkpoint at {path} does not hold a {description['name']} as it says: {difference}")
    weights = orbax_folder.read_arrays(path, _WEIGHTS, _with_all_masks(expected, jax.ShapeDtypeStruct))
    weights = jax.tree.map(
        lambda wanted, leaf: None if wanted is None else leaf, expected, weights, is_leaf=lambda leaf: leaf is None
    )
    check_arrays(description, weights)
    weights = jax.tree.map(jnp.asarray, weights)
    classifier = assemble(description, weights)
    models.check_finite(classifier, f"the checkpoint at {path}")
    return Checkpoint(classifier, weights.get("masks"), description["metadata"])


def _with_all_masks(weights: PyTree, new) -> PyTree:
    """Returns the weights with `new(shape, type)` for masks that are None: orbax takes a None for a missing leaf."""
    if "masks" not in weights:
        return weights
    masks = jax.tree.map(
        lambda param, mask: new(param.shape, jnp.dtype(MASK_TYPE)) if mask is None else mask,
        weights["params"],
        weights["masks"],
    )
    return weights | {"masks": masks}


def _is_ours(path: epath.Path) -> bool:
    """Returns whether a checkpoint folder of jaxprune's, or an empty folder, is at `path`.

    Raises:
      FileExistsError: it is one, but holds a file of somebody else's, which is named.
    """
    if not path.is_dir():
        return False
    if next(path.iterdir(), None) is None:
        return True
    try:
        description = orbax_folder.read_description(path)
    except DamagedError:
        return False
    if description.get("format_version") != FORMAT_VERSION or description.get("name") not in models.MODELS:
        return False
    foreign = orbax_folder.foreign_file(path, _WEIGHTS)
    if foreign is not None:
        raise FileExistsError(
            f"the checkpoint folder {path} holds {foreign}, which jaxprune did not write and would delete; "
            f"give another path, or move that file away"
        )
    return True
