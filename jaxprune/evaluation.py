"""Corrupt, classify, measure: several classifiers on the clean and the corrupted versions of one data set."""

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Key

from jaxprune import corruptions as corruption_room
from jaxprune import metrics, models, sharding
from jaxprune.data import Dataset

CLEAN = "clean"
SEVERITIES = (1, 2, 3, 4, 5)
BATCH_SIZE = 1000
_DATA = PartitionSpec(sharding.DATA_AXIS)
_EVERYWHERE = PartitionSpec()


def evaluate(
    classifiers: models.Classifier | Mapping[str, models.Classifier],
    dataset: Dataset,
    *,
    key: Key[Array, ""],
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    clean: bool = True,
    batch_size: int = BATCH_SIZE,
    devices: Sequence[jax.Device] | None = None,
    model_axis: str | None = None,
    frost_textures: corruption_room.FrostTextures | None = None,
    on_test_set: Callable[[str, int], None] | None = None,
) -> list[dict]:
    """Returns one row per test set and classifier: `metrics.summarize_examples` and the accuracy's 95 % interval.

    A test set is the clean data set or one (corruption, severity) of it. Each is generated on the devices once and
    shown to all classifiers; per-example statistics stay there, and one transfer per test set brings the metrics.
    The pixels depend on `key`, the corruption, the severity and the image's index alone: never on the batch size, the
    classifiers or the devices. The last batch is padded, and the padding never counts.

    Args:
      classifiers: one classifier, or several by name.
      dataset: the images and labels.
      key: seeds the corruptions' randomness.
      corruptions: names; by default all of `COMMON_CORRUPTIONS`; an empty sequence for clean images only.
      severities: integers in 1..5.
      clean: whether the uncorrupted images are a test set too (row with corruption "clean", severity 0).
      batch_size: images per step, rounded up to a multiple of the number of devices.
      devices: by default all; the images of a batch are split among them.
      model_axis: "loop" runs classifiers one after another, "vmap" stacks those of one architecture; by default
        "loop" on CPU, where stacked convolutions are slow, and "vmap" elsewhere.
      frost_textures: what frost is cropped from, by default `FrostTextures.procedural()`.
      on_test_set: called with (corruption, severity) after each test set, for progress display.

    Raises:
      ValueError: no classifier, no image, an unknown corruption or severity, class counts that differ from the data
        set's, or an unknown `model_axis`.
    """
    if isinstance(classifiers, models.Classifier):
        classifiers = {classifiers.name: classifiers}
    names = corruption_room.COMMON_CORRUPTIONS if corruptions is None else tuple(corruptions)
    _check(classifiers, dataset, names, severities, model_axis)
    mesh = sharding.data_mesh(devices)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    model_axis = model_axis or ("loop" if on_cpu else "vmap")
    micro_batch = models.CPU_MICRO_BATCH if on_cpu else batch_size
    groups = [sharding.replicate(group, mesh) for group in _groups(classifiers, model_axis)]
    batch_size = sharding.round_up(min(batch_size, len(dataset)), mesh)
    batches = list(_device_batches(dataset, batch_size, mesh))

    test_sets = [(CLEAN, 0)] * clean + [(name, severity) for name in names for severity in severities]
    rows = []
    for name, severity in test_sets:
        # Part of frost's compilation only.
        textures = frost_textures if name == "frost" else None
        set_key = sharding.replicate(test_set_key(key, name, severity), mesh)
        parts = [[] for _ in groups]
        for index, (images, labels) in enumerate(batches):
            if name != CLEAN:
                first_index = jnp.asarray(index * batch_size)
                images = _corrupt(
                    set_key, images, first_index, jnp.asarray(severity), name=name, textures=textures, mesh=mesh
                )
            for group, part in zip(groups, parts, strict=True):
                part.append(_classify(group, images, labels, mesh=mesh, micro_batch=micro_batch))
        summaries = jax.device_get([_summarize(part, len(dataset)) for part in parts])
        rows += _rows(summaries, list(classifiers), name, severity, len(dataset))
        if on_test_set is not None:
            on_test_set(name, severity)
    return rows


