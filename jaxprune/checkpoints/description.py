"""What a checkpoint says of its classifier beside the arrays, as JSON, and the classifier that follows from it."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprune import models

FORMAT_VERSION = 1


def describe(classifier: models.Classifier, *, masks: PyTree | None, metadata: dict | None) -> dict:
    """Returns all that is needed beside the weights to rebuild the classifier.

    Raises:
      ValueError: the classifier is not of the `MODELS` table, or its weights are not of the shapes its options say.
    """
    if classifier.name not in models.MODELS:
        raise ValueError(
            f"a checkpoint can hold the models {', '.join(models.MODELS)}, not {classifier.name!r}; "
            f"save the params and batch_stats of your own module with orbax"
        )
    description = {
        "format_version": FORMAT_VERSION,
        "name": classifier.name,
        "num_classes": classifier.num_classes,
        "options": dict(classifier.options),
        "mean": np.asarray(classifier.mean).tolist(),
        "std": np.asarray(classifier.std).tolist(),
        "temperature": None if classifier.temperature is None else float(classifier.temperature),
        "pruned_paths": None if masks is None else [path for path, _ in named_leaves(masks)],
        "metadata": metadata or {},
    }
    weights = {"params": classifier.params, "batch_stats": classifier.batch_stats}
    expected = expected_weights(description | {"pruned_paths": None})
    difference = first_difference(weights, expected)
    if difference:
        raise ValueError(
            f"the weights of this {classifier.name} do not fit the options it was created with ({difference}); "
            f"rebuild it with classifier.with_widths(...) or models.assemble(...), then replace its weights"
        )
    return description


def expected_weights(description: dict) -> PyTree:
    """Returns the shapes and types of the arrays that belong to a description: params, batch_stats, and any masks."""
    weights = dict(
        _abstract_state(
            description["name"],
            description["num_classes"],
            len(description["mean"]),
            json.dumps(description["options"], sort_keys=True),
        )
    )
    if description["pruned_paths"] is not None:
        weights["masks"] = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.uint8), weights["params"])
    return weights


@functools.lru_cache(maxsize=64)
def _abstract_state(name: str, num_classes: int, in_channels: int, options: str) -> dict:
    # Tracing a deep network takes seconds, and a study saves the same architecture many times.
    return models.abstract_state(name, num_classes=num_classes, in_channels=in_channels, **json.loads(options))


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


def first_difference(found: PyTree, expected: PyTree) -> str | None:
    """Returns the first array that is missing, too many or of another shape, in words; None if all agree."""
    found, expected = dict(named_leaves(found)), dict(named_leaves(expected))
    for name, leaf in expected.items():
        if name not in found:
            return f"{name} is missing"
        if tuple(found[name].shape) != tuple(leaf.shape):
            return f"{name} has shape {list(found[name].shape)} instead of {list(leaf.shape)}"
    return next((f"{name} is not part of the network" for name in found if name not in expected), None)


def named_leaves(tree: PyTree):
    """Yields each leaf with its path, such as `['conv']['kernel']`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf
