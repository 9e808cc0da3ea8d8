"""Do two checkpoints differ? From their outputs on the same images: paired, corrected for the number of questions."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from scipy import special

from jaxprune.report import outputs, resampling
from jaxprune.report.outputs import NUM_BINS, Outputs
from jaxprune.report.verdicts import SIGNIFICANCE

ACCURACY, ECE, LOG_LOSS, BRIER = "accuracy", "ece_equal_width_10", "negative_log_likelihood", "brier_score"
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
        return self.p_value <= SIGNIFICANCE


Source = str | os.PathLike | Mapping[str, Outputs]


def compare(
    first: Source, second: Source, *, num_resamples: int = resampling.NUM_RESAMPLES, seed: int = 0
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
    draws, found, samples = {}, [], {measure: [] for measure in MEASURES}
    for name in shared:
        pair = both[0][name], both[1][name]
        if not np.array_equal(pair[0].labels, pair[1].labels):
            raise ValueError(
                f"the labels of test set {name} differ, so its images are not the same; "
                "evaluate both on the same images"
            )
        size = len(pair[0].labels)
        if size not in draws:
            draws[size] = resampling.draw(size, seed=seed, num_resamples=num_resamples)
        measured = [_measure(each, draws[size]) for each in pair]
        for measure in MEASURES:
            parts = zip(*(each[measure] for each in measured), strict=True)
            values, resampled = (np.stack(part, axis=-1) for part in parts)
            exact = _mcnemar(*pair) if measure == ACCURACY else None
            found.append(_difference(name, measure, values, resampled, size, exact))
            if not name.startswith("clean"):
                samples[measure].append((values, resampled, size))
    if len(samples[ACCURACY]) > 1:
        found += [_mean(measure, parts) for measure, parts in samples.items()]
    adjusted = resampling.holm([each.p_value for each in found])
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


def _measure(found: Outputs, draws: resampling.Draws) -> dict[str, tuple[float, np.ndarray]]:
    """Returns each measure of a network: its value, and that of each resample."""
    columns = {
        ACCURACY: resampling.group_sums(draws, found.correct),
        ECE: resampling.group_sums(draws, found.gaps, found.bins, NUM_BINS),
        LOG_LOSS: resampling.group_sums(draws, np.asarray(found.negative_log_likelihood, np.float64)),
        BRIER: resampling.group_sums(draws, np.asarray(found.brier_score, np.float64)),
    }
    out, size = {}, len(found.labels)
    for measure, sums in columns.items():
        with np.errstate(invalid="ignore"):
            value, resampled = sums.sum(axis=0) / size, resampling.resampled_means(draws, sums)
        out[measure] = np.abs(value).sum(), np.abs(resampled).sum(axis=-1)
    return out


def _difference(
    test_set: str, measure: str, values: np.ndarray, resampled: np.ndarray, size: int, exact: float | None = None
) -> Difference:
    """Returns a difference, its p-value not yet corrected, from `[2]` and `[resamples, 2]`."""
    samples = resampled[:, None] if np.isfinite(resampled).all() else None
    with np.errstate(invalid="ignore"):
        found = resampling.estimate(lambda means: means[..., 1] - means[..., 0], values[None], samples)
    p_value = min(found.p_value(0.0, claim=claim) for claim in ("above", "below")) if exact is None else exact
    return Difference(test_set, measure, *map(float, values), found.value, found.low, found.high, p_value, size)


def _mean(measure: str, parts: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> Difference:
    """Returns the difference of the means over corrupted test sets; those of one size share their resamples."""
    values = np.mean([values for values, _, _ in parts], axis=0)
    resampled = np.mean([resampled for _, resampled, _ in parts], axis=0)
    return _difference(CORRUPTED_MEAN, measure, values, resampled, min(size for _, _, size in parts))


def _mcnemar(first: Outputs, second: Outputs) -> float:
    """Returns the two-sided p-value of McNemar's exact test: are the images that one alone has right split evenly?"""
    gained, lost = int((second.correct & ~first.correct).sum()), int((first.correct & ~second.correct).sum())
    return float(min(1.0, 2 * special.bdtr(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0
