"""The trip of an 8-bit image through a JPEG file, without the file: what libjpeg-turbo's encoder and decoder lose.

Huffman coding is lossless, so only colour conversion, chroma subsampling (4:2:0), the cosine transform and
quantisation are computed. The "exact" method does so in the integer arithmetic of libjpeg's `jccolor.c`, `jcsample.c`,
`jfdctint.c`, `jcdctmgr.c`, `jidctint.c`, `jdsample.c` and `jdcolor.c`, and gives its pixels bit by bit. The "float"
method uses a float32 cosine transform without the roundings in between.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

EXACT, FLOAT = JPEG_METHODS = ("exact", "float")

# ITU-T T.81, tables K.1 and K.2, for luminance and chrominance at quality 50.
_LUMINANCE = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""

# Fixed-point bits of colour conversion, of the transform's constants, and those kept between its two passes.
_COLOR_BITS, _CONST_BITS, _PASS1_BITS = 16, 13, 2
_BLOCK = 8
_CENTER = 128

# (red, green, blue) -> luma and the two chromas, times 2^16.
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
# Chroma -> colour, times 2^16: red from Cr, green from Cb and Cr, blue from Cb.
_RED_CR, _GREEN_CB, _GREEN_CR, _BLUE_CB = 91881, -22554, -46802, 116130


def quantization_tables(quality: int) -> np.ndarray:
    """Returns int32 [2, 8, 8], for luma and chroma, by the quality scale of libjpeg, 1..100.

    >>> quantization_tables(75)[0, 0].tolist()
    [8, 6, 5, 8, 12, 20, 26, 31]
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array([_LUMINANCE.split(), _CHROMINANCE.split()], np.int32).reshape(2, _BLOCK, _BLOCK)
    return np.clip((base * scale + 50) // 100, 1, 255)


def jpeg_round_trip(
    image: Float[Array, "height width channels"], tables: Int[Array, "2 8 8"], method: str
) -> Float[Array, "height width channels"]:
    """Returns the image, whole numbers 0..255 in and out, encoded and decoded; chroma is 4:2:0, grey has none."""
    height, width, channels = image.shape
    image = image.astype(jnp.int32)
    if channels == 1:
        (luma,) = _through_blocks([_pad(image[..., 0], _BLOCK, _BLOCK)], tables[:1], method)
        return luma[:height, :width, None].astype(jnp.float32)
    luma, *chromas = _to_ycc(image)
    planes = [_pad(luma, _BLOCK, _BLOCK), *(_pad(_downsample(chroma), _BLOCK, 1) for chroma in chromas)]
    luma, *chromas = _through_blocks(planes, tables[np.array([0, 1, 1])], method)
    half = ((height + 1) // 2, (width + 1) // 2)
    blue, red = (_upsample(chroma[: half[0], : half[1]])[:height, :width] for chroma in chromas)
    return _to_rgb(luma[:height, :width], blue, red).astype(jnp.float32)


def _to_ycc(image: Int[Array, "height width 3"]) -> list[Int[Array, "height width"]]:
    half = 1 << (_COLOR_BITS - 1)
    offsets = (half, (_CENTER << _COLOR_BITS) + half - 1, (_CENTER << _COLOR_BITS) + half - 1)
    red, green, blue = (image[..., channel] for channel in range(3))
    return [
        (weights[0] * red + weights[1] * green + weights[2] * blue + offset) >> _COLOR_BITS
        for weights, offset in zip(_TO_YCC, offsets, strict=True)
    ]


def _to_rgb(luma: Array, blue: Array, red: Array) -> Int[Array, "height width 3"]:
    half = 1 << (_COLOR_BITS - 1)
    blue, red = blue - _CENTER, red - _CENTER
    colors = [
        luma + ((_RED_CR * red + half) >> _COLOR_BITS),
        luma + ((_GREEN_CB * blue + _GREEN_CR * red + half) >> _COLOR_BITS),
        luma + ((_BLUE_CB * blue + half) >> _COLOR_BITS),
    ]
    return jnp.clip(jnp.stack(colors, axis=-1), 0, 255)


def _pad(plane: Int[Array, "height width"], down: int, right: int) -> Array:
    """Repeats the last row and column until the height and the width are multiples of two lengths."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % down), (0, -width % right)), mode="edge")


def _downsample(plane: Int[Array, "height width"]) -> Array:
    """Returns the means of 2 x 2 pixels; .5 is rounded down and up in turn, column by column (1, 2, 1, 2, ...).

    Like libjpeg's, blocks are filled up to the right before the means are taken and downwards after.
    """
    plane = _pad(plane, 2, 2 * _BLOCK)
    total = plane[0::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 0::2] + plane[1::2, 1::2]
    bias = 1 + np.arange(total.shape[1], dtype=np.int32) % 2
    return (total + bias[None]) >> 2


# libjpeg smooths the chroma of images whose chroma is wider than this, and repeats pixels in narrower ones.
_WIDEST_PLAIN_CHROMA = 2


def _upsample(plane: Int[Array, "height width"]) -> Array:
    """Returns the plane twice as large by libjpeg's "fancy" triangle filter, 3/4 near and 1/4 far on each axis."""
    height, width = plane.shape
    if width <= _WIDEST_PLAIN_CHROMA:
        return jnp.repeat(jnp.repeat(plane, 2, axis=0), 2, axis=1)
    padded = jnp.pad(plane, 1, mode="edge")
    near = 3 * padded[1:-1]
    rows = jnp.stack([near + padded[:-2], near + padded[2:]], axis=1).reshape(2 * height, width + 2)
    this = 3 * rows[:, 1:-1]
    pair = jnp.stack([(this + rows[:, :-2] + 8) >> 4, (this + rows[:, 2:] + 7) >> 4], axis=-1)
    return pair.reshape(2 * height, 2 * width)


def _through_blocks(planes: list[Array], tables: Int[Array, "planes 8 8"], method: str) -> list[Array]:
    """Returns the planes, cut into 8 x 8 blocks, after transform, quantisation, and back, whole numbers 0..255."""
    shapes = [(plane.shape[0] // _BLOCK, _BLOCK, plane.shape[1] // _BLOCK, _BLOCK) for plane in planes]
    cut = [
        plane.reshape(shape).transpose(1, 3, 0, 2).reshape(_BLOCK, _BLOCK, -1)
        for plane, shape in zip(planes, shapes, strict=True)
    ]
    counts = [blocks.shape[-1] for blocks in cut]
    spread = [jnp.broadcast_to(table[..., None], blocks.shape) for table, blocks in zip(tables, cut, strict=True)]
    round_trip = _exact_round_trip if method == EXACT else _float_round_trip
    blocks = round_trip(jnp.concatenate(cut, axis=-1) - _CENTER, jnp.concatenate(spread, axis=-1))
    blocks = jnp.clip(blocks + _CENTER, 0, 255)
    return [
        part.reshape(_BLOCK, _BLOCK, shape[0], shape[2]).transpose(2, 0, 3, 1).reshape(plane.shape)
        for part, shape, plane in zip(jnp.split(blocks, np.cumsum(counts)[:-1], axis=-1), shapes, planes, strict=True)
    ]


def _exact_round_trip(blocks: Int[Array, "8 8 blocks"], table: Int[Array, "8 8 blocks"]) -> Array:
    transform = _integer_transform()
    blocks = _shift_right(_on_columns(transform, blocks), _CONST_BITS - _PASS1_BITS)
    blocks = _shift_right(_on_rows(transform, blocks), _CONST_BITS + _PASS1_BITS)
    blocks = _quantize(blocks, 8 * table) * table
    blocks = _shift_right(_on_rows(transform.T, blocks), _CONST_BITS - _PASS1_BITS)
    return _shift_right(_on_columns(transform.T, blocks), _CONST_BITS + _PASS1_BITS + 3)


def _quantize(values: Array, divisor: Array) -> Array:
    """Returns `(|value| + divisor / 2) // divisor` with the sign of the value, for even divisors.

    In float32, which has fast division; the half keeps the quotient of whole numbers clear of rounding errors.
    """
    dividend = (jnp.abs(values) + (divisor >> 1)).astype(jnp.float32) + 0.5
    return jnp.sign(values) * jnp.floor(dividend / divisor.astype(jnp.float32)).astype(jnp.int32)


def _float_round_trip(blocks: Int[Array, "8 8 blocks"], table: Int[Array, "8 8 blocks"]) -> Array:
    frequency = np.arange(_BLOCK)[:, None]
    cosines = np.cos((2 * np.arange(_BLOCK)[None] + 1) * frequency * np.pi / (2 * _BLOCK)) / 2
    cosines = np.where(frequency == 0, np.sqrt(0.5), 1) * cosines
    cosines, table = cosines.astype(np.float32), table.astype(jnp.float32)
    blocks = _on_rows(cosines, _on_columns(cosines, blocks.astype(jnp.float32)))
    blocks = jnp.round(blocks / table) * table
    return jnp.round(_on_columns(cosines.T, _on_rows(cosines.T, blocks))).astype(jnp.int32)


def _on_rows(matrix: np.ndarray, blocks: Shaped[Array, "8 8 blocks"]) -> Array:
    """Returns `matrix @ block` for every block."""
    return jnp.einsum("ij,jkn->ikn", jnp.asarray(matrix), blocks, precision=lax.Precision.HIGHEST)


def _on_columns(matrix: np.ndarray, blocks: Shaped[Array, "8 8 blocks"]) -> Array:
    """Returns `block @ matrix.T` for every block."""
    return jnp.einsum("ij,kjn->kin", jnp.asarray(matrix), blocks, precision=lax.Precision.HIGHEST)


def _shift_right(values: Int[Array, "..."], bits: int) -> Array:
    return (values + (1 << (bits - 1))) >> bits


def _integer_transform() -> np.ndarray:
    """Returns int32 [8, 8]: libjpeg's cosine transform times 2^13, of which its inverse is the transpose.

    Both are integer butterflies with roundings only at the end of each pass, so each pass is one integer matrix: the
    butterfly of the unit vectors.
    """
    fix = lambda value: int(value * 2**_CONST_BITS + 0.5)  # noqa: E731
    x = np.eye(_BLOCK, dtype=np.int32)
    sums, differences = x[:4] + x[:3:-1], x[:4] - x[:3:-1]
    t10, t13 = sums[0] + sums[3], sums[0] - sums[3]
    t11, t12 = sums[1] + sums[2], sums[1] - sums[2]
    even = (t12 + t13) * fix(0.541196100)
    t7, t6, t5, t4 = differences
    z5 = (t4 + t5 + t6 + t7) * fix(1.175875602)
    z1, z2 = (t4 + t7) * -fix(0.899976223), (t5 + t6) * -fix(2.562915447)
    z3, z4 = (t4 + t6) * -fix(1.961570560) + z5, (t5 + t7) * -fix(0.390180644) + z5
    return np.stack(
        [
            (t10 + t11) << _CONST_BITS,
            t7 * fix(1.501321110) + z1 + z4,
            even + t13 * fix(0.765366865),
            t6 * fix(3.072711026) + z2 + z3,
            (t10 - t11) << _CONST_BITS,
            t5 * fix(2.053119869) + z2 + z4,
            even - t12 * fix(1.847759065),
            t4 * fix(0.298631336) + z1 + z3,
        ]
    )
