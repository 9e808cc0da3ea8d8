"""What was measured of one arm on one data set, and what follows from it: estimates, damage by class, exemplars.

The resamples of all networks and test sets are of the same images, so differences between networks, and between a clean
and a corrupted test set, are paired.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxprune import metrics, names
from jaxprune.report import aggregates, bootstrap
from jaxprune.report.bootstrap import IntervalEstimate, Statistic
from jaxprune.results import outputs

ACCURACY, ECE = names.ACCURACY, names.CALIBRATION_ERROR
MEASURES = (ACCURACY, ECE)

# By how much an accuracy is moved to see how a statistic follows.
SLOPE_STEP = 1e-4

TestSet = tuple[str, int]
CLEAN_SET: TestSet = (names.CLEAN, names.CLEAN_SEVERITY)


class Variant(NamedTuple):
    """What was made of an arm's network: dense or pruned, and what followed; it exists once per seed."""

    method: str
    stage: str
    sparsity: float

    @property
    def is_dense(self) -> bool:
        """Whether nothing was removed."""
        return self.method == names.DENSE


class Quantity(NamedTuple):
    """What a statistic takes: the mean of a measure of a variant over test sets."""

    variant: Variant
    test_sets: tuple[TestSet, ...]
    measure: str


def quantities(test_sets: Iterable[TestSet]) -> dict[str, tuple[tuple[TestSet, ...], str]]:
    """Returns the test sets and measure, by name, of what networks are judged by: clean and corrupted.

    >>> quantities([("clean", 0), ("fog", 3)])["corrupted ECE"]
    ((('fog', 3),), 'ece_equal_width_10')
    """
    groups = {"clean": (CLEAN_SET,), "corrupted": tuple(each for each in test_sets if each != CLEAN_SET)}
    nouns = {ACCURACY: "accuracy", ECE: "ECE"}
    return {f"{kind} {nouns[each]}": (sets, each) for kind, sets in groups.items() if sets for each in MEASURES}


class Measurement(NamedTuple):
    """One row: its measures, and each of them on every resample of the images where outputs were kept."""

    values: dict[str, float]
    n: int
    resampled: dict[str, np.ndarray] | None
    bins: np.ndarray | None  # images, correct ones and summed confidences by bin, [3, bins]


