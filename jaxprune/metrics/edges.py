"""Equal-width bins: where their edges lie, and what a reliability diagram needs of each, on the host."""

from typing import Any

import numpy as np

from jaxprune.metrics._host import HostArray, as_real, namespace, refuse_on_host
from jaxprune.metrics._options import check_positive

COMPARE_ALL_UP_TO = 64  # bins; above it JAX is faster with a binary search than by comparing with every edge


def equal_width_edges(num_bins: int) -> np.ndarray:
    """Returns the `num_bins + 1` edges k / bins, in float64."""
    return np.arange(num_bins + 1) / num_bins


def equal_width_bins(confidence: Any, *, num_bins: int = 15) -> HostArray:
    """Returns bin k for confidences in [k / bins, (k + 1) / bins), both ends of the last bin included; int32.

    The edges are those numbers in the dtype of the confidences, float32 for most, compared and not multiplied, so that
    a confidence equal to an edge is right of it. In NumPy; where a JAX array is given, traced or not, in JAX. Raises
    `ValueError` for `num_bins` below 1, `TypeError` unless the confidences are floating point numbers.

    >>> equal_width_bins(np.array([0.0, 0.29, 0.3, 1.0], np.float32), num_bins=10).tolist()
    [0, 2, 3, 9]
    """
    check_positive("num_bins", num_bins)
    xp = namespace(confidence)
    confidence = np.asarray(confidence) if xp is np else confidence
    if not xp.issubdtype(confidence.dtype, np.floating):
        raise TypeError(f"confidence must be floating point numbers, got dtype {confidence.dtype}")
    edges = equal_width_edges(num_bins)[1:-1].astype(confidence.dtype)
    method = {} if xp is np else {"method": "compare_all" if num_bins <= COMPARE_ALL_UP_TO else "scan_unrolled"}
    return xp.searchsorted(edges, confidence, side="right", **method).astype(np.int32)


def calibration_bin_sums(confidence: Any, correct: Any, *, num_bins: int = 15) -> np.ndarray:
    """Returns the number of examples, of right ones, and the sum of confidences in each equal-width bin, `[3, bins]`.

    On the host in float64, for arrays `[batch]` that are there anyway; `CalibrationBins` is the same on the device.
    From its rows: the calibration error is `abs(sums[1] - sums[2]).sum() / sums[0].sum()`, the accuracy of a bin
    `sums[1] / sums[0]`. Raises `ValueError` for other shapes, and for confidences or outcomes outside [0, 1].

    >>> calibration_bin_sums(np.array([0.75, 0.5]), np.array([True, False]), num_bins=2).tolist()
    [[0.0, 2.0], [0.0, 1.0], [0.0, 1.25]]
    """
    bins = equal_width_bins(confidence, num_bins=num_bins)
    columns = [as_real(name, x, np) for name, x in (("correct", correct), ("confidence", confidence))]
    if bins.ndim != 1 or columns[0].shape != bins.shape:
        raise ValueError(
            f"confidence and correct must have one shape [batch], got {list(bins.shape)} and {list(columns[0].shape)}"
        )
    refuse_on_host(dict(zip(("correct", "confidence"), columns, strict=True)))
    sums = [np.bincount(bins, weights=column, minlength=num_bins) for column in (None, *columns)]
    return np.stack(sums).astype(np.float64)
