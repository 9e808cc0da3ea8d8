"""Do two checkpoints differ? From their outputs on the same images: paired, corrected for the number of questions."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from jaxprune import metrics, names
from jaxprune.report import bootstrap
from jaxprune.results import outputs
from jaxprune.results.outputs import Outputs

ACCURACY, ECE, LOG_LOSS, BRIER = names.ACCURACY, names.CALIBRATION_ERROR, names.LOG_LOSS, names.BRIER_SCORE
MEASURES = (ACCURACY, ECE, LOG_LOSS, BRIER)
CORRUPTED_MEAN = "mean over corruptions"
HEADINGS = ("test set", "measure", "first", "second", "difference", "95 % interval", "p (Holm)", "")


class Difference(NamedTuple):
    """`second` minus `first` of one measure on one test set; `p_value` is Holm's over all differences of the call."""

    test_set: str
    measure: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int

    @property
    def is_significant(self) -> bool:
        """Whether the difference is distinguishable from zero."""
        return self.p_value <= bootstrap.SIGNIFICANCE


Source = str | os.PathLike | Mapping[str, Outputs]


def compare(
    first: Source, second: Source, *, num_resamples: int = bootstrap.NUM_RESAMPLES, seed: int = 0
) -> list[Difference]:
    """Returns the differences of two checkpoints in accuracy, ECE, log loss and Brier score, test set by test set.

    `first` and `second` are folders of `<corruption>-<severity>.npz` files (what `evaluate(..., keep_examples=...)`
    writes for one classifier), single such files, or dicts from the name of a test set to `outputs.Outputs`. Compared
    are the test sets that both have and, where several are corrupted, the mean over those. Intervals and p-values are
    of a paired bootstrap over images, the p-value of accuracy is that of McNemar's exact test; all are about these two
    checkpoints, not about what other seeds would give.

    Raises `FileNotFoundError` where there are no outputs, `ValueError` where no test set is shared, or the labels of a
    shared one differ, so that the images cannot be the same.
    """
    both = _read(first), _read(second)
    shared = [name for name in both[0] if name in both[1]]
    if not shared:
        raise ValueError(
            f"no test set is in both: one has {', '.join(both[0])}, the other {', '.join(both[1])}; "
            "evaluate both on the same test sets"
        )
    found, of_corrupted = [], []
    for name in shared:
        pair = both[0][name], both[1][name]
        if not np.array_equal(pair[0].labels, pair[1].labels):
            raise ValueError(
                f"the labels of test set {name} differ, so its images are not the same; "
                "evaluate both on the same images"
            )
        resamples = bootstrap.resample(len(pair[0].labels), seed=seed, num_resamples=num_resamples)
        measured = {each: _measured(pair, each, resamples) for each in MEASURES}
        for measure, (values, resampled) in measured.items():
            p_value = metrics.mcnemar_test(pair[1].correct, pair[0].correct).p_value if measure == ACCURACY else None
            found.append(_difference(name, measure, values, resampled, len(pair[0].labels), p_value))
        if not name.startswith("clean"):
            of_corrupted.append((measured, len(pair[0].labels)))
    if len(of_corrupted) > 1:
        smallest = min(size for _, size in of_corrupted)
        for measure in MEASURES:
            # Those of one size share their resamples.
            parts = zip(*(measured[measure] for measured, _ in of_corrupted), strict=True)
            found.append(_difference(CORRUPTED_MEAN, measure, *(np.mean(part, axis=0) for part in parts), smallest))
    adjusted = metrics.adjust_p_values([each.p_value for each in found]).tolist()
    return [each._replace(p_value=p) for each, p in zip(found, adjusted, strict=True)]


def comparison_text(differences: Sequence[Difference]) -> str:
    """Returns the differences as a table of plain text; those that are significant carry a star."""
    lines = [
        (
            *(each.test_set, each.measure, f"{each.first:.4f}", f"{each.second:.4f}", f"{each.difference:+.4f}"),
            f"{each.low:+.4f} to {each.high:+.4f}" if np.isfinite(each.low) else "unknown",
            f"{each.p_value:.3g}",
            "*" if each.is_significant else "",
        )
        for each in differences
    ]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *lines, strict=True)]
    texts = [
        "  ".join(cell.ljust(width) if place < 2 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (zip(line, widths, strict=True) for line in (HEADINGS, *lines))
    ]
    count = sum(each.is_significant for each in differences)
    sizes = sorted({each.n for each in differences})
    end = f"* {count} of {len(differences)} differ after Holm's correction; n = {', '.join(map(str, sizes))}, paired."
    return "\n".join([*(text.rstrip() for text in texts), end])


def _read(source: Source) -> dict[str, Outputs]:
    if isinstance(source, Mapping):
        if not source:
            raise ValueError("a dict of outputs is empty; give the outputs of one test set at least")
        return dict(source)
    path = epath.Path(source)
    files = sorted(file for file in path.iterdir() if file.suffix == ".npz") if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(
            f"{path} holds no .npz files; give the folder of one classifier that evaluate(keep_examples=...) wrote"
        )
    found = {file.stem: outputs.read(file) for file in files}
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("clean"), item[0])))


def _measured(
    pair: tuple[Outputs, Outputs], measure: str, resamples: bootstrap.Resamples
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a measure of both networks `[2]`, and on every resample of the images `[resamples, 2]`."""
    values, resampled = [], []
    for found in pair:
        if measure == ECE:
            sums = bootstrap.gap_sums(resamples, found)
        else:
            examples = found.correct if measure == ACCURACY else getattr(found, measure)
            sums = bootstrap.group_sums(resamples, np.asarray(examples, np.float64))
        with np.errstate(invalid="ignore"):  # a loss may have overflowed
            values.append(np.abs(sums.sum(axis=0)).sum() / len(found.labels))
            resampled.append(np.abs(bootstrap.resampled_means(resamples, sums)).sum(axis=-1))
    return np.array(values), np.stack(resampled, axis=-1)


def _difference(
    test_set: str, measure: str, values: np.ndarray, resampled: np.ndarray, size: int, p_value: float | None = None
) -> Difference:
    """Returns a difference, its p-value, that of the bootstrap unless given, not yet corrected."""
    samples = resampled[:, None] if np.isfinite(resampled).all() else None
    with np.errstate(invalid="ignore"):
        found = bootstrap.interval_estimate(bootstrap.difference, values[None], samples)
    if p_value is None:
        p_value = found.p_value(0.0, claim=bootstrap.APART)
    return Difference(test_set, measure, *map(float, values), found.value, found.low, found.high, p_value, size)
