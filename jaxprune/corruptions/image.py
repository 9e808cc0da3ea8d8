"""What the corruptions share: types, severity tables, 8-bit values, products with matrices, pixel gathers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Integer, PyTree, Shaped, UInt8

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


def at_severity(table: Array | np.ndarray | tuple, severity: Severity) -> Array:
    """Returns the entry (or row, or matrix) of a table whose first axis is the severity 1..5, in 32 bits."""
    if not isinstance(table, jax.Array):
        table = np.asarray(table)
    if table.dtype.kind == "f":
        table = table.astype(np.float32)
    elif table.dtype.kind == "i":
        table = table.astype(np.int32)
    return lax.dynamic_index_in_dim(jnp.asarray(table), severity - 1, keepdims=False)


def range_of(values: Shaped[Array | np.ndarray, "..."]) -> tuple[float, float] | None:
    """Returns the smallest and the largest value; None where they are not known: inside `jit`, on other hosts, of none.

    >>> range_of(jnp.array([0.5, -1.0])), jax.jit(lambda values: range_of(values) or 0)(jnp.ones(2)).item()
    ((-1.0, 0.5), 0)
    """
    if isinstance(values, jax.core.Tracer) or not values.size or not getattr(values, "is_fully_addressable", True):
        return None
    # On the host: what is computed inside a caller's `jit` would be traced, even of values that are not.
    values = np.asarray(values)
    return float(values.min()), float(values.max())


# No corruption makes an image this bright. The brightest, shot noise at 3 photons, hardly passes 7.
_IMPOSSIBLY_BRIGHT = 10


def to_uint8(image: Float[Array | np.ndarray, "*size"]) -> UInt8[Array, "*size"]:
    """Returns the 8-bit image of one in [0, 1]: clipped, times 255, truncated.

    The reference truncates and does not round, so this does; 255 * (k / 255) gives k back for all k in float32.

    Raises:
      TypeError: an image that is not of floating point.
      ValueError: values that are plainly in 0..255. Inside `jit`, where they are not known, those become white.

    >>> to_uint8(jnp.array([-1.0, 0.4999, 1.0, 2.0])).tolist()
    [0, 127, 255, 255]
    """
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"image is {image.dtype}, not float; to_uint8() takes values in [0, 1]: divide 8-bit ones by 255"
        )
    known = range_of(image)
    if known is not None and known[1] > _IMPOSSIBLY_BRIGHT:
        raise ValueError(f"image has values up to {known[1]:g}, not in [0, 1]; divide it by 255")
    return (jnp.clip(jnp.asarray(image).astype(jnp.float32), 0.0, 1.0) * 255).astype(jnp.uint8)


def bytes_of(image: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the nearest whole numbers 0..255 of an image in [0, 1], as float32.

    Corruptions that the reference runs on 8-bit images start from these.
    """
    return jnp.round(jnp.clip(image, 0.0, 1.0) * 255)


def along_rows(image: Float[Array, "height width channels"], matrix: Float[Array, "out height"]) -> Array:
    """Returns `matrix @ image` for every channel, in float32 whatever the default precision is."""
    return jnp.einsum("ij,jwc->iwc", matrix, image, precision=lax.Precision.HIGHEST)


def along_columns(image: Float[Array, "height width channels"], matrix: Float[Array, "out width"]) -> Array:
    """Returns `image @ matrix.T` for every channel, in float32 whatever the default precision is."""
    return jnp.einsum("ij,hjc->hic", matrix, image, precision=lax.Precision.HIGHEST)


def pixels_at(
    image: Shaped[Array, "from_height from_width channels"],
    rows: Int[Array, "height width"],
    columns: Int[Array, "height width"],
) -> Shaped[Array, "height width channels"]:
    """Returns `image[rows, columns]`, as a gather of whole pixels from the flattened image: the fast form."""
    height, width, channels = image.shape
    flat = (rows * width + columns).reshape(-1)
    gathered = image.reshape(height * width, channels).at[flat].get(mode="promise_in_bounds")
    return gathered.reshape(*rows.shape, channels)


def between_pixels(
    image: Image, lower: Int[Array, " size"], share: Float[Array, " size"], *, axis: int
) -> Float[Array, "..."]:
    """Returns the rows (axis 0) or columns (axis 1) that are `share` of the way from `lower` to the next one."""
    upper = jnp.minimum(lower + 1, image.shape[axis] - 1)
    first, second = (image.take(index, axis=axis, mode="clip") for index in (lower, upper))
    return mix(first, second, jnp.expand_dims(share, (1 - axis, 2)))


def mix(first: Float[Array, "..."], second: Float[Array, "..."], share: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns what is `share` of the way from one image to another; equal pixels stay exactly what they are."""
    return first + share * (second - first)


# ITU-R BT.601, as in cv2.cvtColor(..., COLOR_RGB2GRAY).
_LUMA = (0.299, 0.587, 0.114)


def luma(image: Image) -> Plane:
    """Returns the grey value 0.299 R + 0.587 G + 0.114 B; that of a grey image is itself."""
    if image.shape[-1] == 1:
        return image[..., 0]
    red, green, blue = (image[..., channel] for channel in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def in_channels_of(image: Image, colors: Float[ArrayLike, "*size 3"]) -> Float[Array, "*size channels"]:
    """Returns RGB colours for a colour image and their luma for a grey one."""
    if image.shape[-1] != 1:
        return jnp.asarray(colors)
    return jnp.asarray(colors @ np.array(_LUMA, colors.dtype))[..., None]
