"""AugMix (Hendrycks et al. 2020): mixtures of short chains of simple operations, on uint8 RGB.

Each operation equals Pillow's on one image. Colour operations are tables of 256 values per channel, geometric ones
are affine maps; so one step of a chain, whatever operation it draws, is one table look-up and one interpolation, and
a batch of images with different operations stays one program.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

SEVERITY, WIDTH, DEPTH, ALPHA = 3.0, 3, 3, 1.0  # Hendrycks et al. 2020, Sec. 4 and their code
_LEAST_STRENGTH, _STRONGEST = 0.1, 10.0  # an operation's strength is uniform in [0.1, severity], on a scale to 10
_LEVELS = 256

Table = Int[Array, "c 256"]
Affine = Float[Array, "2 3"]


def augmix(
    key: Key[Array, ""],
    images: UInt8[Array, "n h w c"],
    *,
    severity: float = SEVERITY,
    width: int = WIDTH,
    depth: int = DEPTH,
    alpha: float = ALPHA,
) -> UInt8[Array, "n h w c"]:
    r"""Returns each image mixed with `width` chains of 1 to `depth` random operations on it.

    $$(1 - m)\, x + m \sum_i w_i\, o_i(x), \quad m \sim \mathrm{Beta}(\alpha, \alpha),
    w \sim \mathrm{Dirichlet}(\alpha, \dots, \alpha)$$

    The operations are those of `OPERATIONS`, equally likely, none of which is among the test corruptions; their
    strengths are uniform in [0.1, severity] of 10, the geometric ones go either way. Deviations from the authors'
    code: the mixture is rounded to uint8, and `depth` is the largest depth (their -1 means 3). The consistency loss
    of the paper belongs to the training.

    Args:
      key: seeds all draws.
      images: uint8 [n, h, w, c].
      severity: strength of the operations, in [0.1, 10].
      width: number of chains.
      depth: largest number of operations in a chain.
      alpha: of the Beta and Dirichlet distributions.

    Raises:
      ValueError: a number out of range.
    """
    if not _LEAST_STRENGTH <= severity <= _STRONGEST or width < 1 or depth < 1 or alpha <= 0:
        raise ValueError(
            f"severity={severity}, width={width}, depth={depth}, alpha={alpha}; severity must be in "
            f"[{_LEAST_STRENGTH}, {_STRONGEST}], width and depth >= 1, alpha > 0"
        )
    count = len(images)
    keys = jax.random.split(key, 6)
    steps = (count, width, depth)
    operation = jax.random.randint(keys[0], steps, 0, len(OPERATIONS))
    strength = jax.random.uniform(keys[1], steps, minval=_LEAST_STRENGTH, maxval=severity)
    sign = jax.random.rademacher(keys[2], steps, dtype=jnp.float32)
    length = jax.random.randint(keys[3], (count, width, 1), 1, depth + 1)
    is_used = jnp.arange(depth)[None, None] < length
    weights = jax.random.dirichlet(keys[4], jnp.full(width, alpha), (count,))
    mixing = jax.random.beta(keys[5], alpha, alpha, (count,))
    return jax.vmap(_mix)(images, operation, strength * sign, is_used, weights, mixing)


def _mix(
    image: UInt8[Array, "h w c"],
    operation: Int[Array, "k d"],
    strength: Float[Array, "k d"],
    is_used: Bool[Array, "k d"],
    weights: Float[Array, "k"],
    mixing: Float[Array, ""],
) -> UInt8[Array, "h w c"]:
    def run_chain(operation, strength, is_used):
        def step(chained, draws):
            return _apply_drawn(chained, *draws), None

        return jax.lax.scan(step, image, (operation, strength, is_used))[0]

    chains = jax.vmap(run_chain)(operation, strength, is_used).astype(jnp.float32)
    mixed = (1 - mixing) * image + mixing * (weights[:, None, None, None] * chains).sum(axis=0)
    return jnp.rint(jnp.clip(mixed, 0, _LEVELS - 1)).astype(jnp.uint8)


def _apply_drawn(image, operation, strength, is_used) -> UInt8[Array, "h w c"]:
    counts = _histogram(image)
    size = image.shape[:2]
    tables = [table(counts, magnitude(jnp.abs(strength))) for table, magnitude in COLOUR_OPERATIONS.values()]
    affines = [affine(magnitude(strength, size), size) for affine, magnitude in GEOMETRIC_OPERATIONS.values()]
    none_table = jnp.broadcast_to(jnp.arange(_LEVELS), counts.shape)
    tables = jnp.stack([*tables, none_table])
    affines = jnp.stack([*affines, jnp.eye(2, 3)])
    table_index = jnp.where(is_used, jnp.minimum(operation, len(COLOUR_OPERATIONS)), len(COLOUR_OPERATIONS))
    affine_index = operation - len(COLOUR_OPERATIONS)
    affine_index = jnp.where(is_used & (affine_index >= 0), affine_index, len(GEOMETRIC_OPERATIONS))
    return _look_up(_warp(image, affines[affine_index]), tables[table_index])


def apply_operation(image: UInt8[Array, "h w c"], *, name: str, magnitude) -> UInt8[Array, "h w c"]:
    """Returns one image after one of `OPERATIONS`, as Pillow computes it.

    Args:
      image: uint8 [h, w, c].
      name: a key of `COLOUR_OPERATIONS` or `GEOMETRIC_OPERATIONS`.
      magnitude: bits kept (posterize), threshold (solarize), degrees (rotate), pixels per pixel (shear_x, shear_y) or
        pixels (translate_x, translate_y); autocontrast and equalize have none.

    Raises:
      ValueError: an unknown name.
    """
    image = jnp.asarray(image)
    if name in COLOUR_OPERATIONS:
        return _look_up(image, COLOUR_OPERATIONS[name][0](_histogram(image), magnitude))
    if name in GEOMETRIC_OPERATIONS:
        return _warp(image, GEOMETRIC_OPERATIONS[name][0](magnitude, image.shape[:2]))
    raise ValueError(f"unknown operation {name!r}; known: {', '.join(OPERATIONS)}")


def _histogram(image: UInt8[Array, "h w c"]) -> Table:
    counts = jnp.zeros(image.shape[2] * _LEVELS, jnp.int32)
    return counts.at[_table_index(image).reshape(-1)].add(1).reshape(-1, _LEVELS)


def _look_up(image: UInt8[Array, "h w c"], table: Table) -> UInt8[Array, "h w c"]:
    return table.astype(jnp.uint8).reshape(-1)[_table_index(image)]


def _table_index(image: UInt8[Array, "h w c"]) -> Int[Array, "h w c"]:
    # One flat index into all channels' tables: measured 4 times as fast to count by as (channel, value).
    return image.astype(jnp.int32) + (jnp.arange(image.shape[2]) * _LEVELS)[None, None]


def _warp(image: UInt8[Array, "h w c"], affine: Affine) -> UInt8[Array, "h w c"]:
    """Returns `out[y, x] = image(affine @ (x, y, 1))`, centred pixels, bilinear, truncated, zero outside the image."""
    height, width, channels = image.shape
    x, y = jnp.arange(width)[None] + 0.5, jnp.arange(height)[:, None] + 0.5
    x, y = (row[0] * x + row[1] * y + row[2] for row in affine)
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_share, bottom_share = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    pixels = image.reshape(-1, channels)

    def take(row, column):
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        return pixels[row * width + column].astype(jnp.float32)

    above = take(top, left) * (1 - right_share) + take(top, left + 1) * right_share
    below = take(top + 1, left) * (1 - right_share) + take(top + 1, left + 1) * right_share
    value = above * (1 - bottom_share) + below * bottom_share
    return jnp.where(is_inside[..., None], value, 0).astype(jnp.uint8)


def _autocontrast(counts: Table, _) -> Table:
    """Stretches each channel from its darkest and brightest value to 0 and 255; constant ones stay as they are."""
    values = jnp.arange(_LEVELS)[None]
    low = (counts > 0).argmax(axis=1, keepdims=True)
    high = _LEVELS - 1 - (counts[:, ::-1] > 0).argmax(axis=1, keepdims=True)
    stretched = (values - low) * (_LEVELS - 1) // jnp.maximum(high - low, 1)
    return jnp.where(high > low, jnp.clip(stretched, 0, _LEVELS - 1), values)


def _equalize(counts: Table, _) -> Table:
    """Flattens each channel's histogram; the brightest value's pixels do not count, as in Pillow."""
    high = _LEVELS - 1 - (counts[:, ::-1] > 0).argmax(axis=1, keepdims=True)
    step = (counts.sum(axis=1, keepdims=True) - jnp.take_along_axis(counts, high, axis=1)) // (_LEVELS - 1)
    below = jnp.cumsum(counts, axis=1) - counts
    flat = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, _LEVELS - 1)
    return jnp.where(step > 0, flat, jnp.arange(_LEVELS)[None])


def _posterize(counts: Table, bits) -> Table:
    """Keeps the `bits` highest bits."""
    kept = _LEVELS >> jnp.asarray(bits, jnp.int32)
    return jnp.broadcast_to(jnp.arange(_LEVELS) // kept * kept, counts.shape)


def _solarize(counts: Table, threshold) -> Table:
    """Inverts the values from `threshold` on."""
    values = jnp.arange(_LEVELS)
    return jnp.broadcast_to(jnp.where(values < threshold, values, _LEVELS - 1 - values), counts.shape)


def _rotate(degrees, size) -> Affine:
    """Turns the image counter-clockwise about its centre."""
    angle = jnp.asarray(degrees, jnp.float32) * (math.pi / 180)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    centre_y, centre_x = size[0] / 2, size[1] / 2
    return jnp.stack(
        [
            jnp.stack([cosine, -sine, centre_x - cosine * centre_x + sine * centre_y]),
            jnp.stack([sine, cosine, centre_y - sine * centre_x - cosine * centre_y]),
        ]
    )


def _shear_x(shear, _) -> Affine:
    return jnp.eye(2, 3).at[0, 1].set(shear)


def _shear_y(shear, _) -> Affine:
    return jnp.eye(2, 3).at[1, 0].set(shear)


def _translate_x(pixels, _) -> Affine:
    return jnp.eye(2, 3).at[0, 2].set(pixels)


def _translate_y(pixels, _) -> Affine:
    return jnp.eye(2, 3).at[1, 2].set(pixels)


# name -> (table of the channels' histograms and a magnitude, magnitude of a strength); the largest magnitudes, at
# strength 10, are those of the authors' `augmentations.py`.
COLOUR_OPERATIONS = {
    "autocontrast": (_autocontrast, lambda strength: strength),
    "equalize": (_equalize, lambda strength: strength),
    "posterize": (_posterize, lambda strength: 4 - _whole(strength * 4 / _STRONGEST)),
    "solarize": (_solarize, lambda strength: _LEVELS - _whole(strength * _LEVELS / _STRONGEST)),
}
# name -> (affine map of a magnitude and the image's height and width, magnitude of a signed strength and the same)
GEOMETRIC_OPERATIONS = {
    "rotate": (_rotate, lambda strength, size: _whole(strength * 30 / _STRONGEST)),
    "shear_x": (_shear_x, lambda strength, size: strength * 0.3 / _STRONGEST),
    "shear_y": (_shear_y, lambda strength, size: strength * 0.3 / _STRONGEST),
    "translate_x": (_translate_x, lambda strength, size: _whole(strength * size[1] / 3 / _STRONGEST)),
    "translate_y": (_translate_y, lambda strength, size: _whole(strength * size[0] / 3 / _STRONGEST)),
}
OPERATIONS = (*COLOUR_OPERATIONS, *GEOMETRIC_OPERATIONS)


def _whole(value):
    return jnp.trunc(value)
