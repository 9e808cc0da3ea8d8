"""Blur corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxprune.corruptions import _random, severities
from jaxprune.corruptions._filters import add_correction, gaussian_correction, kernel_correction
from jaxprune.corruptions._matrices import filter_matrix, gaussian_taps, zoom_samples
from jaxprune.corruptions._motion import motion_blur
from jaxprune.corruptions.image import (
    Draws,
    Image,
    Severity,
    at_severity,
    bytes_of,
    mix,
    pixels_at,
)


def apply_gaussian_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image under skimage's `gaussian`, edge pixels repeated; sigma grows with severity."""
    scaled = 255 * image
    return add_correction(scaled, gaussian_correction(scaled, severities.GAUSSIAN_BLUR_SIGMA[preset], severity)) / 255


def draw_glass_blur(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `offsets` int32 [iterations, height, width, 2]: (dx, dy) in -reach..reach-1, 0 at pixels not visited.

    The reach itself is never drawn, as NumPy's `randint` leaves out its upper end: pixels come from the top left more
    often than from the bottom right.
    """
    height, width, _ = image.shape
    table = np.array(severities.GLASS_BLUR[preset])
    reach = at_severity(table[:, 1].astype(int), severity)
    iterations = int(table[:, 2].max())
    shares = _random.uniform(key, (iterations, height, width, 2))
    steps = jnp.floor(shares * (2 * reach).astype(shares.dtype)).astype(jnp.int32) - reach
    return {"offsets": jnp.where(_visited(height, width, reach)[None, ..., None], steps, 0)}


def apply_glass_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image blurred, its pixels replaced by near ones, and blurred again.

    Every iteration goes through the pixels in descending raster order, each becoming what the pixel at its offset is
    by then. Three properties of the reference are kept: pixels are copied one way, though its code reads like a swap
    (NumPy's views make it a copy); the visited square leaves out `reach` pixels at the bottom and right but
    `reach + 1` at the top and left; and the first blur is truncated to 8 bits.
    """
    table = np.array(severities.GLASS_BLUR[preset])
    sigmas = tuple(table[:, 0].tolist())
    reach, iterations = (at_severity(table[:, column].astype(int), severity) for column in (1, 2))
    find_sources = _sources_of_near_copies if (table[:, 1] == 1).all() else _sources_of_far_copies

    def blur(pixels):
        return add_correction(pixels, gaussian_correction(pixels, sigmas, severity))

    def copy_pixels(iteration, pixels):
        return pixels_at(pixels, *find_sources(draws["offsets"][iteration], reach))

    return blur(lax.fori_loop(0, iterations, copy_pixels, jnp.floor(blur(255 * image)))) / 255


def _visited(height: int, width: int, reach: Array) -> Array:
    def inside(size):
        index = jnp.arange(size, dtype=jnp.int32)
        return (index > reach) & (index <= size - reach)

    return inside(height)[:, None] & inside(width)[None, :]


def _sources_of_near_copies(offsets: Array, reach: Array) -> tuple[Array, Array]:
    """With a reach of 1 the offsets are -1 and 0: no pixel is read after it was written, the copies are one gather."""
    rows, columns = jnp.indices(offsets.shape[:2], jnp.int32)
    return rows + offsets[..., 1], columns + offsets[..., 0]


def _sources_of_far_copies(offsets: Array, reach: Array) -> tuple[Array, Array]:
    """A pixel that copies one already written gets what that one got: pointers are followed to their end.

    Nodes are the `size` new pixels, then the `size` old ones, which point to themselves. Every pointer leads to a
    higher node, so doubling all paths log2(size) times ends them.
    """
    height, width = offsets.shape[:2]
    size = height * width
    rows, columns = _sources_of_near_copies(offsets, reach)
    source = (rows * width + columns).reshape(-1)
    nodes = jnp.arange(size, dtype=jnp.int32)
    is_written = _visited(height, width, reach).reshape(-1)[source] & (source > nodes)
    pointer = jnp.concatenate([jnp.where(is_written, source, size + source), size + nodes])
    pointer = lax.fori_loop(0, math.ceil(math.log2(size)), lambda _, pointer: pointer[pointer], pointer)
    end = (pointer[:size] - size).reshape(height, width)
    return end // width, end % width


def apply_defocus_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image correlated with a disk whose edge is softened, borders mirrored at the pixel centre."""
    kernels = tuple(_defocus_kernel(radius, sigma) for radius, sigma in severities.DEFOCUS_BLUR[preset])
    scaled = 255 * image
    return add_correction(scaled, kernel_correction(scaled, kernels, severity)) / 255


# The reference's grid reaches at least this far; up to there the edge is softened by 3 x 3 taps, beyond by 5 x 5.
_GRID_REACH = 8


def _defocus_kernel(radius: float, sigma: float) -> np.ndarray:
    reach, edge = (_GRID_REACH, 1) if radius <= _GRID_REACH else (int(radius), 2)
    grid = np.arange(-reach, reach + 1)
    disk = (grid[:, None] ** 2 + grid[None] ** 2 <= radius**2).astype(np.float32)
    soften = filter_matrix(gaussian_taps(sigma, edge), len(grid), "reflect").astype(np.float32)
    # The reference's kernel is float32: what vanishes there has no tap here.
    return soften @ (disk / disk.sum()) @ soften.T


def draw_motion_blur(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `angle`: degrees, uniform in [-45, 45)."""
    return {"angle": _random.uniform(key, (), low=-45.0, high=45.0)}


def apply_motion_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the 8-bit image smeared along the angle, to one side only (`motion_blur`)."""
    return motion_blur(bytes_of(image), draws["angle"], severities.MOTION_BLUR[preset], severity) / 255


def apply_zoom_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the mean of the image and its enlargements by 1, 1 + step, ...

    The factors begin with 1, so the image counts twice. Each axis is cropped by its own length.
    """
    tables = _zoom_tables(preset, *image.shape[:2])
    most_repeats = int(tables.repeats.max())
    rows, down, columns, right, repeats = (at_severity(table, severity) for table in tables)

    def add_zoom(index, total):
        zoomed = _zoom(image, rows[index], down[index], columns[index], right[index])
        for repeat in range(most_repeats):
            total = jnp.where(repeat < repeats[index], total + zoomed, total)
        return total

    # Summed in the reference's order, so that float32 rounds as it does there.
    total = lax.fori_loop(0, (repeats > 0).sum(), add_zoom, 0 * image)
    return (image + total) / (repeats.sum() + 1).astype(image.dtype)


def _zoom(image: Image, rows: Array, down: Array, columns: Array, right: Array) -> Image:
    """Returns the image between `rows` and the next, at `down` of the way, and likewise for columns."""
    height, width, _ = image.shape
    row_pair = [jnp.minimum(rows + step, height - 1)[:, None] for step in (0, 1)]
    column_pair = [jnp.minimum(columns + step, width - 1)[None, :] for step in (0, 1)]
    left, next_right = (
        mix(*(pixels_at(image, *jnp.broadcast_arrays(row, column)) for row in row_pair), down[:, None, None])
        for column in column_pair
    )
    return mix(left, next_right, right[None, :, None])


class _ZoomTables(NamedTuple):
    """Per severity and distinct zoom: source rows and columns, the shares of the next ones, how often it is added."""

    rows: np.ndarray
    down: np.ndarray
    columns: np.ndarray
    right: np.ndarray
    repeats: np.ndarray


@functools.cache
def _zoom_tables(preset: str, height: int, width: int) -> _ZoomTables:
    """Returns the distinct zooms in order: many factors crop and enlarge by the same whole pixels.

    The factors are NumPy's own, rounding errors included: 26 * 1.25 is enlarged to 33 pixels, not to 32.
    """
    runs = []
    for step, number in severities.ZOOM_BLUR[preset]:
        run = {}
        for factor in np.arange(1, 1 + step * number, step)[:number]:
            sample = (*zoom_samples(factor, height), *zoom_samples(factor, width))
            key = b"".join(part.tobytes() for part in sample)
            run[key] = (*sample, run[key][-1] + 1 if key in run else 1)
        runs.append(list(run.values()))
    longest = max(len(run) for run in runs)
    filled = [run + [(*run[-1][:-1], 0)] * (longest - len(run)) for run in runs]
    return _ZoomTables(*(np.array([[zoom[part] for zoom in run] for run in filled]) for part in range(5)))
