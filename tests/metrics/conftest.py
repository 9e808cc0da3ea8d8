"""Float64 NumPy oracles, written from the definitions and not from the library, and problems to try them on."""

import types

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def top_label(probs, labels):
    probs = np.asarray(probs, np.float64)
    return probs.max(axis=1), (probs.argmax(axis=1) == labels).astype(np.float64)


def bins(confidence, num_bins, binning):
    """Returns the list of index arrays of the bins."""
    if binning == "equal_mass":
        return np.array_split(np.argsort(confidence, kind="stable"), num_bins)
    edges = (np.arange(num_bins + 1) / num_bins).astype(np.float32).astype(np.float64)
    edges[0], edges[-1] = -np.inf, np.inf
    return [np.flatnonzero((confidence >= edges[k]) & (confidence < edges[k + 1])) for k in range(num_bins)]


def share_ties(confidence, weights, correct):
    """Returns weights and correctness in which equal confidences have equal parts of their sums."""
    shared_weights, shared_correct = weights.copy(), correct.copy()
    for level in np.unique(confidence):
        equals = confidence == level
        shared_weights[equals] = weights[equals].mean()
        shared_correct[equals] = np.average(correct[equals], weights=weights[equals])
    return shared_weights, shared_correct


def calibration_error(confidence, correct, weights=None, num_bins=15, binning="equal_width", norm="l1"):
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    confidence, correct, weights = (x[weights != 0] for x in (confidence, correct, weights))
    if binning == "equal_mass":
        weights, correct = share_ties(confidence, weights, correct)
    masses, gaps = [], []
    for rows in bins(confidence, num_bins, binning):
        if len(rows):
            masses.append(weights[rows].sum())
            gaps.append(abs((weights * (correct - confidence))[rows].sum()) / masses[-1])
    masses, gaps = np.array(masses), np.array(gaps)
    if norm in ("max", "average"):
        return gaps.max() if norm == "max" else gaps.mean()
    power = {"l1": 1, "l2": 2}[norm]
    return ((masses * gaps**power).sum() / masses.sum()) ** (1 / power)


def mean(values, weights=None):
    values = np.asarray(values, np.float64)
    if weights is None:
        return values.mean()
    weights = np.asarray(weights, np.float64)
    return (values * weights)[weights != 0].sum() / weights.sum()


def expected_calibration_error(probs, labels, weights=None, **options):
    return calibration_error(*top_label(probs, labels), weights, **options)


def accuracy(probs, labels, weights=None):
    return mean(top_label(probs, labels)[1], weights)


def top_k_accuracy(probs, labels, weights=None, k=5):
    best = np.argsort(-np.asarray(probs, np.float64), axis=1, kind="stable")[:, :k]
    return mean((best == np.asarray(labels)[:, None]).any(axis=1), weights)


def negative_log_likelihood(probs, labels, weights=None):
    return mean(-np.log(np.asarray(probs, np.float64)[np.arange(len(labels)), labels]), weights)


def brier_score(probs, labels, weights=None):
    probs = np.asarray(probs, np.float64)
    return mean(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1), weights)


def top_label_brier_score(probs, labels, weights=None):
    confidence, correct = top_label(probs, labels)
    return mean((confidence - correct) ** 2, weights)


def average_calibration_error(probs, labels, weights=None, **options):
    return expected_calibration_error(probs, labels, weights, norm="average", **options)


def maximum_calibration_error(probs, labels, weights=None, **options):
    return expected_calibration_error(probs, labels, weights, norm="max", **options)


def per_bin(probs, labels, weights, num_bins, binning):
    """Yields (mass, count, confidence, accuracy) of the non-empty bins."""
    yield from per_bin_of(*top_label(probs, labels), weights, num_bins, binning)


def per_bin_of(confidence, correct, weights, num_bins, binning):
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    confidence, correct, weights = (x[weights != 0] for x in (confidence, correct, weights))
    if binning == "equal_mass":
        weights, correct = share_ties(confidence, weights, correct)
    for rows in bins(confidence, num_bins, binning):
        if len(rows):
            mass = weights[rows] / weights.sum()
            share = mass / mass.sum()
            yield mass.sum(), len(rows), share @ confidence[rows], share @ correct[rows]


def debiased_square(confidence, correct, weights, num_bins, binning):
    return sum(
        mass * ((acc - conf) ** 2 - acc * (1 - acc) / (count - 1))
        for mass, count, conf, acc in per_bin_of(confidence, correct, weights, num_bins, binning)
        if count > 1
    )


def debiased_calibration_error(probs, labels, weights=None, num_bins=15, binning="equal_mass"):
    return max(debiased_square(*top_label(probs, labels), weights, num_bins, binning), 0) ** 0.5


