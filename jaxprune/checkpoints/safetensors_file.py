"""A classifier as one safetensors file, which other frameworks read too."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import PyTree

from jaxprune import files, models
from jaxprune.checkpoints import orbax_folder
from jaxprune.checkpoints.description import (
    assemble,
    check_arrays,
    describe,
    expected_weights,
    first_difference,
    refuse_other_version,
    unusual_types,
)
from jaxprune.checkpoints.folder import Checkpoint
from jaxprune.checkpoints.orbax_folder import DamagedError

_DESCRIPTION = "jaxprune"
_HEADER_SIZE_BYTES = 8  # a little-endian count of the header's bytes precedes the header
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
# The format's names of types; others, such as F8_E4M3, no network here is kept in.
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"}
_TYPES |= {f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}


def export_safetensors(path, classifier: models.Classifier, *, masks: PyTree | None = None) -> None:
    """Writes a classifier of the `MODELS` table as a safetensors file, whole or not at all.

    Arrays have flat, dotted names, `params.conv.kernel`, `batch_stats.bn.mean`, and for the pruned parameters
    `masks.conv.kernel` (uint8, 1 = keep). They are as Flax holds them: convolutions [height, width, in, out], linear
    layers [in, out]. The metadata entry `jaxprune` is a JSON text that says which network it is.

    Args:
      path: a file, local or `gs://`; one that jaxprune wrote is replaced.
      classifier: one that `models.create` or `models.from_torch` made, or a changed copy of such a one.
      masks: pytree shaped like its parameters, 0 and 1, None where nothing is pruned.

    Raises:
      ValueError: as for `save`.
      FileExistsError: something is at `path` that jaxprune did not write.
      OSError: the file could not be written, as on a full disk; what was at `path` still is.
      ImportError: the package safetensors is missing.
    """
    safetensors = _import_safetensors()
    path = files.check_output(path, what="safetensors file", is_ours=_is_ours)
    is_new = not files.is_there(path)
    description, weights = describe(classifier, masks=masks, metadata=None)
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in _dotted_leaves(weights)}
    content = safetensors.numpy.save(arrays, metadata={_DESCRIPTION: json.dumps(orbax_folder.seal(description))})
    files.write(path, content, exclusive=is_new)


def load_safetensors(path) -> Checkpoint:
    """Returns what `export_safetensors` wrote: the classifier and its masks, None if there were none.

    Files from before there were check sums are read too; there, damage that leaves shapes and types passes.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, one that jaxprune did not write, another format version, or arrays that are not of the
        shapes and types of the network that it names, or not finite; tells the first that differs.
      ImportError: the package safetensors is missing.
    """
    safetensors = _import_safetensors()
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file at {path}; give one that checkpoints.export_safetensors wrote")
    content = path.read_bytes()
    try:
        arrays = {name: _array(name, **stored) for name, stored in safetensors.deserialize(content)}
        return _checkpoint(path, arrays, _description(content))
    except (safetensors.SafetensorError, DamagedError) as error:
        raise ValueError(f"{path} is no intact safetensors file ({error}); export it again") from error


def _checkpoint(path: epath.Path, arrays: dict[str, np.ndarray], description: dict | None) -> Checkpoint:
    if description is None:
        raise ValueError(
            f"{path} does not say which network it holds; load_safetensors reads files that "
            f"checkpoints.export_safetensors wrote"
        )
    refuse_other_version(description, str(path))
    orbax_folder.check_seal(description)
    if "dtypes" not in description:
        usual = expected_weights(description)
        found = jax.tree_util.tree_map_with_path(lambda place, _: arrays.get(_dotted(place)), usual)
        description["dtypes"] = unusual_types(found, usual)
    expected = expected_weights(description)
    names = dict(_dotted_leaves(expected))
    difference = first_difference(arrays, names)
    if difference:
        raise ValueError(f"{path} does not hold a {description['name']} as it says: {difference}")
    weights = jax.tree.unflatten(jax.tree.structure(expected), [arrays[name] for name in names])
    check_arrays(description, weights)
    weights = jax.tree.map(jnp.asarray, weights)
    classifier = assemble(description, weights)
    models.check_finite(classifier, str(path))
    return Checkpoint(classifier, weights.get("masks"), description["metadata"])


def _array(name: str, *, dtype: str, shape: list[int], data: Any) -> np.ndarray:
    if dtype not in _TYPES:
        raise DamagedError(f"{name} is of type {dtype}, in which no network is kept")
    return np.frombuffer(data, jnp.dtype(_TYPES[dtype])).reshape(shape)


def _description(content: bytes) -> dict | None:
    size = int.from_bytes(content[:_HEADER_SIZE_BYTES], "little")
    try:
        header = json.loads(content[_HEADER_SIZE_BYTES : _HEADER_SIZE_BYTES + size].decode())
        description = json.loads(header["__metadata__"][_DESCRIPTION])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return description if isinstance(description, dict) else None


def _is_ours(path: epath.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        size = file.read(_HEADER_SIZE_BYTES)
        header = file.read(min(int.from_bytes(size, "little"), _LONGEST_HEADER))
    description = _description(size + header)
    return description is not None and "format_version" in description and description.get("name") in models.MODELS


def _dotted_leaves(tree: PyTree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield _dotted(path), leaf


def _dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _import_safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("safetensors is not installed; pip install safetensors") from error
    return safetensors
