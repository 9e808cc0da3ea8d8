"""Calibration of every class probability, not only of the largest one."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import (
    NORMS,
    Labels,
    Outputs,
    PerExample,
    Scalar,
    as_integers,
    as_outputs,
    as_weights,
    check_bins,
    check_option,
    check_positive,
)
from jaxprune.metrics._rows import squared_loss
from jaxprune.metrics._sums import weighted_mean
from jaxprune.metrics.binning import CalibrationBins, bins_of, calibration_error_of

CLASSES_AT_ONCE = 16  # bounds the memory at 50,000 x 1,000 to some 100 MB


class BrierDecomposition(NamedTuple):
    """The parts of the Brier score, which is their sum."""

    calibration: Scalar
    refinement: Scalar
    within_bins: Scalar


class ClasswiseCalibrationBins(NamedTuple):
    """Equal-width bins of every class probability, in O(classes x bins) memory: streams `classwise_calibration_error`.

    An accumulator like `CalibrationBins`. Equal-mass bins (`adaptive_calibration_error`) need all probabilities at once
    and cannot stream.

    >>> bins = ClasswiseCalibrationBins.empty(num_classes=2, num_bins=10)
    >>> bins = bins.update(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]))
    >>> bins.compute().item()
    0.375
    """

    bins: CalibrationBins  # arrays [classes, bins]

    @classmethod
    def empty(cls, *, num_classes: int, num_bins: int = 15) -> "ClasswiseCalibrationBins":
        """Returns bins that hold nothing, the identity of `merge`."""
        check_positive("num_classes", num_classes)
        empty = CalibrationBins.empty(num_bins=num_bins)
        return cls(jax.tree.map(lambda x: jnp.zeros((num_classes, *x.shape), x.dtype), empty))

    @partial(jax.jit, static_argnames=("from_logits", "threshold"))
    def update(
        self,
        outputs: ArrayLike,
        labels: ArrayLike,
        *,
        from_logits: bool = False,
        weights: ArrayLike | None = None,
        threshold: float = 0.0,
    ) -> "ClasswiseCalibrationBins":
        """Returns the bins with a batch added; rows of weight 0 and probabilities below the threshold do not count."""
        probs, labels, weights = classwise_arguments(outputs, labels, weights, from_logits)
        num_classes, num_bins = self.bins.count.shape
        if probs.shape[1] != num_classes:
            raise ValueError(
                f"outputs have {probs.shape[1]} classes, these bins {num_classes}; make them with that many"
            )
        added = bins_of_classes(probs, labels, weights, num_bins, "equal_width", threshold)
        return self.merge(ClasswiseCalibrationBins(added))

    @jax.jit
    def merge(self, other: "ClasswiseCalibrationBins") -> "ClasswiseCalibrationBins":
        """Returns the bins of both; raises `ValueError` when they have different bins."""
        return ClasswiseCalibrationBins(self.bins.merge(other.bins))

    def psum(self, axis_name: str | tuple[str, ...]) -> "ClasswiseCalibrationBins":
        """Returns the bins of all devices of the mapped axis, on each of them."""
        return ClasswiseCalibrationBins(self.bins.psum(axis_name))

    @partial(jax.jit, static_argnames="norm")
    def compute(self, *, norm: str = "l1") -> Scalar:
        """Returns the class-wise calibration error of what the bins hold, NaN when they are empty."""
        check_option("norm", norm, NORMS)
        return classwise_error_of(self.bins, norm)


@partial(jax.jit, static_argnames=("from_logits", "num_bins", "binning", "norm", "threshold"))
def classwise_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    binning: str = "equal_width",
    norm: str = "l1",
    threshold: float = 0.0,
) -> Scalar:
    r"""Returns the mean over the classes of the binned error of p_k against 1[y = k], in [0, 1].

    $$\frac{1}{K} \sum_k \sum_b \frac{n_{kb}}{n_k} \left| \mathrm{freq}_{kb} - \mathrm{conf}_{kb} \right|$$

    The static calibration error of Nixon et al. 2019. Probabilities below `threshold` do not count, n_k is the
    number of those that do, and a class without any is left out of the mean. Options and errors as in
    `expected_calibration_error`.

    >>> classwise_calibration_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]), num_bins=10).item()
    0.375
    """
    check_bins(num_bins, binning)
    check_option("norm", norm, NORMS)
    arguments = classwise_arguments(outputs, labels, weights, from_logits)
    return classwise_error_of(bins_of_classes(*arguments, num_bins, binning, threshold), norm)


@partial(jax.jit, static_argnames=("from_logits", "num_bins", "norm", "threshold"))
def adaptive_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
    norm: str = "l1",
    threshold: float = 0.0,
) -> Scalar:
    """Returns `classwise_calibration_error` with equal-mass bins (Nixon et al. 2019, ACE; with a threshold, TACE).

    >>> adaptive_calibration_error(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 0]), num_bins=2).item()
    0.375
    """
    return classwise_calibration_error(
        outputs,
        labels,
        from_logits=from_logits,
        weights=weights,
        num_bins=num_bins,
        binning="equal_mass",
        norm=norm,
        threshold=threshold,
    )


@partial(jax.jit, static_argnames=("from_logits", "num_bins"))
def brier_decomposition(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    num_bins: int = 15,
) -> BrierDecomposition:
    r"""Returns the calibration and refinement parts of `brier_score`, summed over the classes like it.

    $$\sum_k \sum_b \frac{n_{kb}}{n} (\mathrm{freq}_{kb} - \mathrm{conf}_{kb})^2, \quad
    \sum_k \sum_b \frac{n_{kb}}{n} \mathrm{freq}_{kb} (1 - \mathrm{freq}_{kb})$$

    over equal-width bins of each class (Murphy 1973; DeGroot & Fienberg 1983). The two add up to the score when the
    probabilities within a bin are equal; `within_bins` is what is missing otherwise (Stephenson et al. 2008), so that
    the three always do.

    >>> parts = brier_decomposition(jnp.array([[0.75, 0.25], [0.75, 0.25]]), jnp.array([0, 1]))
    >>> [part.item() for part in parts]
    [0.125, 0.5, 0.0]
    """
    check_positive("num_bins", num_bins)
    probs, labels, weights = classwise_arguments(outputs, labels, weights, from_logits)
    bins = bins_of_classes(probs, labels, weights, num_bins, "equal_width", 0.0)
    return decomposition_of(bins, weighted_mean(squared_loss(probs, labels), weights))


def decomposition_of(bins: CalibrationBins, score: Scalar) -> BrierDecomposition:
    """Returns the parts of a Brier score, from the bins of every class."""
    weight = bins.weight.value
    occupied = jnp.where(weight == 0, 1, weight)
    frequency, confidence = bins.correct.value / occupied, bins.confidence.value / occupied
    mass = weight / weight.sum(axis=1, keepdims=True)
    calibration = (mass * (frequency - confidence) ** 2).sum()
    refinement = (mass * frequency * (1 - frequency)).sum()
    return BrierDecomposition(calibration, refinement, score - calibration - refinement)


def classwise_error_of(bins: CalibrationBins, norm: str) -> Scalar:
    """Returns the mean error of the classes that have examples: the others have no error, 0 / 0."""
    errors = jax.vmap(partial(calibration_error_of, norm=norm))(bins)
    occupied = bins.count.any(axis=1)
    return jnp.where(occupied, errors, 0).sum() / occupied.sum()


def classwise_arguments(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, from_logits: bool
) -> tuple[Outputs, Labels, PerExample | None]:
    """Returns the checked probabilities, labels and weights; a row without a valid label is NaN."""
    outputs = as_outputs(outputs)
    labels = as_integers("labels", labels, outputs.shape[0])
    probs = jax.nn.softmax(outputs, axis=-1) if from_logits else outputs
    inside = (labels >= 0) & (labels < outputs.shape[1])
    return jnp.where(inside[:, None], probs, jnp.nan), labels, as_weights(weights, outputs.shape[0])


def bins_of_classes(
    probs: Outputs, labels: Labels, weights: PerExample | None, num_bins: int, binning: str, threshold: float
) -> CalibrationBins:
    """Returns the bins of every class, stacked `[classes, bins]`; a few classes at a time."""

    def of_class(column_and_class):
        column, index = column_and_class
        kept = weights
        if threshold > 0:
            ones = jnp.ones_like(column) if weights is None else weights
            kept = jnp.where(column < threshold, 0, ones)  # a NaN is kept, to be seen in the result
        return bins_of(column, labels == index, kept, num_bins, binning)

    return jax.lax.map(of_class, (probs.T, jnp.arange(probs.shape[1])), batch_size=CLASSES_AT_ONCE)
