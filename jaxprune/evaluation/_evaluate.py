"""`evaluate`: every test set once on the devices, every classifier on it, one row for each."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from jaxprune import corruptions as corruption_room
from jaxprune import models
from jaxprune.data import Dataset, StreamedDataset
from jaxprune.devices import placement, processes
from jaxprune.evaluation._arguments import check_classifiers, check_images, check_options, fingerprint
from jaxprune.evaluation._run import Group, Run, group_classifiers, measure
from jaxprune.evaluation._streams import Streams
from jaxprune.evaluation.examples import KeepExamples, check_examples_paths, examples_of, save_examples
from jaxprune.evaluation.plan import PlannedSet, check_labels_agree, plan_test_sets

BATCH_SIZE = 1000


def evaluate(
    classifiers: models.Classifier | Mapping[str, models.Classifier],
    dataset: Dataset | StreamedDataset,
    *,
    key: Key[Array, ""] | None = None,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    clean: bool = True,
    corrupted: Any = None,
    batch_size: int = BATCH_SIZE,
    devices: Sequence[jax.Device] | None = None,
    model_axis: str | None = None,
    precision: str | None = None,
    frost_textures: corruption_room.FrostTextures | None = None,
    keep_examples: Any = None,
    non_finite: str = "refuse",
    on_test_set: Callable[[str, int], None] | None = None,
    compute_dtype: str | None = None,
) -> list[dict]:
    """Returns one row per test set and classifier: `metrics.summarize_examples` and the accuracy's 95 % interval.

    A test set is the clean data set, one (corruption, severity) of it, or one that `corrupted` gives. Each is
    generated on the devices once (or read once) and shown to all classifiers; per-example statistics stay there, and
    one transfer per test set brings the metrics. The pixels depend on `key`, the corruption, the severity and the
    image's index alone: never on the batch size, the classifiers, the devices or the processes. Batches are padded to
    one size, and the padding never counts.

    A classifier with a NaN or infinite parameter or statistic is refused, or measured like one that returns NaN or
    infinite logits: named in a warning, its row has `"finite": False` and None for every metric, and the others go on.
    Classifiers of several architectures and widths may be mixed.

    With `devices.start()` on several processes each computes its part of the images, all get all the rows, and
    process 0 writes the examples.

    Args:
      classifiers: one classifier, or several by name.
      dataset: the images and labels; a stream is read again for every test set, by every process as a whole.
      key: seeds the corruptions' randomness; needed where something is generated.
      corruptions: names; by default all of `COMMON_CORRUPTIONS`; an empty sequence for clean images only.
      severities: integers in 1..5, by default all.
      clean: whether the uncorrupted images are a test set too (row with corruption "clean", severity 0).
      corrupted: test sets to read instead of generating them: a folder in CIFAR-10-C's layout, of which `corruptions`
        and `severities` select (by default all that is there); or your own, a dict, or an iterable of pairs, from
        (name, severity) to a `Dataset` or to a function that returns one, called when its turn comes.
      batch_size: the most images per step, rounded up to a multiple of the number of devices.
      devices: by default all, of all processes; the images of a batch are split among them.
      model_axis: "loop" runs classifiers one after another, "vmap" stacks those of one architecture; by default
        "loop" on CPU, where stacked convolutions are slow, and "vmap" elsewhere. A stack that does not fit in memory
        is looped over after all, with a warning.
      precision: "float32" or "bfloat16", for weights and activations of that type, or None for that of the classifier's
        own layers. The rows' `precision` is read off the forward pass: what its products compute in. The metrics are
        float32 always.
      frost_textures: what frost is cropped from, by default `FrostTextures.procedural()`.
      keep_examples: a folder, or `KeepExamples`, for the numbers of every example; `load_examples` reads them.
      non_finite: what becomes of classifiers with a NaN or infinite parameter or statistic: "refuse" raises before
        anything is computed, "mark" gives them rows without metrics.
      on_test_set: called with (corruption, severity) after each test set, for progress display.
      compute_dtype: the former name of `precision`.

    Raises:
      ValueError: no classifier, no image, no test set, an unknown corruption, severity or option; class counts or
        channels that differ from the data set's, classifiers made for different image sizes, labels outside the
        classes; a classifier that is not finite; sets of `corrupted` whose labels are not those of the data set, as far
        as both go; processes whose arguments differ.
      FileNotFoundError: a folder that is not there, holds no corrupted images, or lacks what is asked for.
      LostProcessError: another process has died or hangs.
    """
    if isinstance(classifiers, models.Classifier):
        classifiers = {classifiers.name: classifiers}
    planned = plan_test_sets(corruptions, severities, clean, corrupted)
    keep = keep_examples
    if keep is not None and not isinstance(keep, KeepExamples):
        keep = KeepExamples(keep)
    precision = models.renamed(precision, compute_dtype)
    check_options(batch_size, model_axis, non_finite)
    _check(classifiers, dataset, planned, key, non_finite)
    if keep is not None:
        check_examples_paths(keep.folder, classifiers, [(each.name, each.severity) for each in planned])
    classifiers = {label: models.in_precision(classifier, precision) for label, classifier in classifiers.items()}
    precisions = _precisions(classifiers, dataset, asked=precision)
    mesh = placement.data_mesh(devices)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    model_axis = model_axis or ("loop" if on_cpu else "vmap")
    with Streams.for_mesh(mesh) as streams:
        run = Run(
            dataset=dataset,
            key=key,
            textures=frost_textures,
            mesh=mesh,
            batch_size=batch_size,
            micro_batch=models.CPU_MICRO_BATCH if on_cpu else batch_size,
            keep=keep,
            streams=streams,
        )
        if run.num_processes > 1:
            processes.agree(
                "evaluation", fingerprint(run, classifiers, planned, model_axis=model_axis, precisions=precisions)
            )
        rows = _measured(run, classifiers, planned, model_axis, precisions, on_test_set)
    _name_the_diverged(rows, classifiers)
    return rows


def _check(classifiers: Mapping[str, models.Classifier], dataset, planned, key, non_finite: str) -> None:
    """Raises a ValueError if the networks, the images and the test sets do not belong together."""
    if key is None and any(each.is_generated for each in planned):
        raise ValueError("key is missing; pass jax.random.key(seed), which the corruptions' random numbers follow from")
    check_classifiers(classifiers)
    check_images(classifiers, dataset)
    if non_finite == "refuse":
        for label, classifier in classifiers.items():
            models.check_finite(classifier, f"classifier {label!r}")
    for each in planned:
        if each.labels is not None and isinstance(dataset, Dataset):
            check_labels_agree(each, each.labels(), dataset.labels, dataset.name)


def _precisions(classifiers: Mapping[str, models.Classifier], dataset, *, asked: str | None) -> dict[str, str]:
    """Returns what each classifier's products compute in; warns where that is not what was asked for."""
    found = {label: models.precision_of(each, dataset.image_shape) for label, each in classifiers.items()}
    for label, precision in found.items():
        if asked not in (None, precision):
            warnings.warn(
                f"classifier {label!r} computes in {precision} although precision={asked!r} was asked for: not all of "
                f"its products follow the dtype of its layers and inputs; its rows say {precision}",
                RuntimeWarning,
                stacklevel=3,
            )
    return found


