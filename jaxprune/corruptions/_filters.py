"""Blurs in difference form: what a filter adds to each value, from differences to its neighbours.

A symmetric filter that keeps the mean adds the sum of `weight * (left + right - 2 * value)` over pairs of neighbours.
On 8-bit values the differences are exact, so nothing is added in flat areas and on even slopes, where
`filter @ image` leaves float32 rounding errors and the truncation to 8 bits makes some of them a whole level.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxprune.corruptions._matrices import gaussian_taps
from jaxprune.corruptions.image import Image, Severity, at_severity

# The largest fraction that is kept below a whole number: float32 holds 255 + this and truncates it to 255.
_LARGEST_FRACTION = 1 - 2.0**-12


def add_correction(values: Float[Array, "*size"], correction: Float[Array, "*size"]) -> Float[Array, "*size"]:
    """Returns `values + correction`, rounded so that its floor is that of the exact sum.

    >>> value, correction = jnp.float32(200), jnp.float32(-1e-6)
    >>> float(jnp.floor(value + correction)), float(jnp.floor(add_correction(value, correction)))
    (200.0, 199.0)
    """
    whole = jnp.floor(values)
    rest = values - whole + correction
    carry = jnp.floor(rest)
    return whole + carry + jnp.minimum(rest - carry, _LARGEST_FRACTION)


# Up to this reach the taps are unrolled into one fused sum; longer filters loop over them.
_LONGEST_UNROLLED = 8


def gaussian_correction(
    image: Image,
    sigmas: tuple[int | float, ...],
    severity: Severity,
    *,
    truncate: float = 4.0,
    border: str = "edge",
) -> Image:
    """Returns `gaussian(image) - image`, the Gaussian cut at `truncate` standard deviations.

    The defaults are those of skimage's `gaussian`; `border` is a mode of `jnp.pad`.
    """
    height, width, channels = image.shape
    table = _gaussian_weights(sigmas, truncate)
    weights = at_severity(table, severity)
    reach = table.shape[1]

    def along(axis, lines):
        # Pixels of one row are `channels` values apart, so that the last axis is long and contiguous.
        stride = (1, channels)[axis]
        pixels = lines.reshape(height, width, channels)
        padded = jnp.pad(pixels, [(reach, reach) if other == axis else (0, 0) for other in range(3)], mode=border)
        padded = padded.reshape(padded.shape[0], -1)

        def shifted(step):
            return lax.dynamic_slice_in_dim(padded, (reach + step) * stride, lines.shape[axis], axis)

        def add(step, total):
            return total + weights[step] * (shifted(-1 - step) + shifted(1 + step) - 2 * lines)

        if reach <= _LONGEST_UNROLLED:
            return functools.reduce(lambda total, step: add(step, total), range(reach), jnp.zeros_like(lines))
        return lax.fori_loop(0, (weights > 0).sum(), add, 0 * lines)

    lines = image.reshape(height, width * channels)
    across = along(1, lines)
    # A loop over the two, because a fused sum would compute `across` anew for each of its shifts.
    pair = jnp.stack([lines, across])
    return lax.fori_loop(0, 2, lambda index, total: total + along(0, pair[index]), across).reshape(image.shape)


@functools.cache
def _gaussian_weights(sigmas: tuple[int | float, ...], truncate: float) -> np.ndarray:
    """Returns [severity, reach]: the weights of the pixels 1, 2, ... away."""
    reaches = [int(truncate * sigma + 0.5) for sigma in sigmas]
    weights = np.zeros((len(sigmas), max(reaches)))
    for row, sigma, reach in zip(weights, sigmas, reaches, strict=True):
        row[:reach] = gaussian_taps(sigma, reach)[reach + 1 :]
    return weights


def kernel_correction(image: Image, kernels: tuple[np.ndarray, ...], severity: Severity) -> Image:
    """Returns `correlate(image, kernel) - image` for one symmetric kernel per severity.

    Borders are mirrored at the pixel centre. The loop runs over the pairs of taps that the severity's kernel has.
    """
    offsets, weights, counts = _tap_pairs(kernels)
    height, width, channels = image.shape
    reach = int(np.abs(offsets).max())
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").reshape(height + 2 * reach, -1)
    lines = image.reshape(height, width * channels)
    offsets, weights = at_severity(offsets, severity), at_severity(weights, severity)

    def shifted(offset):
        return lax.dynamic_slice(padded, (reach + offset[0], (reach + offset[1]) * channels), lines.shape)

    def add(pair, total):
        offset = offsets[pair]
        return total + weights[pair] * (shifted(offset) + shifted(-offset) - 2 * lines)

    # A float32 kernel sums to a hair more or less than 1, which decides where the exact result is a whole number.
    excess = at_severity(np.array([kernel.sum(dtype=np.float64) - 1 for kernel in kernels]), severity)
    return lax.fori_loop(0, at_severity(counts, severity), add, excess * lines).reshape(image.shape)


def _tap_pairs(kernels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns offsets [severity, pairs, 2], weights and counts of the taps on one side of the centre, zeros after."""
    pairs = []
    for kernel in kernels:
        down, right = np.nonzero(kernel)
        down, right = down - len(kernel) // 2, right - len(kernel) // 2
        one_side = (down > 0) | ((down == 0) & (right > 0))
        pairs.append((np.stack([down, right], axis=1)[one_side], kernel[kernel != 0][one_side]))
    counts = np.array([len(weights) for _, weights in pairs])
    offsets, weights = np.zeros((len(pairs), counts.max(), 2), int), np.zeros((len(pairs), counts.max()))
    for severity, (offset, weight) in enumerate(pairs):
        offsets[severity, : len(offset)], weights[severity, : len(weight)] = offset, weight
    return offsets, weights, counts