class ArmResults:
    """The measurements of one arm on one data set."""

    def __init__(self, rows: pd.DataFrame, run_dir=None, *, num_resamples: int = bootstrap.NUM_RESAMPLES):
        """Reads the outputs per image of the main stage and of its dense baselines, test set by test set."""
        self.rows, self.run_dir = rows, run_dir
        self.stage = aggregates.main_stage(rows)
        self.methods = aggregates.methods(rows)
        self.seeds = sorted(int(seed) for seed in rows["seed"].unique())
        self.test_sets: list[TestSet] = list(dict.fromkeys(zip(rows["corruption"], rows["severity"], strict=True)))
        self.measurements: dict[tuple[Variant, int, TestSet], Measurement] = {}
        self.clean_outputs: dict[tuple[Variant, int], outputs.Outputs] = {}
        self._resamples: bootstrap.Resamples | None = None
        self._labels: np.ndarray | None = None
        keys = [*Variant._fields, "seed", *aggregates.TEST_SET]
        self._rows_by_key = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
        needed = (names.STAGE_DENSE, names.STAGE_FINE_TUNED, names.STAGE_TEMPERATURE, self.stage)
        for test_set, group in rows.groupby(aggregates.TEST_SET, sort=False):
            records = group.to_dict("records")
            found = [self._read(row, num_resamples) if row["stage"] in needed else None for row in records]
            for row, kept, resampled in zip(records, found, self._resampled(found), strict=True):
                variant = Variant(row["method"], row["stage"], row["sparsity"])
                values, bins = {measure: row[measure] for measure in MEASURES}, None
                if kept is not None:
                    bins = metrics.calibration_bin_sums(kept.confidence, kept.correct, num_bins=outputs.NUM_BINS)
                    if test_set == CLEAN_SET:
                        self.clean_outputs[variant, row["seed"]] = kept
                self.measurements[variant, row["seed"], test_set] = Measurement(values, row["n"], resampled, bins)

    @property
    def name(self) -> str:
        """The arm."""
        return self.rows["arm"].iloc[0]

    @property
    def dataset(self) -> str:
        """The data set whose images were classified."""
        return self.rows["dataset"].iloc[0]

    def dense(self, stage: str | None = None) -> Variant | None:
        """Returns the dense network that those of a stage are compared with, None if it was not measured."""
        baseline = aggregates.baseline(self.rows, stage or self.stage)
        return None if baseline.empty else Variant(names.DENSE, baseline["stage"].iloc[0], 0.0)

    def pruned(self, granularity: str | None = None) -> dict[str, list[Variant]]:
        """Returns the pruned variants of the main stage by method, each by sparsity, without the random controls.

        Methods that prune weights come first, unless one granularity is asked for.
        """
        granularities = names.CONTROLS if granularity is None else (granularity,)
        rows = self.rows[(self.rows["stage"] == self.stage) & (self.rows["sparsity"] > 0)]
        found = {}
        for each in granularities:
            of_kind = rows[rows["granularity"] == each]
            for method in aggregates.methods(of_kind):
                sparsities = sorted(of_kind.loc[of_kind["method"] == method, "sparsity"].unique())
                if sparsities and method not in aggregates.CONTROLS:
                    found[method] = [Variant(method, self.stage, sparsity) for sparsity in sparsities]
        return found

    def curve(self, method: str, stage: str | None = None) -> list[Variant]:
        """Returns the dense baseline of a stage and the variants of a method, by sparsity."""
        lines = aggregates.curve(self.rows[aggregates.VARIANT].drop_duplicates(), method, stage or self.stage)
        return [Variant(*each) for each in lines[list(Variant._fields)].itertuples(index=False)]

    def control(self, variant: Variant) -> Variant:
        """Returns the random control of the same sparsity and stage, measured or not."""
        granularity = self.rows.loc[self.rows["method"] == variant.method, "granularity"].iloc[0]
        return variant._replace(method=names.CONTROLS[granularity])

    def corrupted(self, severity: int | None = None) -> tuple[TestSet, ...]:
        """Returns the corrupted test sets, of one severity or all."""
        return tuple(each for each in self.test_sets if each != CLEAN_SET and severity in (None, each[1]))

    def quantities(self) -> dict[str, tuple[tuple[TestSet, ...], str]]:
        """Returns what every network is judged by; see the function of the same name."""
        return quantities(self.test_sets)

    @property
    def worst_severity(self) -> int:
        """The highest severity measured; 0 if only clean images were."""
        return max(severity for _, severity in self.test_sets)

    def estimate(self, statistic: Statistic, quantities: Sequence[Quantity]) -> IntervalEstimate:
        """Returns the estimate of a statistic of quantities, over the seeds of which all of them are known.

        It is paired where the outputs of all of them were kept. Accuracies have an interval over images without them.
        """
        seeds = [seed for seed in self.seeds if all(self._is_known(each, seed) for each in quantities)]
        if not seeds:
            return bootstrap.NO_ESTIMATE
        # By seed, quantity and test set.
        measured = [[self._measured(each, seed) for each in quantities] for seed in seeds]
        measures = [each.measure for each in quantities]
        per_seed = np.array(
            [
                [np.mean([x.values[name] for x in cell]) for cell, name in zip(row, measures, strict=True)]
                for row in measured
            ]
        )
        if all(x.resampled for row in measured for cell in row for x in cell):
            resampled = [
                [np.mean([x.resampled[name] for x in cell], axis=0) for cell, name in zip(row, measures, strict=True)]
                for row in measured
            ]
            return bootstrap.interval_estimate(statistic, per_seed, np.moveaxis(np.array(resampled), -1, 0))
        variance = 0.0
        if set(measures) == {ACCURACY}:
            sizes = [min(x.n for row in measured for x in row[place]) for place in range(len(quantities))]
            variance = _variance_of_counts(statistic, per_seed.mean(axis=0), np.array(sizes))
        return bootstrap.interval_estimate(statistic, per_seed, image_variance=variance)

    def difference(
        self, variant: Variant, reference: Variant, test_sets: Iterable[TestSet], measure: str
    ) -> IntervalEstimate:
        """Returns the estimate of a variant's measure minus the reference's, on the same images."""
        test_sets = tuple(test_sets)
        quantities = [Quantity(each, test_sets, measure) for each in (reference, variant)]
        return self.estimate(bootstrap.difference, quantities)

    def level(self, variant: Variant, test_sets: Iterable[TestSet], measure: str) -> IntervalEstimate:
        """Returns the estimate of a measure of one variant, its interval cut at 0 and 1, which no measure leaves."""
        found = self.estimate(bootstrap.single, [Quantity(variant, tuple(test_sets), measure)])
        low, high = np.clip([found.low, found.high], 0.0, 1.0)  # NaN stays NaN
        return found._replace(low=float(low), high=float(high))

    def bins(self, variant: Variant, test_sets: Iterable[TestSet]) -> np.ndarray | None:
        """Returns images, correct ones and summed confidences by bin `[3, bins]`, of all test sets, mean over seeds.

        None where the outputs of a test set were not kept for any seed.
        """
        of_seeds = [[self.measurements.get((variant, seed, each)) for each in test_sets] for seed in self.seeds]
        known = [row for row in of_seeds if row and all(each is not None and each.bins is not None for each in row)]
        return np.mean([sum(each.bins for each in row) for row in known], axis=0) if known else None

    def paired_outputs(self, variant: Variant) -> tuple[list[outputs.Outputs], list[outputs.Outputs]]:
        """Returns the clean outputs of the dense baseline and of a variant, of every seed that has both."""
        dense, kept = self.dense(), self.clean_outputs
        seeds = [seed for seed in self.seeds if (dense, seed) in kept and (variant, seed) in kept]
        return [kept[dense, seed] for seed in seeds], [kept[variant, seed] for seed in seeds]

    def outputs_of(self, variant: Variant, seed: int, test_set: TestSet) -> outputs.Outputs | None:
        """Returns the outputs of one network on one test set, read again; None where they were not kept."""
        row = self._rows_by_key.get((*variant, seed, *test_set))
        path = None if row is None or self.run_dir is None else outputs.path_of(self.run_dir, row)
        return outputs.read(path) if path is not None and path.exists() else None

    def _measured(self, quantity: Quantity, seed: int) -> list[Measurement | None]:
        return [self.measurements.get((quantity.variant, seed, each)) for each in quantity.test_sets]

    def _is_known(self, quantity: Quantity, seed: int) -> bool:
        found = self._measured(quantity, seed)
        return bool(found) and all(x is not None and np.isfinite(x.values[quantity.measure]) for x in found)

    def _read(self, row: dict[str, Any], num_resamples: int) -> outputs.Outputs | None:
        found = None if self.run_dir is None else outputs.read_row(self.run_dir, row)
        if found is None:
            return None
        if self._labels is None:
            self._labels = found.labels
            self._resamples = bootstrap.resample(len(found.labels), num_resamples=num_resamples)
        if not np.array_equal(self._labels, found.labels):
            raise ValueError(
                f"{outputs.path_of(self.run_dir, row)} has other labels than the outputs beside it, so its images are "
                "not the same and cannot be compared pair by pair; evaluate all networks on the same images"
            )
        return found

    def _resampled(self, found: Sequence[outputs.Outputs | None]) -> list[dict[str, np.ndarray] | None]:
        """Returns both measures of each network on every resample of one test set."""
        kept = [each for each in found if each is not None]
        if not kept:
            return [None] * len(found)
        # One product for all networks: their sums lie side by side in its columns.
        sums = [bootstrap.group_sums(self._resamples, each.correct) for each in kept]
        sums += [bootstrap.gap_sums(self._resamples, each) for each in kept]
        means = bootstrap.resampled_means(self._resamples, np.concatenate(sums, axis=1))
        gaps = means[:, len(kept) :].reshape(len(means), len(kept), outputs.NUM_BINS)
        measured = zip(means[:, : len(kept)].T, np.abs(gaps).sum(axis=-1).T, strict=True)
        return [None if each is None else dict(zip(MEASURES, next(measured), strict=True)) for each in found]


