"""3 x 3 convolutions that XLA computes slowly on CPU, in another form that is fast there.

- Few channels: XLA spends a fixed time per output pixel, so an output "pixel" is two neighbours in a row with twice
  the channels. The kernel that makes two pixels of four has zeros in a third of its places; for few channels they cost
  less than the time per pixel: 3 to 16 channels at 32 x 32 pixels take a quarter of the time, 16 to 16 four fifths.
  In evaluation only.
- Small maps of many channels, 8 x 8 to 16 x 16 pixels: four output pixels from 16 products per channel instead of 36
  (Winograd's F(2 x 2, 3 x 3), Lavin & Gray 2016) take 0.65 to 0.8 of the time; larger maps leave the cache. In
  evaluation only.
- Maps of at most 2 x 2 pixels, the last block of VGG on 32 x 32 images: XLA computes 2 billion operations a second for
  512 channels, 70 times fewer than for 4 x 4 pixels. As one matrix product of patches they are as fast as other layers.

Pairs and Winograd's form are for float32: the latter's differences of pixels cost bfloat16 its last digits. Other
convolutions, and all on other backends, are `lax.conv_general_dilated`.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

_PIXELS = 2
_KERNEL_SIZE = (3, 3)
# Where pairs win, (most inputs, most outputs): 3 to 16 channels fourfold, 3 to 32 twofold, 3 to 64 and 16 to 32 not.
_PAIRED = ((4, 32), (16, 16))
_WINOGRAD_PIXELS, _WINOGRAD_CHANNELS = (64, 256), 32
# Where patches win: 64 images of 2 x 2 pixels five- (128 channels) to seventyfold (512); 3 x 3 pixels not.
_MOST_PATCHES = 4
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


def training_convolution(x: Array, kernel: Array, strides, padding, **options) -> Array:
    """Returns `lax.conv_general_dilated` of the same arguments; on CPU, that of a small map by patches."""
    return _convolve(x, kernel, strides, padding, options, evaluation=False)


def evaluation_convolution(x: Array, kernel: Array, strides, padding, **options) -> Array:
    """Returns `lax.conv_general_dilated` of the same arguments; on CPU, in the form that is fastest."""
    return _convolve(x, kernel, strides, padding, options, evaluation=True)


def _convolve(x, kernel, strides, padding, options, *, evaluation):
    plain = functools.partial(lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    faster = None
    if _is_plain_3x3(x, kernel, strides, padding, **options):
        if math.prod(x.shape[1:3]) <= _MOST_PATCHES:
            faster = _convolve_patches
        elif evaluation and x.dtype == jnp.float32 and _wins_by_pairs(x, kernel):
            faster = _convolve_pairs
        elif evaluation and x.dtype == jnp.float32 and _wins_by_winograd(x, kernel):
            faster = _convolve_winograd
    if faster is None:
        return plain(x, kernel)
    on_cpu = functools.partial(faster, precision=options.get("precision"))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _is_plain_3x3(
    x,
    kernel,
    strides,
    padding,
    *,
    dimension_numbers=None,
    lhs_dilation=None,
    rhs_dilation=None,
    feature_group_count=1,
    precision=None,
    **others,
):
    del precision
    same = padding == "SAME" or (not isinstance(padding, str) and all(tuple(sides) == (1, 1) for sides in padding))
    return (
        same
        and math.prod(strides) == 1
        and all(math.prod(dilation or (1,)) == 1 for dilation in (lhs_dilation, rhs_dilation))
        and feature_group_count == 1
        and all(value is None for value in others.values())  # such as preferred_element_type
        and x.dtype == kernel.dtype
        and x.ndim == 4
        and kernel.shape[:2] == _KERNEL_SIZE
        and dimension_numbers == lax.conv_dimension_numbers(x.shape, kernel.shape, _LAYOUT)
    )


def _wins_by_pairs(x: Array, kernel: Array) -> bool:
    inputs, outputs = kernel.shape[2:]
    few = any(inputs <= most_inputs and outputs <= most_outputs for most_inputs, most_outputs in _PAIRED)
    return few and x.shape[2] % _PIXELS == 0


def _wins_by_winograd(x: Array, kernel: Array) -> bool:
    _, height, width, _ = x.shape
    fewest, most = _WINOGRAD_PIXELS
    return (
        fewest <= height * width <= most
        and height % 2 == width % 2 == 0
        and min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS
    )


def _convolve_pairs(x: Array, kernel: Array, *, precision) -> Array:
    n, height, width, inputs = x.shape
    outputs = kernel.shape[3]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    x = x.reshape(n, height, width // _PIXELS + 1, _PIXELS * inputs)
    # Output pixel i of a pair sees the padded pixels i ... i + 2 of the four in two neighbouring pairs.
    shifted = [jnp.pad(kernel, ((0, 0), (i, 1 - i), (0, 0), (0, 0))) for i in range(_PIXELS)]
    kernel = jnp.stack(shifted, axis=-2).reshape(3, 2, _PIXELS * inputs, _PIXELS * outputs)
    y = lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (0, 0)), dimension_numbers=_LAYOUT, precision=precision)
    return y.reshape(n, height, width, outputs)


def _convolve_winograd(x: Array, kernel: Array, *, precision) -> Array:
    n, height, width, inputs = x.shape
    outputs = kernel.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Tile (i, j) reads rows 2i ... 2i + 3 and as many columns; place a of all tiles is one strided slice.
    rows = _tile_transform([x[:, a : a + height : 2] for a in range(4)])
    tiles = jnp.stack(
        [each for row in rows for each in _tile_transform([row[:, :, b : b + width : 2] for b in range(4)])]
    )
    kernels = jnp.einsum("ap,bq,pqio->abio", _KERNEL_TRANSFORM, _KERNEL_TRANSFORM, kernel, precision=precision)
    kernels = kernels.reshape(16, inputs, outputs)
    products = jnp.einsum("zti,zio->zto", tiles.reshape(16, -1, inputs), kernels, precision=precision)
    products = products.reshape(4, 4, n, height // 2, width // 2, outputs)
    rows = [_output_transform(row) for row in _output_transform(products)]
    y = jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=2)
    return y.reshape(n, height, width, outputs)


def _tile_transform(d):
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_transform(m):
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _convolve_patches(x: Array, kernel: Array, *, precision) -> Array:
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    patches = jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)
    return jnp.matmul(patches, kernel.reshape(-1, kernel.shape[3]), precision=precision)
