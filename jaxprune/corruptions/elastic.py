"""Elastic transform of one float32 image in [0, 1], shape [height, width, channels]."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxprune.corruptions import _random, severities
from jaxprune.corruptions._filters import gaussian_correction
from jaxprune.corruptions._matrices import mirror
from jaxprune.corruptions.image import Draws, Image, Plane, Severity, at_severity, pixels_at

# OpenCV up to 4.14 computes affine coordinates in fixed point: terms of 1/1024 pixel, sums of 1/32.
_TERM_STEPS, _SUM_STEPS = 1024, 32

# The reference's displacement filter is cut at this many standard deviations.
_TRUNCATE = 3.0


def draw_elastic_transform(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns uniform numbers in [-1, 1): `affine` [3, 2], shifts of three points; `dx` and `dy`, one per pixel."""
    height, width, _ = image.shape
    numbers = _random.uniform(key, (6 + 2 * height * width,), low=-1.0, high=1.0)
    dx, dy = numbers[6:].reshape(2, height, width)
    return {"affine": numbers[:6].reshape(3, 2), "dx": dx, "dy": dy}


def apply_elastic_transform(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image under a random affine map, then under a smooth random displacement.

    Three points of a centred square are moved by up to `reach` pixels; the map that moves them is inverted and sampled
    bilinearly, coordinates rounded to 1/32 pixel as OpenCV did up to 4.14. The displacement is `alpha` times uniform
    noise under a Gaussian. The affine part shrinks as severity grows, and at severity 1 of "cifar" it is alone, so the
    mean change of the pixels falls with severity.
    """
    height, width, _ = image.shape
    table = np.array(severities.ELASTIC_TRANSFORM[preset])
    alpha, _, reach = at_severity(table, severity)
    rows, columns = _affine_coordinates(height, width, reach * draws["affine"])
    image = _bilinear(image, rows, columns, "reflect")
    moves = jnp.stack([draws["dx"], draws["dy"]], axis=-1)
    sigmas = tuple(table[:, 1].tolist())
    moves += gaussian_correction(moves, sigmas, severity, truncate=_TRUNCATE, border="symmetric")
    dx, dy = jnp.moveaxis(alpha * moves, -1, 0)
    rows, columns = jnp.indices((height, width), jnp.float32)
    return _bilinear(image, rows + dy, columns + dx, "symmetric")


def _affine_coordinates(height: int, width: int, moves: Float[Array, "3 2"]) -> tuple[Plane, Plane]:
    """Returns where each pixel comes from under the map that moves three points: rows and columns, in 1/32 pixels."""
    center = np.array([width // 2, height // 2], np.float32)
    square = min(height, width) // 3
    points = center[None] + square * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    moved = points + moves
    # The inverse map takes the moved points, hence their differences, back: inverse @ to = from.
    from_edges = (points[:2] - points[1:]).T
    (a, b), (c, d) = (moved[:2] - moved[1:]).T
    inverse_edges = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    (xx, xy), (yx, yy) = jnp.einsum("ij,jk->ik", from_edges, inverse_edges, precision="highest")
    x0 = points[0, 0] - xx * moved[0, 0] - xy * moved[0, 1]
    y0 = points[0, 1] - yx * moved[0, 0] - yy * moved[0, 1]

    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]

    def fixed_point(by_x, by_y, start):
        terms = jnp.round((by_y * y + start) * _TERM_STEPS) + jnp.round(by_x * x * _TERM_STEPS)
        per_sum = _TERM_STEPS // _SUM_STEPS
        return jnp.floor((terms + per_sum // 2) / per_sum) / _SUM_STEPS

    return fixed_point(yx, yy, y0), fixed_point(xx, xy, x0)


def _bilinear(image: Image, rows: Plane, columns: Plane, border: str) -> Image:
    """Returns the image at fractional coordinates, by the four pixels around each; `border` as in `mirror`."""
    height, width, _ = image.shape
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    total = jnp.zeros_like(image)
    for row_step, row_share in ((0, 1 - down), (1, down)):
        row = mirror(top + row_step, height, border)
        for column_step, column_share in ((0, 1 - right), (1, right)):
            column = mirror(left + column_step, width, border)
            total += _rounded_product(pixels_at(image, row, column), row_share * column_share)
    return total


# Upper half of the bits of a float32 significand.
_UPPER_HALF = np.int32(-(2**12))


def _rounded_product(values: Image, weights: Float[Array, "height width 1"]) -> Image:
    """Returns `values * weights`, rounded before anything is added to it, as OpenCV does.

    A compiler may fuse a product with the sum that follows, with one rounding for both. The sum of two half products
    that are exact can only be rounded here.
    """
    upper = lax.bitcast_convert_type(lax.bitcast_convert_type(values, jnp.int32) & _UPPER_HALF, values.dtype)
    return upper * weights + (values - upper) * weights
