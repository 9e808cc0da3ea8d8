"""Smooth calibration error: no bins, one number, consistent in the sense of Blasiok & Nakkiran 2023.

The Gaussian kernel reflected at 0 and 1 is diagonal in cosines: smoothing multiplies the k-th cosine coefficient of the
residuals by exp(-(k pi sigma)^2 / 2). So the residuals are spread once on a fine grid, transformed once, and each
bandwidth tried costs one short Fourier transform, however many examples there are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxprune.metrics._arguments import Outcomes, PerExample, Scalar, as_outcomes, as_per_example, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import check_alike, merge_sum, refuse_product
from jaxprune.metrics._rows import top_label_arguments
from jaxprune.metrics._sums import Pair, add, psum, segment_sum, total, weighted

GRID_CELLS = 4096  # the coarsest that keeps the error of bandwidths above 0.002 below 1e-6
BISECTIONS = 24  # halvings of [0, 1]: float32 has no more digits


class SmoothCalibrationGrid(NamedTuple):
    """The residuals of confidences on a grid of 4097 points: streams `smooth_calibration_error`, same result.

    An accumulator like `CalibrationBins`.

    >>> grid = SmoothCalibrationGrid.empty().update(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]))
    >>> round(grid.compute().item(), 3)
    0.198
    """

    residual: Pair
    weight: Pair

    @classmethod
    def empty(cls) -> "SmoothCalibrationGrid":
        """Returns a grid that holds nothing, the identity of `merge`."""
        zeros, zero = jnp.zeros(GRID_CELLS + 1), jnp.zeros(())
        return cls(Pair(zeros, zeros), Pair(zero, zero))

    @checked(static_argnames="from_logits")
    def update(
        self, outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
    ) -> "SmoothCalibrationGrid":
        """Returns the grid with a batch added; rows of weight 0 (padding) do not count."""
        return self.merge(_spread(*top_label_arguments(outputs, labels, weights, from_logits)))

    @checked()
    def update_examples(
        self, confidence: ArrayLike, correct: ArrayLike, *, weights: ArrayLike | None = None
    ) -> "SmoothCalibrationGrid":
        """Returns the grid with a batch added, given as its confidences and whether each prediction was right."""
        confidence = as_per_example("confidence", confidence)
        correct = as_outcomes(correct, confidence.shape[0])
        return self.merge(_spread(confidence, correct, as_weights(weights, confidence.shape[0])))

    @jax.jit
    def merge(self, other: "SmoothCalibrationGrid") -> "SmoothCalibrationGrid":
        """Returns the grid of both, as `+` does."""
        check_alike(self, other)
        return SmoothCalibrationGrid(add(self.residual, other.residual), add(self.weight, other.weight))

    __add__ = __radd__ = merge_sum
    __mul__ = __rmul__ = refuse_product

    def psum(self, axis_name: str | tuple[str, ...]) -> "SmoothCalibrationGrid":
        """Returns the grid of all devices of the mapped axis, on each of them."""
        return SmoothCalibrationGrid(psum(self.residual, axis_name), psum(self.weight, axis_name))

    @checked()
    def compute(self, *, bandwidth: ArrayLike | None = None) -> Scalar:
        """Returns the smooth calibration error of what the grid holds, NaN when it is empty.

        Raises `ValueError` for a bandwidth that is not positive and finite (under a transformation it cannot see it).
        """
        coefficients = _cosine_coefficients(self.residual.value / self.weight.value)
        if bandwidth is not None:
            return _smoothed_norm(coefficients, jnp.asarray(bandwidth, jnp.float32))

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            above = _smoothed_norm(coefficients, middle) > middle
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        # Made of the data, so that under shard_map they vary over devices as the data do.
        zero = 0 * coefficients[0]
        _, high = jax.lax.fori_loop(0, BISECTIONS, halve, (zero, zero + 1))
        return _smoothed_norm(coefficients, high)


@checked(static_argnames="from_logits")
def smooth_calibration_error(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = False,
    weights: ArrayLike | None = None,
    bandwidth: ArrayLike | None = None,
) -> Scalar:
    r"""Returns the smooth calibration error of the largest probability, in [0, 1/2] at its own bandwidth.

    $$\mathrm{smECE}_\sigma = \int_0^1 \left| \frac{1}{n} \sum_i K_\sigma(t, \mathrm{conf}_i)
    (\mathrm{correct}_i - \mathrm{conf}_i) \right| dt$$

    with the Gaussian kernel of standard deviation sigma reflected at 0 and 1, at the `bandwidth` given, or by default
    where smECE_sigma = sigma (Blasiok & Nakkiran 2023, Definition 9). Raises `ValueError` for a bandwidth that is not
    positive and finite (under a transformation it cannot see it). Elsewhere: the authors' relplot spreads the
    confidences on a coarser grid than these 4096 cells and stops earlier, which moves its fourth digit.

    >>> probs, labels = jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1])
    >>> round(smooth_calibration_error(probs, labels).item(), 3)
    0.198
    >>> round(smooth_calibration_error(probs, labels, bandwidth=0.01).item(), 3)
    0.375
    """
    grid = _spread(*top_label_arguments(outputs, labels, weights, from_logits))
    return grid.compute(bandwidth=bandwidth)


def _spread(confidence: PerExample, correct: Outcomes, weights: PerExample | None) -> SmoothCalibrationGrid:
    """Returns the residuals shared between the two nearest grid points, which keeps their mass and their mean."""
    residual = correct - confidence
    mass = jnp.asarray(confidence.size, jnp.float32)
    total_weight = Pair(mass, 0 * mass)
    if weights is not None:
        residual, total_weight = weighted(residual, weights), total(weights)
        confidence = jnp.where(weights == 0, 0, confidence)
    position = jnp.clip(confidence, 0, 1) * GRID_CELLS
    cell = jnp.minimum(position.astype(jnp.int32), GRID_CELLS - 1)
    right = residual * (position - cell)
    sums = (segment_sum(part, index, GRID_CELLS + 1) for part, index in ((residual - right, cell), (right, cell + 1)))
    return SmoothCalibrationGrid(add(*sums), total_weight)


def _cosine_coefficients(density: Float[Array, " points"]) -> Float[Array, " points"]:
    """Returns sum_j density_j cos(k pi j / cells) for k = 0, ..., cells: half of the transform of the mirrored grid."""
    ends = density * jnp.ones_like(density).at[0].set(2).at[-1].set(2)  # the mirror image must not lose the ends
    return jnp.fft.rfft(jnp.concatenate([ends, density[-2:0:-1]])).real / 2


def _smoothed_norm(coefficients: Float[Array, " points"], bandwidth: Scalar) -> Scalar:
    """Returns the integral over [0, 1] of the absolute smoothed residual, by the trapezoidal rule."""
    frequency = jnp.pi * jnp.arange(GRID_CELLS + 1)
    damped = coefficients * jnp.exp(-0.5 * (frequency * bandwidth) ** 2)
    smoothed = jnp.abs(jnp.fft.irfft(damped, n=2 * GRID_CELLS)[: GRID_CELLS + 1]) * (2 * GRID_CELLS)
    return (smoothed.sum() - (smoothed[0] + smoothed[-1]) / 2) / GRID_CELLS
