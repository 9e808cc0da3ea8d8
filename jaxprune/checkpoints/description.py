"""What a checkpoint says of its classifier beside the arrays, as JSON, and the classifier that follows from it.

The arrays are `params`, `batch_stats` and, where there are masks, `masks`: a tree shaped like the parameters, None
where nothing is pruned. The description holds a check sum of each, and the types of those that are not as the
architecture has them. Descriptions from before there were either have neither, and are believed.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprune import files, models
from jaxprune.checkpoints.orbax_folder import DamagedError, brief

FORMAT_VERSION = 1
# What parameters and statistics of a float32 architecture may be kept as.
FLOAT_TYPES = ("float32", "bfloat16", "float16")
MASK_TYPE = "uint8"


def describe(classifier: models.Classifier, *, masks: PyTree | None, metadata: dict | None) -> tuple[dict, PyTree]:
    """Returns all that is needed beside the weights to rebuild the classifier, and the weights and masks on the host.

    Raises:
      ValueError: the classifier is not of the `MODELS` table, its weights are not of the shapes and types that its
        options say, or the masks are not 0 and 1 and shaped like its parameters.
      TypeError: the metadata cannot be kept as JSON.
    """
    if classifier.name not in models.MODELS:
        raise ValueError(
            f"a checkpoint can hold the models {', '.join(models.MODELS)}, not {classifier.name!r}; "
            f"save the params and batch_stats of your own module with orbax"
        )
    weights = {"params": classifier.params, "batch_stats": classifier.batch_stats}
    if masks is not None:
        weights["masks"] = _masks_like(classifier.params, masks)
    weights = jax.device_get(weights)
    description = {
        "format_version": FORMAT_VERSION,
        "name": classifier.name,
        "num_classes": classifier.num_classes,
        "options": dict(classifier.options),
        "mean": np.asarray(classifier.mean).tolist(),
        "std": np.asarray(classifier.std).tolist(),
        "temperature": None if classifier.temperature is None else float(classifier.temperature),
        "pruned_paths": None if masks is None else [path for path, _ in named_leaves(weights["masks"])],
        "metadata": metadata or {},
    }
    description["dtypes"] = unusual_types(weights, expected_weights(description))
    difference = first_difference(weights, expected_weights(description))
    if difference:
        raise ValueError(
            f"the weights of this {classifier.name} do not fit the options it was created with ({difference}); "
            f"rebuild it with classifier.with_widths(...) or models.assemble(...), then replace its weights"
        )
    description["checksums"] = {name: _sum_of(leaf) for name, leaf in named_leaves(weights)}
    try:
        json.dumps(description)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the metadata of a checkpoint must be what JSON can hold: {error}") from error
    return description, weights


def expected_weights(description: dict) -> PyTree:
    """Returns the shapes and types of the arrays that belong to a description: params, batch_stats, and any masks.

    Raises:
      DamagedError: no network of the `MODELS` table is as the description says.
    """
    try:
        return _expected_weights(description)
    except Exception as error:  # whatever a description that no network has makes its constructor raise
        raise DamagedError(f"no network is as its description says: {brief(error)}") from error


def _expected_weights(description: dict) -> PyTree:
    options = json.dumps(description["options"], sort_keys=True)
    weights = dict(_abstract_state(description["name"], description["num_classes"], len(description["mean"]), options))
    types = description.get("dtypes", {})
    unknown = sorted(set(types.values()) - set(FLOAT_TYPES))
    if unknown:
        raise ValueError(f"arrays of type {', '.join(unknown)}; known: {', '.join(FLOAT_TYPES)}")
    weights = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(
            leaf.shape, jnp.dtype(types.get(jax.tree_util.keystr(path), leaf.dtype))
        ),
        weights,
    )
    if description["pruned_paths"] is not None:
        weights["masks"] = _expected_masks(weights["params"], set(description["pruned_paths"]))
    return weights


def _expected_masks(params: PyTree, pruned: set[str]) -> PyTree:
    unknown = sorted(pruned - {name for name, _ in named_leaves(params)})
    if unknown:
        raise ValueError(f"a mask of {unknown[0]}, which is no parameter")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(MASK_TYPE)) if jax.tree_util.keystr(path) in pruned else None
        ),
        params,
    )


@functools.lru_cache(maxsize=64)
def _abstract_state(name: str, num_classes: int, in_channels: int, options: str) -> dict:
    # Tracing a deep network takes seconds, and a study saves the same architecture many times.
    return models.abstract_state(name, num_classes=num_classes, in_channels=in_channels, **json.loads(options))


def unusual_types(found: PyTree, expected: PyTree) -> dict[str, str]:
    """Returns the types of the floating-point arrays that are kept in another one than their architecture's."""
    usual = dict(named_leaves(expected))
    return {
        name: str(leaf.dtype)
        for name, leaf in named_leaves(found)
        if name in usual
        and str(usual[name].dtype) in FLOAT_TYPES
        and str(leaf.dtype) in FLOAT_TYPES
        and leaf.dtype != usual[name].dtype
    }


