"""What `evaluate` refuses, and what several processes must agree on."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import models
from jaxprune.data import Dataset, StreamedDataset
from jaxprune.evaluation._run import Run, check_labels
from jaxprune.evaluation.plan import PlannedSet

MODEL_AXES = ("loop", "vmap")
NON_FINITE = ("refuse", "mark")


def check_options(batch_size, model_axis, non_finite) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; give a number of images of 1 or more")
    if model_axis is not None and model_axis not in MODEL_AXES:
        raise ValueError(f"unknown model_axis {model_axis!r}; known: {', '.join(map(repr, MODEL_AXES))}")
    if non_finite not in NON_FINITE:
        raise ValueError(f"unknown non_finite {non_finite!r}; known: {', '.join(NON_FINITE)}")


def check_classifiers(classifiers: Mapping[str, models.Classifier]) -> None:
    if not classifiers:
        raise ValueError("no classifier was given; give one, or a dict of name -> classifier")
    # Asked once per architecture: the answer takes building the module.
    image_sizes = {classifier.forward: classifier.image_size for classifier in _of_each_kind(classifiers).values()}
    for what, of in (
        ("numbers of classes", lambda classifier: classifier.num_classes),
        ("numbers of channels", lambda classifier: classifier.mean.shape[-1]),
        ("image sizes", lambda classifier: image_sizes[classifier.forward]),
    ):
        stated = {label: of(classifier) for label, classifier in classifiers.items() if of(classifier) is not None}
        if len(set(stated.values())) > 1:
            first, value = next(iter(stated.items()))
            other = next(label for label in stated if stated[label] != value)
            raise ValueError(
                f"classifiers of different {what} in one call: {first!r} {value}, {other!r} {stated[other]}; "
                f"evaluate them in separate calls"
            )


def _of_each_kind(classifiers: Mapping[str, models.Classifier]) -> dict[str, models.Classifier]:
    """Returns one classifier of each architecture."""
    return dict({classifier.forward: (label, classifier) for label, classifier in classifiers.items()}.values())


def check_images(classifiers: Mapping[str, models.Classifier], source: Dataset | StreamedDataset) -> None:
    if not len(source):
        raise ValueError(f"data set {source.name!r} ({source.split}) has no images; nothing can be measured on it")
    label, classifier = next(iter(classifiers.items()))
    if classifier.num_classes != source.num_classes:
        raise ValueError(
            f"classifier {label!r} has {classifier.num_classes} classes, data set {source.name!r} has "
            f"{source.num_classes}; evaluate a classifier on the classes it was trained for"
        )
    if classifier.mean.shape[-1] != source.image_shape[-1]:
        raise ValueError(
            f"classifier {label!r} takes images of {classifier.mean.shape[-1]} channels, those of {source.name!r} have "
            f"{source.image_shape[-1]}"
        )
    for label, classifier in _of_each_kind(classifiers).items():
        _check_size(label, classifier, source)
    if isinstance(source, Dataset):
        check_labels(source, source.labels)


def _check_size(label: str, classifier: models.Classifier, source: Dataset | StreamedDataset) -> None:
    shape = source.image_shape
    if classifier.image_size is None or shape[:2] == (classifier.image_size,) * 2:
        return
    stem = models.stem_for(classifier, max(shape[:2]))
    if stem is not None:
        warnings.warn(
            f"classifier {label!r} was made for images of {classifier.image_size} pixels, {source.name!r} has "
            f"{shape[0]} x {shape[1]}; stem={stem!r} is made for them: was it trained with that?",
            RuntimeWarning,
            stacklevel=4,
        )
    # Made for another size: most take it all the same, those with a fixed linear layer do not.
    images = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    try:
        jax.eval_shape(lambda x: classifier.apply(classifier.params, classifier.batch_stats, x)[0], images)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"classifier {label!r} was made for images of {classifier.image_size} pixels and does not take those of "
            f"{source.name!r}, {list(shape)}"
        ) from error


def fingerprint(
    run: Run, classifiers, planned: Iterable[PlannedSet], *, model_axis: str, precisions: Mapping[str, str]
) -> dict[str, str]:
    """Returns what all processes must agree on, by name."""
    weights = hashlib.sha256()
    for leaf in jax.tree.leaves(classifiers):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        weights.update(np.ascontiguousarray(jax.random.key_data(leaf) if is_key else leaf))
    images = hashlib.sha256()
    if isinstance(run.dataset, Dataset):  # a stream is known by its name and length alone
        images.update(np.ascontiguousarray(run.dataset.images))
        images.update(np.ascontiguousarray(run.dataset.labels))
    return {
        "classifiers": ", ".join(classifiers),
        "weights": weights.hexdigest()[:12],
        "images": f"{len(run.dataset)} of {run.dataset.name} ({images.hexdigest()[:12]})",
        "test sets": ", ".join(f"{each.name} {each.severity}" for each in planned),
        "key": "none" if run.key is None else str(np.asarray(jax.random.key_data(run.key)).tolist()),
        "batch_size": str(run.batch_size),
        "devices": ", ".join(map(str, run.mesh.devices.flat)),
        "model_axis": model_axis,
        "precision": ", ".join(precisions.values()),
        "frost_textures": "default" if run.textures is None else str(run.textures.provenance),
        # The folder may be called otherwise elsewhere; only one process writes.
        "keep_examples": "no" if run.keep is None else f"{run.keep.dtype}, probs={run.keep.probs}",
    }