def test_set_key(key: Key[Array, ""], name: str, severity: int) -> Key[Array, ""]:
    """Returns the key of one corrupted test set, from the run's key, the corruption's name and the severity."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), severity)


def _check(classifiers, dataset, names, severities, model_axis) -> None:
    if not classifiers:
        raise ValueError("no classifier was given; give one, or a dict of name -> classifier")
    if not len(dataset):
        raise ValueError(f"data set {dataset.name!r} ({dataset.split}) has no images; nothing can be measured on it")
    for label, classifier in classifiers.items():
        if classifier.num_classes != dataset.num_classes:
            raise ValueError(
                f"classifier {label!r} has {classifier.num_classes} classes, data set {dataset.name!r} has "
                f"{dataset.num_classes}; evaluate a classifier on the classes it was trained for"
            )
    check_corruptions(names, severities)
    if model_axis not in (None, "loop", "vmap"):
        raise ValueError(f"unknown model_axis {model_axis!r}; known: 'loop', 'vmap'")


def check_corruptions(names: Sequence[str], severities: Sequence[int]) -> None:
    """Raises a ValueError for an unknown corruption or a severity outside 1..5."""
    known = corruption_room.CORRUPTIONS
    for name in names:
        if name not in known:
            raise ValueError(f"unknown corruption {name!r}; known: {', '.join(known)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r} is outside 1..5; give integers from 1 (mild) to 5 (strong)")


def _groups(classifiers: Mapping[str, models.Classifier], model_axis: str) -> list[models.Classifier]:
    """Returns classifiers with a leading model axis: singles for "loop", one stack if possible for "vmap"."""
    everyone = list(classifiers.values())
    same_kind = len({(jax.tree.structure(c), tuple(leaf.shape for leaf in jax.tree.leaves(c))) for c in everyone}) == 1
    if model_axis == "vmap" and same_kind:
        return [jax.tree.map(lambda *leaves: jnp.stack(leaves), *everyone)]
    return [jax.tree.map(lambda leaf: leaf[None], classifier) for classifier in everyone]


def _device_batches(dataset: Dataset, batch_size: int, mesh: Mesh) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(dataset), batch_size):
        rows = slice(start, start + batch_size)
        batch = (dataset.images[rows], dataset.labels[rows])
        yield sharding.split_rows(tuple(sharding.pad_rows(array, batch_size) for array in batch), mesh)


@functools.partial(jax.jit, static_argnames=("name", "textures", "mesh"))
def _corrupt(key, images, first_index, severity, *, name: str, textures, mesh: Mesh):
    def local(key, images, first_index, severity):
        first_here = first_index + jax.lax.axis_index(sharding.DATA_AXIS) * len(images)
        return corruption_room.corrupt(
            key, images, name=name, severity=severity, first_index=first_here, frost_textures=textures
        )

    specs = (_EVERYWHERE, _DATA, _EVERYWHERE, _EVERYWHERE)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=_DATA, check_vma=False)(
        key, images, first_index, severity
    )


@functools.partial(jax.jit, static_argnames=("mesh", "micro_batch"))
def _classify(stack, images, labels, *, mesh: Mesh, micro_batch: int) -> metrics.ExampleStatistics:
    """Returns the statistics `[models, images]` of a stack of classifiers."""

    def one(classifier, images, labels):
        def piece(images_and_labels):
            images, labels = images_and_labels
            logits, _ = classifier.apply(classifier.params, classifier.batch_stats, images)
            return metrics.example_statistics(logits, labels, from_logits=True)

        return models.map_batch(piece, (images, labels), micro_batch)

    def local(stack, images, labels):
        if len(stack.mean) == 1:  # without the vmap, which would make convolutions grouped
            alone = one(jax.tree.map(lambda leaf: leaf[0], stack), images, labels)
            return jax.tree.map(lambda leaf: leaf[None], alone)
        return jax.vmap(one, in_axes=(0, None, None))(stack, images, labels)

    out_specs = PartitionSpec(None, sharding.DATA_AXIS)
    return jax.shard_map(local, mesh=mesh, in_specs=(_EVERYWHERE, _DATA, _DATA), out_specs=out_specs, check_vma=False)(
        stack, images, labels
    )


@functools.partial(jax.jit, static_argnums=1)
def _summarize(parts: list[metrics.ExampleStatistics], count: int) -> dict[str, Array]:
    """Returns each metric `[models]` over the first `count` examples of the batches' statistics."""
    whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1)[:, :count], *parts)

    def one(statistics):
        summary = metrics.summarize_examples(statistics)
        num_correct = jnp.sum(statistics.correct, dtype=jnp.int32)
        low, high = metrics.wilson_interval(num_correct, count)
        return summary | {"num_correct": num_correct, "accuracy_low": low, "accuracy_high": high}

    return jax.lax.map(one, whole)


def _rows(summaries, names, corruption, severity, count) -> list[dict]:
    merged = {metric: np.concatenate([summary[metric] for summary in summaries]) for metric in summaries[0]}
    num_correct = merged.pop("num_correct")
    rows = []
    for index, name in enumerate(names):
        # The shortest decimal that gives the float32 back, not the digits of its float64 copy.
        values = {metric: float(str(column[index])) for metric, column in merged.items()}
        exact = {"num_correct": int(num_correct[index]), "accuracy": int(num_correct[index]) / count}
        rows.append(
            {"classifier": name, "corruption": corruption, "severity": int(severity), "n": count} | values | exact
        )
    return rows