def _variance_of_counts(statistic: Statistic, accuracies: np.ndarray, sizes: np.ndarray) -> float:
    """Returns the variance over images of a statistic of accuracies whose images are not known.

    Unpaired, so wider than the truth, never narrower: the binomial's with a success and a failure added (Agresti &
    Caffo 2000), carried on by the slopes of the statistic. Test sets made from the same images count as one.
    """
    p = (accuracies * sizes + 1) / (sizes + 2)
    steps = SLOPE_STEP * np.eye(len(sizes))
    slopes = (statistic(accuracies + steps) - statistic(accuracies - steps)) / (2 * SLOPE_STEP)
    return float((slopes**2 * p * (1 - p) / (sizes + 2)).sum())


class ClassChange(NamedTuple):
    """By how much the accuracy of one class changed from dense to pruned; the p-value is Holm's over all of the arm."""

    variant: Variant
    label: int
    num_images: int
    estimate: IntervalEstimate
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the change differs from zero."""
        return self.p_value <= bootstrap.SIGNIFICANCE


def class_changes(arm: ArmResults) -> list[ClassChange]:
    """Returns the change of each class for every pruned variant of the main stage with outputs, images paired."""
    out = []
    for variant, dense, pruned in _with_outputs(arm):
        labels = dense[0].labels
        correct = np.array([[each.correct for each in networks] for networks in (dense, pruned)], np.float64)
        for label in np.unique(labels):
            accuracy = correct[:, :, labels == label]
            change = (accuracy[1] - accuracy[0]).mean(axis=0)
            # As with a success and a failure added, so that a class without any change has an interval too.
            variance = (change.var() * change.size + 1) / (change.size + 2) / change.size
            found = bootstrap.interval_estimate(bootstrap.difference, accuracy.mean(axis=-1).T, image_variance=variance)
            p_value = found.p_value(0.0, claim=bootstrap.APART)
            out.append(ClassChange(variant, int(label), change.size, found, p_value))
    adjusted = metrics.adjust_p_values([each.p_value for each in out]).tolist()
    return [each._replace(p_value=p) for each, p in zip(out, adjusted, strict=True)]


class Exemplars(NamedTuple):
    """The images that the dense and the pruned networks, each taken together over seeds, classify differently."""

    variant: Variant
    index: np.ndarray  # places in the test set, first those whose label the dense networks predict
    num_images: int
    labels: np.ndarray
    dense_prediction: np.ndarray
    pruned_prediction: np.ndarray
    # Of the dense networks, mean over seeds, on the exemplars and on the other images.
    dense_accuracy: float
    other_accuracy: float
    num_seeds: int


def arm_exemplars(arm: ArmResults) -> list[Exemplars]:
    """Returns the pruning-identified exemplars of every pruned variant of the main stage with outputs."""
    out = []
    for variant, dense, pruned in _with_outputs(arm):
        labels = dense[0].labels
        populations = [np.stack([each.prediction for each in networks]) for networks in (dense, pruned)]
        before, after = map(metrics.modal_prediction, populations)
        is_exemplar = metrics.pruning_identified_exemplars(*populations[::-1])
        index = np.flatnonzero(is_exemplar)
        index = index[np.argsort(before[index] != labels[index], kind="stable")]
        correct = np.mean([each.correct for each in dense], axis=0)
        means = [float(correct[part].mean()) if part.any() else float("nan") for part in (is_exemplar, ~is_exemplar)]
        out.append(
            Exemplars(variant, index, len(labels), *(x[index] for x in (labels, before, after)), *means, len(dense))
        )
    return out


def _with_outputs(arm: ArmResults) -> Iterator[tuple[Variant, list[outputs.Outputs], list[outputs.Outputs]]]:
    """Yields every pruned variant of the main stage with the clean outputs of the dense networks and its own."""
    for variants in arm.pruned().values():
        for variant in variants:
            dense, pruned = arm.paired_outputs(variant)
            if dense:
                yield variant, dense, pruned
