"""Float64 NumPy oracles, written from the definitions and not from the library, and problems to try them on."""

import types

import numpy as np
import pytest
import scipy.special


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


def calibration_error(confidence, correct, weights=None, num_bins=15, binning="equal_width", norm="l1"):
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    confidence, correct, weights = (x[weights != 0] for x in (confidence, correct, weights))
    masses, gaps = [], []
    for rows in bins(confidence, num_bins, binning):
        if len(rows):
            masses.append(weights[rows].sum())
            gaps.append(abs((weights * (correct - confidence))[rows].sum()) / masses[-1])
    masses, gaps = np.array(masses), np.array(gaps)
    if norm == "max":
        return gaps.max()
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


def problem(seed, size=60, classes=5, sharpness=2.0):
    """Returns float32 logits, float32 probabilities, labels that follow them loosely, and a mask with some zeros."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (size, classes)).astype(np.float32)
    probs = softmax(logits).astype(np.float32)
    labels = np.where(rng.random(size) < 0.6, probs.argmax(axis=1), rng.integers(0, classes, size)).astype(np.int32)
    mask = (rng.random(size) < 0.8).astype(np.float32)
    return types.SimpleNamespace(logits=logits, probs=probs, labels=labels, mask=mask, weights=mask * rng.random(size))


ORACLES = types.SimpleNamespace(**{k: v for k, v in globals().items() if isinstance(v, types.FunctionType)})


@pytest.fixture(scope="session")
def oracles():
    return ORACLES


@pytest.fixture(scope="session")
def golden(shared):
    return dict(np.load(shared("reference/logits10.npz")))
