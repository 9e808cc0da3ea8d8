"""What the corruptions share: the types, severity tables, 8-bit values and separable linear maps."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, PyTree, UInt8

# One image, values in [0, 1]; a corruption may leave that range, `to_uint8` clips.
Image = Float[Array, "height width channels"]
Plane = Float[Array, "height width"]
# What `draw` returns and `apply` takes: arrays under the names of the table of draws.
Draws = dict[str, PyTree]
# 1..5, as a number or traced: one compilation serves the five severities.
Severity = int | Integer[Array, ""] | Integer[np.ndarray, ""] | np.integer


def draw_nothing(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns the draws of a corruption that has none: an empty dict."""
    return {}


def at_severity(table: np.ndarray | tuple, severity: Severity) -> Array:
    """Returns the entry (or row, or matrix) of a table whose first axis is the severity 1..5."""
    table = np.asarray(table)
    kind = np.float32 if table.dtype.kind == "f" else np.int32
    return lax.dynamic_index_in_dim(jnp.asarray(table, kind), severity - 1, keepdims=False)


def to_uint8(image: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Returns the 8-bit image of one in [0, 1]: clipped, times 255, truncated.

    The reference truncates and does not round, so this does; 255 * (k / 255) gives k back for all k in float32.

    >>> to_uint8(jnp.array([-1.0, 0.4999, 1.0, 2.0])).tolist()
    [0, 127, 255, 255]
    """
    return (jnp.clip(image, 0.0, 1.0) * 255).astype(jnp.uint8)


def bytes_of(image: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the nearest whole numbers 0..255 of an image in [0, 1], as float32.

    Corruptions that the reference runs on 8-bit images start from these: x / 255 * 255 is x up to rounding errors only.
    """
    return jnp.round(jnp.clip(image, 0.0, 1.0) * 255)


def along_rows_and_columns(
    image: Float[Array, "height width channels"],
    rows: Float[Array, "out_height height"],
    columns: Float[Array, "out_width width"],
) -> Float[Array, "out_height out_width channels"]:
    """Returns `rows @ image @ columns.T` for every channel: a separable blur or resize, borders included."""
    return along_rows(along_columns(image, columns), rows)


def along_rows(image: Image, matrix: Float[Array, "out height"]) -> Float[Array, "out width channels"]:
    """Returns `matrix @ image` for every channel, in float32 whatever the default precision is."""
    return jnp.einsum("ij,jwc->iwc", matrix, image, precision=lax.Precision.HIGHEST)


def along_columns(image: Image, matrix: Float[Array, "out width"]) -> Float[Array, "height out channels"]:
    """Returns `image @ matrix.T` for every channel, in float32 whatever the default precision is."""
    return jnp.einsum("ij,hjc->hic", matrix, image, precision=lax.Precision.HIGHEST)


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
    """Returns the weights exp(-k^2 / (2 sigma^2)) for k in -radius..radius, divided by their sum, in float64."""
    if radius == 0:
        return np.ones(1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def filter_matrix(taps: np.ndarray, size: int, border: str) -> np.ndarray:
    """Returns the [size, size] matrix that correlates a row with centred taps.

    `border` says what lies outside: "nearest" repeats the last pixel, "symmetric" mirrors at the pixel's edge
    (b a | a b), "reflect" at its centre (c b | a b c, OpenCV's reflect-101).
    """
    radius = len(taps) // 2
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-radius, radius + 1), taps, strict=True):
        source = mirror(np.arange(size) + offset, size, border)
        np.add.at(matrix, (np.arange(size), source), weight)
    return matrix


def mirror(index: np.ndarray, size: int, border: str) -> np.ndarray:
    """Returns the pixel inside 0..size-1 that stands for a pixel outside, under a border rule of `filter_matrix`."""
    if border == "nearest" or size == 1:
        return np.clip(index, 0, size - 1)
    if border == "symmetric":
        index = index % (2 * size)
        return np.where(index < size, index, 2 * size - 1 - index)
    index = index % (2 * size - 2)
    return np.where(index < size, index, 2 * size - 2 - index)


# scipy.ndimage and skimage cut a Gaussian at this many standard deviations.
_GAUSSIAN_TRUNCATE = 4.0


def gaussian_matrices(sigmas: tuple[float, ...], size: int) -> np.ndarray:
    """Returns, per severity, the matrix of skimage's `gaussian`: cut at 4 sigma, edge pixels repeated."""
    taps = [gaussian_taps(sigma, int(_GAUSSIAN_TRUNCATE * sigma + 0.5)) for sigma in sigmas]
    return np.stack([filter_matrix(weights, size, "nearest") for weights in taps])


def on_colors(apply):
    """Returns an `apply` that gives a grey image the luma of what its three-channel copy becomes.

    For corruptions that mix or add colours; the others treat a grey image as its only channel.
    """

    def wrapped(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
        if image.shape[-1] != 1:
            return apply(image, draws, severity, preset)
        colored = apply(jnp.broadcast_to(image, (*image.shape[:2], 3)), draws, severity, preset)
        return luma(colored)[..., None]

    wrapped.__doc__, wrapped.__name__ = apply.__doc__, apply.__name__
    return wrapped


# ITU-R BT.601, as in cv2.cvtColor(..., COLOR_RGB2GRAY).
_LUMA = (0.299, 0.587, 0.114)


def luma(image: Float[Array, "height width 3"]) -> Plane:
    """Returns the grey value 0.299 R + 0.587 G + 0.114 B."""
    red, green, blue = (image[..., channel] for channel in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