def debiased_classwise_calibration_error(probs, labels, weights=None, num_bins=15, binning="equal_mass"):
    squares = [
        debiased_square(probs[:, k], np.asarray(labels) == k, weights, num_bins, binning) for k in range(probs.shape[1])
    ]
    return max(np.mean(squares), 0) ** 0.5


def overconfidence_error(probs, labels, weights=None, num_bins=15, binning="equal_width"):
    return sum(
        mass * conf * max(conf - acc, 0) for mass, _, conf, acc in per_bin(probs, labels, weights, num_bins, binning)
    )


def signed_calibration_gap(probs, labels, weights=None):
    confidence, correct = top_label(probs, labels)
    return mean(confidence - correct, weights)


def kolmogorov_smirnov_calibration_error(probs, labels, weights=None):
    confidence, correct = top_label(probs, labels)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    residual = weights * (correct - confidence)
    levels = np.unique(confidence[weights != 0])
    return max(abs(residual[confidence <= level].sum()) for level in levels) / weights.sum()


def classwise_calibration_error(probs, labels, weights=None, threshold=0.0, **options):
    errors = []
    for k in range(probs.shape[1]):
        kept = np.asarray(probs[:, k] >= np.float32(threshold))
        kept = kept if weights is None else kept & (np.asarray(weights) != 0)
        if kept.any():
            w = None if weights is None else np.asarray(weights)[kept]
            errors.append(calibration_error(probs[kept, k], np.asarray(labels)[kept] == k, w, **options))
    if options.get("norm") == "l2":
        return np.mean(np.square(errors)) ** 0.5
    return np.mean(errors)


def adaptive_calibration_error(probs, labels, weights=None, **options):
    return classwise_calibration_error(probs, labels, weights, binning="equal_mass", **options)


def entropy(probs, labels, weights=None):
    return mean(scipy.special.entr(np.asarray(probs, np.float64)).sum(axis=1), weights)


def area_under_risk_coverage(probs, labels, weights=None):
    confidence, correct = top_label(probs, labels)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    confidence, wrong, weights = (x[weights != 0] for x in (confidence, 1 - correct, weights))
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong, weights = confidence[order], wrong[order], weights[order]
    weights, wrong = share_ties(confidence, weights, wrong)
    return np.average(np.cumsum(weights * wrong) / np.cumsum(weights), weights=weights)


def smoothed_norm(confidence, residual, bandwidth, points=1501):
    """Returns the integral of the absolute smoothed residual, the kernel's images written out."""
    t = np.linspace(0, 1, points)
    density = np.zeros(points)
    for shift in range(-6, 7):  # bandwidths below 1 reach no further
        for image in (2 * shift + confidence, 2 * shift - confidence):
            density += scipy.stats.norm.pdf(t[:, None], image[None], bandwidth) @ residual
    return np.trapezoid(np.abs(density), t)


def smooth_calibration_error(probs, labels, weights=None, bandwidth=None):
    confidence, correct = top_label(probs, labels)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    residual = weights * (correct - confidence) / weights.sum()
    if bandwidth is None:
        gap = lambda sigma: smoothed_norm(confidence, residual, sigma) - sigma  # noqa: E731
        bandwidth = scipy.optimize.brentq(gap, 1e-3, 1, xtol=1e-9)
    return smoothed_norm(confidence, residual, bandwidth)


def in_sixteenths(probs):
    """Returns positive multiples of 1/16 near the probabilities, which sum to 1 too (the largest remainders go up)."""
    classes = probs.shape[1]
    units = probs.astype(np.float64) * (16 - classes)
    missing = 16 - classes - np.floor(units).sum(axis=1)
    rank = np.argsort(np.argsort(np.floor(units) - units, axis=1, kind="stable"), axis=1)
    return ((np.floor(units) + (rank < missing[:, None]) + 1) / 16).astype(np.float32)


def problem(seed, size=60, classes=5, sharpness=2.0):
    """Returns float32 logits, float32 probabilities, labels that follow them loosely, and weights with some zeros.

    With an odd seed the probabilities are multiples of 1/16: many ties, and many exactly on the edges of bins.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (size, classes)).astype(np.float32)
    probs = softmax(logits).astype(np.float32)
    labels = np.where(rng.random(size) < 0.6, probs.argmax(axis=1), rng.integers(0, classes, size)).astype(np.int32)
    if seed % 2:
        probs = in_sixteenths(probs)
    mask = (rng.random(size) < 0.8).astype(np.float32)
    mask[0] = 1
    weights = (mask * rng.random(size)).astype(np.float32)
    return types.SimpleNamespace(logits=logits, probs=probs, labels=labels, mask=mask, weights=weights)


ORACLES = types.SimpleNamespace(**{k: v for k, v in globals().items() if isinstance(v, types.FunctionType)})


@pytest.fixture(scope="session")
def oracles():
    return ORACLES


@pytest.fixture(scope="session")
def golden(shared):
    return dict(np.load(shared("reference/logits10.npz")))