def first_difference(found: PyTree, expected: PyTree) -> str | None:
    """Returns the first array that is missing, too many or of another shape or type, in words; None if all agree."""
    found, expected = dict(named_leaves(found)), dict(named_leaves(expected))
    for name, leaf in expected.items():
        if name not in found:
            return f"{name} is missing"
        if tuple(found[name].shape) != tuple(leaf.shape):
            return f"{name} has shape {list(found[name].shape)} instead of {list(leaf.shape)}"
        if found[name].dtype != leaf.dtype:
            known = "" if leaf.dtype == MASK_TYPE else f" (networks are kept in {', '.join(FLOAT_TYPES)})"
            return f"{name} is {found[name].dtype} instead of {leaf.dtype}{known}"
    return next((f"{name} is not part of the network" for name in found if name not in expected), None)


def check_arrays(description: dict, weights: PyTree) -> None:
    """Raises a DamagedError if an array is not the one that was saved, or a mask holds other values than 0 and 1."""
    checksums = description.get("checksums")
    for name, leaf in named_leaves(weights):
        if checksums is not None and checksums.get(name) != _sum_of(leaf):
            raise DamagedError(f"the check sum of {name} is wrong")
    for name, mask in named_leaves(weights.get("masks")):
        if (mask > 1).any():
            raise DamagedError(f"the mask of {name} has other values than 0 and 1")


def assemble(description: dict, weights: PyTree) -> models.Classifier:
    """Returns the classifier of a description with the given weights."""
    classifier = models.assemble(
        description["name"],
        num_classes=description["num_classes"],
        params=weights["params"],
        batch_stats=weights["batch_stats"],
        mean=description["mean"],
        std=description["std"],
        **description["options"],
    )
    temperature = description.get("temperature")  # descriptions from before it was kept have none
    return classifier if temperature is None else classifier.replace(temperature=jnp.float32(temperature))


def refuse_other_version(description: dict, where: str) -> None:
    """Raises a ValueError for a description of another format version."""
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{where} has format version {version}; this release reads {FORMAT_VERSION}")


def _masks_like(params: PyTree, masks: PyTree) -> PyTree:
    """Returns masks as uint8 on the host, after making sure that they are masks of these parameters."""
    shapes = {name: leaf.shape for name, leaf in named_leaves(params)}
    given = dict(named_leaves(jax.device_get(masks), with_none=True))
    odd = next(iter([*(given.keys() - shapes.keys()), *(shapes.keys() - given.keys())]), None)
    if odd is not None:
        there, here = ("masks", "parameters") if odd in given else ("parameters", "masks")
        raise ValueError(f"the {there} have {odd}, the {here} do not; give the masks of this network")
    for name, mask in given.items():
        if mask is None:
            continue
        if np.shape(mask) != shapes[name]:
            raise ValueError(
                f"the mask of {name} has shape {list(np.shape(mask))}, its parameter {list(shapes[name])}; "
                f"give the masks of this network"
            )
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"the mask of {name} has other values than 0 and 1; give 1 = keep, 0 = pruned")
    return jax.tree_util.tree_map_with_path(
        lambda path, _: (
            None
            if given[jax.tree_util.keystr(path)] is None
            else np.asarray(given[jax.tree_util.keystr(path)]).astype(MASK_TYPE)
        ),
        params,
    )


def _sum_of(array) -> str:
    return files.checksum(np.ascontiguousarray(array).tobytes())


def named_leaves(tree: PyTree, *, with_none: bool = False):
    """Yields each leaf with its path, such as `['conv']['kernel']`."""
    is_leaf = (lambda leaf: leaf is None) if with_none else None
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf):
        yield jax.tree_util.keystr(path), leaf
