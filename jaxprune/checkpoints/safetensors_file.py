"""A classifier as one safetensors file, which other frameworks read too."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import PyTree

from jaxprune import models
from jaxprune.checkpoints.description import (
    assemble,
    describe,
    expected_weights,
    first_difference,
    refuse_other_version,
)
from jaxprune.checkpoints.folder import Checkpoint

_DESCRIPTION = "jaxprune"
_HEADER_SIZE_BYTES = 8  # a little-endian count of the header's bytes precedes the header


def export_safetensors(path, classifier: models.Classifier, *, masks: PyTree | None = None) -> None:
    """Writes a classifier of the `MODELS` table as a safetensors file, whole or not at all.

    Arrays have flat, dotted names, `params.conv.kernel`, `batch_stats.bn.mean`, and for the pruned parameters
    `masks.conv.kernel` (uint8, 1 = keep). They are as Flax holds them: convolutions [height, width, in, out], linear
    layers [in, out]. The metadata entry `jaxprune` is a JSON text that says which network it is.

    Args:
      path: a file, local or `gs://`; replaced if it exists.
      classifier: one that `models.create` or `models.from_torch` made, or a changed copy of such a one.
      masks: pytree shaped like its parameters, None where nothing is pruned.

    Raises:
      ValueError: as for `save`.
      ImportError: the package safetensors is missing.
    """
    safetensors = _import_safetensors()
    description = describe(classifier, masks=masks, metadata=None)
    weights = {"params": classifier.params, "batch_stats": classifier.batch_stats}
    if masks is not None:
        weights["masks"] = masks
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in _dotted_leaves(jax.device_get(weights))}
    content = safetensors.numpy.save(arrays, metadata={_DESCRIPTION: json.dumps(description)})
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_bytes(content)
    temporary.replace(path)


def load_safetensors(path) -> Checkpoint:
    """Returns what `export_safetensors` wrote: the classifier and its masks, None if there were none.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, one that jaxprune did not write, another format version, or arrays that are not those
        of the network that it names; tells the first that differs.
      ImportError: the package safetensors is missing.
    """
    safetensors = _import_safetensors()
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file at {path}; give one that checkpoints.export_safetensors wrote")
    content = path.read_bytes()
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no intact safetensors file ({error}); export it again") from error
    description = _description(content)
    if description is None:
        raise ValueError(
            f"{path} does not say which network it holds; load_safetensors reads files that "
            f"checkpoints.export_safetensors wrote"
        )
    refuse_other_version(description, str(path))
    expected = expected_weights(description | {"pruned_paths": None})
    if description["pruned_paths"] is not None:
        expected["masks"] = _expected_masks(expected["params"], set(description["pruned_paths"]))
    names = dict(_dotted_leaves(expected))
    difference = first_difference(arrays, names)
    if difference:
        raise ValueError(f"{path} does not hold a {description['name']} as it says: {difference}")
    leaves = [jnp.asarray(arrays[name]) for name in names]
    weights = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    return Checkpoint(assemble(description, weights), weights.get("masks"), description["metadata"])


def _expected_masks(params: PyTree, pruned: set[str]) -> PyTree:
    """Returns the shapes of the masks in the file: those of the pruned parameters, None for the others."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jax.ShapeDtypeStruct(leaf.shape, jnp.uint8) if jax.tree_util.keystr(path) in pruned else None
        ),
        params,
    )


def _description(content: bytes) -> dict | None:
    size = int.from_bytes(content[:_HEADER_SIZE_BYTES], "little")
    header = json.loads(content[_HEADER_SIZE_BYTES : _HEADER_SIZE_BYTES + size])
    try:
        return json.loads(header["__metadata__"][_DESCRIPTION])
    except (KeyError, json.JSONDecodeError):
        return None


def _dotted_leaves(tree: PyTree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def _import_safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("safetensors is not installed; pip install safetensors") from error
    return safetensors