def _measured(
    run: Run, classifiers: Mapping[str, models.Classifier], planned, model_axis: str, precisions, on_test_set
):
    dataset, keep, rows = run.dataset, run.keep, []
    groups = group_classifiers(classifiers, model_axis, run.mesh)
    clean_batches = list(run.batches(dataset)) if run.stays_on_devices(dataset) else None
    for test_set in planned:
        source = dataset if test_set.read is None else test_set.read()
        if test_set.read is not None:
            check_images(classifiers, source)
            check_labels_agree(test_set, run.known_labels(source), run.known_labels(dataset), dataset.name)
        batches = clean_batches if test_set.read is None else None
        with processes.lockstep(f"{test_set.name} {test_set.severity}", run.num_processes):
            groups, measured = measure(run, groups, test_set, source, batches)
        rows += _rows(groups, measured, precisions, test_set, source)
        if keep is not None and (run.num_processes == 1 or processes.is_main_process()):
            _save_examples(run, groups, measured, precisions, test_set, source)
        if on_test_set is not None:
            on_test_set(test_set.name, test_set.severity)
    return rows


def _rows(groups: list[Group], measured, precisions: dict[str, str], test_set: PlannedSet, source: Dataset):
    """Returns the rows of one test set, in the order of the classifiers; `precisions` has each one's name."""
    names = list(precisions)
    rows = [None] * len(names)
    for group, (summary, _) in zip(groups, measured, strict=True):
        for place, index in enumerate(group.indices):
            finite = int(summary["num_finite"][place]) == len(source)
            # The shortest decimal that gives the float32 back, not the digits of its float64 copy.
            values = {name: float(str(column[place])) for name, column in summary.items() if name != "num_finite"}
            num_correct = int(summary["num_correct"][place])
            values |= {"num_correct": num_correct, "accuracy": num_correct / len(source)}
            rows[index] = {
                "classifier": names[index],
                "corruption": test_set.name,
                "severity": test_set.severity,
                "n": len(source),
                "precision": precisions[names[index]],
                "finite": finite,
                **(values if finite else dict.fromkeys(values)),
            }
    return rows


def _save_examples(
    run: Run, groups: list[Group], measured, precisions: dict[str, str], test_set: PlannedSet, source: Dataset
):
    names = list(precisions)
    about = {
        "corruption": test_set.name,
        "severity": test_set.severity,
        "dataset": source.name,
        "labels": np.asarray(run.labels(source), np.int32),
    }
    for group, (_, outputs) in zip(groups, measured, strict=True):
        for place, index in enumerate(group.indices):
            name = names[index]
            examples = examples_of(outputs, place, classifier=name, precision=precisions[name], **about)
            save_examples(run.keep.folder, examples, dtype=run.keep.dtype)


def _name_the_diverged(rows: list[dict], classifiers: Mapping[str, models.Classifier]) -> None:
    where = {}
    for row in rows:
        if not row["finite"]:
            where.setdefault(row["classifier"], []).append(f"{row['corruption']} {row['severity'] or ''}".strip())
    for name, sets in where.items():
        cause = models.first_non_finite(classifiers[name])
        warnings.warn(
            f"classifier {name!r} returned NaN or infinite logits on {len(sets)} of the test sets (first: {sets[0]}); "
            f"those rows have no metrics. {cause or 'Look for a diverged training, or an overflow in bfloat16'}",
            RuntimeWarning,
            stacklevel=3,
        )
