"""What is known of the networks of one data set and arm: measures by seed and test set, resampled where outputs exist.

The resamples of all networks and test sets are of the same images, so differences between networks, and between a clean
and a corrupted test set, are paired.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxprune.report import outputs, resampling, tables
from jaxprune.report.resampling import Estimate, Statistic

ACCURACY, ECE = "accuracy", "ece_equal_width_10"
MEASURES = (ACCURACY, ECE)

TestSet = tuple[str, int]
CLEAN_SET: TestSet = (tables.CLEAN, 0)


class Network(NamedTuple):
    """One network of an arm; it exists once per seed."""

    method: str
    stage: str
    sparsity: float


class Term(NamedTuple):
    """A quantity of a comparison: the mean of a measure of a network over test sets."""

    network: Network
    test_sets: tuple[TestSet, ...]
    measure: str


class Cell(NamedTuple):
    """One row: its measures, and each of them on every resample of the images where outputs were kept."""

    values: dict[str, float]
    n: int
    samples: dict[str, np.ndarray] | None
    bins: np.ndarray | None  # images, correct ones and summed confidences by bin, [3, bins]


class Evidence:
    """The cells of one data set and arm."""

    def __init__(self, family: pd.DataFrame, run_dir=None, *, num_resamples: int = resampling.NUM_RESAMPLES):
        """Reads the outputs of the main stage and of its dense baselines, test set by test set."""
        self.run_dir = run_dir
        self.family, self.stage = family, tables.main_stage(family)
        self.test_sets: list[TestSet] = list(dict.fromkeys(zip(family["corruption"], family["severity"], strict=True)))
        self.cells: dict[tuple[Network, int, TestSet], Cell] = {}
        self.clean: dict[tuple[Network, int], outputs.Outputs] = {}
        self.labels: np.ndarray | None = None
        self._draws: resampling.Draws | None = None
        self._num_resamples = num_resamples
        needed = (tables.AS_TRAINED, tables.FINE_TUNED, tables.TEMPERATURE, self.stage)
        for test_set, rows in family.groupby(tables.TEST_SET, sort=False):
            records = rows.to_dict("records")
            found = {i: self._read(run_dir, row) for i, row in enumerate(records) if row["stage"] in needed}
            samples = self._resample({i: each for i, each in found.items() if each is not None})
            for i, row in enumerate(records):
                network = Network(row["method"], row["stage"], row["sparsity"])
                values = {measure: row[measure] for measure in MEASURES}
                kept = found.get(i)
                bins = None if kept is None else _bin_sums(kept)
                self.cells[network, row["seed"], test_set] = Cell(values, row["n"], samples.get(i), bins)
                if kept is not None and test_set == CLEAN_SET:
                    self.clean[network, row["seed"]] = kept

    def networks(self, *, granularity: str, stage: str | None = None) -> dict[str, list[Network]]:
        """Returns the pruned networks of a stage by method, controls left out, by sparsity."""
        stage = self.stage if stage is None else stage
        rows = self.family[(self.family["granularity"] == granularity) & (self.family["stage"] == stage)]
        found = {}
        for method in tables.methods(rows):
            if method not in (tables.DENSE, *tables.RANDOM.values()):
                sparsities = sorted(rows.loc[rows["method"] == method, "sparsity"].unique())
                found[method] = [Network(method, stage, sparsity) for sparsity in sparsities if sparsity > 0]
        return found

    def dense(self, stage: str | None = None) -> Network | None:
        """Returns the dense network that those of a stage are compared with, None if it was not measured."""
        baseline = tables.baseline(self.family, self.stage if stage is None else stage)
        return None if baseline.empty else Network(tables.DENSE, baseline["stage"].iloc[0], 0.0)

    def corrupted(self, severity: int | None = None) -> tuple[TestSet, ...]:
        """Returns the corrupted test sets, of one severity or all."""
        return tuple(each for each in self.test_sets if each != CLEAN_SET and severity in (None, each[1]))

    @property
    def worst_severity(self) -> int:
        """The highest severity measured; 0 if only clean images were."""
        return max(severity for _, severity in self.test_sets)

    def estimate(self, statistic: Statistic, terms: Sequence[Term]) -> Estimate:
        """Returns the estimate of a statistic of the terms' means, over the seeds that all of them share."""
        seeds = self._seeds(terms)
        if not seeds:
            nan = float("nan")
            return Estimate(nan, nan, nan, nan, nan, nan, 0, False)
        per_seed = np.array([[self._mean(term, seed) for term in terms] for seed in seeds])
        cells = [self.cells[term.network, seed, each] for term in terms for seed in seeds for each in term.test_sets]
        if all(cell.samples for cell in cells):
            samples = np.stack(
                [np.stack([self._samples(term, seed) for term in terms], axis=-1) for seed in seeds], axis=1
            )
            return resampling.estimate(statistic, per_seed, samples)
        if all(term.measure == ACCURACY for term in terms):
            return self._of_counts(statistic, terms, per_seed, seeds)
        return resampling.estimate(statistic, per_seed)

    def difference(self, network: Network, reference: Network, test_sets: Iterable[TestSet], measure: str) -> Estimate:
        """Returns the estimate of a network's measure minus the reference's, on the same images."""
        test_sets = tuple(test_sets)
        terms = [Term(each, test_sets, measure) for each in (reference, network)]
        return self.estimate(lambda means: means[..., 1] - means[..., 0], terms)

    def bins(self, network: Network, test_sets: Iterable[TestSet]) -> np.ndarray | None:
        """Returns images, correct ones and summed confidences by bin `[3, bins]`, of all test sets, mean over seeds.

        None where the outputs of a test set were not kept for any seed.
        """
        test_sets = tuple(test_sets)
        cells = [[self.cells.get((network, seed, each)) for each in test_sets] for seed in self.seeds]
        found = [[cell.bins for cell in each if cell is not None and cell.bins is not None] for each in cells]
        whole = [np.sum(each, axis=0) for each in found if each and len(each) == len(test_sets)]
        return np.mean(whole, axis=0) if whole else None

    def level(self, network: Network, test_sets: Iterable[TestSet], measure: str) -> Estimate:
        """Returns the estimate of a measure of one network, its interval cut at 0 and 1, which no measure leaves."""
        found = self.estimate(lambda means: means[..., 0], [Term(network, tuple(test_sets), measure)])
        low, high = np.clip([found.low, found.high], 0.0, 1.0)  # NaN stays NaN
        return found._replace(low=float(low), high=float(high))

    @property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted(int(seed) for seed in self.family["seed"].unique())

    def outputs_of(self, network: Network, seed: int, test_set: TestSet) -> outputs.Outputs | None:
        """Returns the outputs of one network on one test set, read again; None where they were not kept."""
        corruption, severity = test_set
        keys = {"arm": self.family["arm"].iloc[0], "seed": seed, "corruption": corruption, "severity": severity}
        path = outputs.path_of(self.run_dir, network._asdict() | keys) if self.run_dir is not None else None
        return outputs.read(path) if path is not None and path.exists() else None

    def _of_counts(self, statistic, terms, per_seed, seeds) -> Estimate:
        """Returns an estimate of accuracies without their images: unpaired, so wider than the truth, never narrower.

        The variance over images is the binomial's with a success and a failure added (Agresti & Caffo 2000); test sets
        made from the same images count as one.
        """
        variance = 0.0
        for index, term in enumerate(terms):
            size = min(self.cells[term.network, seed, each].n for seed in seeds for each in term.test_sets)
            p = (per_seed[:, index].mean() * size + 1) / (size + 2)
            step = np.zeros(len(terms))
            step[index] = 1e-4
            mean = per_seed.mean(axis=0)
            slope = (statistic(mean + step) - statistic(mean - step)) / 2e-4
            variance += float(slope) ** 2 * p * (1 - p) / (size + 2)
        return resampling.estimate(statistic, per_seed, image_variance=variance)

    def _seeds(self, terms: Sequence[Term]) -> list[int]:
        """Returns the seeds of which every value of every term is known."""

        def known(seed: int, term: Term) -> bool:
            cells = [self.cells.get((term.network, seed, each)) for each in term.test_sets]
            return bool(cells) and all(cell is not None and np.isfinite(cell.values[term.measure]) for cell in cells)

        return [seed for seed in self.seeds if all(known(seed, term) for term in terms)]

    def _mean(self, term: Term, seed: int) -> float:
        return float(np.mean([self.cells[term.network, seed, each].values[term.measure] for each in term.test_sets]))

    def _samples(self, term: Term, seed: int) -> np.ndarray:
        samples = (self.cells[term.network, seed, each].samples[term.measure] for each in term.test_sets)
        return sum(samples) / len(term.test_sets)

    def _read(self, run_dir, row: dict[str, Any]) -> outputs.Outputs | None:
        found = None if run_dir is None else outputs.read_row(run_dir, row)
        if found is None:
            return None
        if self.labels is None:
            self.labels = found.labels
            self._draws = resampling.draw(len(found.labels), num_resamples=self._num_resamples)
        if not np.array_equal(self.labels, found.labels):
            raise ValueError(
                f"{outputs.path_of(run_dir, row)} has other labels than the outputs beside it, so its images are not "
                "the same and cannot be compared pair by pair; evaluate all networks on the same images"
            )
        return found

    def _resample(self, found: dict[int, outputs.Outputs]) -> dict[int, dict[str, np.ndarray]]:
        """Returns both measures of each network on every resample of one test set."""
        if not found:
            return {}
        draws, count = self._draws, outputs.NUM_BINS
        correct = [resampling.group_sums(draws, each.correct) for each in found.values()]
        gaps = [resampling.group_sums(draws, each.gaps, each.bins, count) for each in found.values()]
        means = resampling.resampled_means(draws, np.concatenate([*correct, *gaps], axis=1))
        accuracy, gaps = means[:, : len(found)], means[:, len(found) :].reshape(len(means), len(found), count)
        errors = np.abs(gaps).sum(axis=-1)
        return {i: {ACCURACY: accuracy[:, place], ECE: errors[:, place]} for place, i in enumerate(found)}


def _bin_sums(found: outputs.Outputs) -> np.ndarray:
    weights = (None, found.correct.astype(np.float64), found.confidence.astype(np.float64))
    return np.stack([np.bincount(found.bins, weights=each, minlength=outputs.NUM_BINS) for each in weights])
