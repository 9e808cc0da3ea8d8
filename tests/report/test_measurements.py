"""Damage below the average: by class and by image, against the metrics and against what was put in."""

import numpy as np
import pytest
from etils import epath

from jaxprune import metrics
from jaxprune.report import aggregates, measurements
from jaxprune.report.measurements import ArmResults
from jaxprune.results import images, outputs, rows
from jaxprune.study import images as study_images
from tests.report import runs, simulation
from tests.report.runs import fake_rows

CLASSES = 10
DAMAGED = 3


@pytest.fixture
def run(tmp_path):
    """A run of three seeds whose pruned networks lose a third of the images of one class."""
    wanted = fake_rows(methods=("weight",), seeds=(0, 1, 2), sparsities=(0.5,), corruptions=())
    simulation.write_run(tmp_path, wanted, lambda row: 0.05, n=2000)
    written = rows.read(epath.Path(tmp_path))
    for row in written:
        if row["method"] == "weight":
            damage_one_class(tmp_path, row)
    return runs.write(tmp_path, written, None)


def damage_one_class(folder, row):
    path = outputs.path_of(folder, row)
    found = outputs.read(path)
    prediction = found.prediction.copy()
    lost = (found.labels == DAMAGED) & (np.arange(len(prediction)) % 3 == 0)
    prediction[lost] = (DAMAGED + 1) % CLASSES
    found = found._replace(prediction=prediction)
    simulation.save(path, found)
    row.update(accuracy=float(found.correct.mean()), accuracy_low=0.0, num_correct=int(found.correct.sum()))


@pytest.fixture
def arm(run):
    (found,) = aggregates.arms(aggregates.results(rows.read(epath.Path(run))))
    return ArmResults(found, run, num_resamples=50)


def test_the_damaged_class_is_found_and_no_other(arm):
    changes = measurements.class_changes(arm)
    assert [each.label for each in changes] == list(range(CLASSES))
    assert [each.label for each in changes if each.is_significant] == [DAMAGED]
    worst = changes[DAMAGED].estimate
    assert worst.low < -0.2 < worst.high or worst.high < -0.2
    assert worst.value < -0.2


def test_changes_by_class_are_those_of_the_metrics(arm):
    changes = measurements.class_changes(arm)
    dense, pruned = arm.paired_outputs(changes[0].variant)
    per_seed = [
        metrics.per_class_accuracy_change(after.prediction, before.prediction, before.labels, num_classes=CLASSES)
        for before, after in zip(dense, pruned, strict=True)
    ]
    np.testing.assert_allclose([each.estimate.value for each in changes], np.mean(per_seed, axis=0), atol=1e-6)


def test_exemplars_are_those_of_the_metrics(arm):
    (found,) = measurements.arm_exemplars(arm)
    dense, pruned = arm.paired_outputs(found.variant)
    expected = metrics.pruning_identified_exemplars(
        *(np.stack([each.prediction for each in population]) for population in (pruned, dense)), num_classes=CLASSES
    )
    np.testing.assert_array_equal(np.sort(found.index), np.flatnonzero(expected))
    assert found.num_seeds == 3
    assert found.dense_accuracy < found.other_accuracy


def test_wanted_images_are_exemplars_that_the_dense_network_has_right_first(run, arm):
    measured = rows.read(epath.Path(run))
    index = study_images.exemplars(measured, epath.Path(run))[: images.MAX_EXEMPLARS]
    (found,) = measurements.arm_exemplars(arm)
    assert set(index) <= set(found.index.tolist())
    assert len(index) == images.MAX_EXEMPLARS
    right = dict(zip(found.index.tolist(), found.dense_prediction == found.labels, strict=True))
    order = [bool(right[place]) for place in index]
    assert order == sorted(order, reverse=True)
    assert study_images.gallery_sets(measured) == ["clean-0"]


def test_without_outputs_there_is_no_damage_to_tell(arm):
    rows_alone = ArmResults(arm.rows)
    assert measurements.class_changes(rows_alone) == []
    assert measurements.arm_exemplars(rows_alone) == []


@pytest.mark.parametrize("what", ["damaged", "shapes"])
def test_images_that_cannot_be_used_are_named(tmp_path, what):
    path = tmp_path / "images.npz"
    np.savez(path, index=[1, 2], images=np.zeros((1 if what == "shapes" else 2, 4, 4, 3), np.uint8))
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:40])
    message = {"damaged": "is damaged", "shapes": "arrays that do not fit each other"}[what]
    with pytest.raises(ValueError, match=message):
        images.read(tmp_path)
