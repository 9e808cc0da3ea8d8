"""3 x 3 convolutions that XLA computes slowly on CPU, in another form that is fast there.

- Few input channels: XLA spends a fixed time per output pixel, so an output "pixel" is two neighbours in a row with
  twice the channels. The kernel that makes two pixels of four has zeros in a third of its places; for few channels
  they cost less than the time per pixel: 3 to 16 channels at 32 x 32 pixels take a third of the time. In evaluation
  only, where the first layer is a good part of the whole.
- Maps of at most 2 x 2 pixels, the last block of VGG on 32 x 32 images: XLA computes 2 billion operations a second for
  512 channels, 70 times fewer than for 4 x 4 pixels. As one matrix product of patches they are as fast as other layers.

Other convolutions, and all on other backends, are `lax.conv_general_dilated`.
"""

import functools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

_PIXELS = 2
_KERNEL_SIZE = (3, 3)
# Where pairs win: 3 to 16 channels threefold, 3 to 32 twofold, 3 to 64 not, 12 to 16 hardly.
_MOST_INPUTS, _MOST_OUTPUTS = 4, 32
# Where patches win: 64 images of 2 x 2 pixels five- (128 channels) to seventyfold (512); 3 x 3 pixels not.
_MOST_PATCHES = 4
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def training_convolution(x: Array, kernel: Array, strides, padding, **options) -> Array:
    """Returns `lax.conv_general_dilated` of the same arguments; on CPU, that of a small map by patches."""
    return _convolve(x, kernel, strides, padding, options, pairs=False)


def evaluation_convolution(x: Array, kernel: Array, strides, padding, **options) -> Array:
    """Returns `lax.conv_general_dilated` of the same arguments; on CPU, by patches or by pairs where that is faster."""
    return _convolve(x, kernel, strides, padding, options, pairs=True)


def _convolve(x, kernel, strides, padding, options, *, pairs):
    plain = functools.partial(lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    faster = None
    if _is_plain_3x3(x, kernel, strides, padding, **options):
        if math.prod(x.shape[1:3]) <= _MOST_PATCHES:
            faster = _convolve_patches
        elif pairs and kernel.shape[2] <= _MOST_INPUTS and kernel.shape[3] <= _MOST_OUTPUTS and x.shape[2] % 2 == 0:
            faster = _convolve_pairs
    if faster is None:
        return plain(x, kernel)
    on_cpu = functools.partial(faster, precision=options.get("precision"))
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _is_plain_3x3(
    x, kernel, strides, padding, *, dimension_numbers=None, feature_group_count=1, precision=None, **dilations
):
    del precision
    same = padding == "SAME" or (not isinstance(padding, str) and all(tuple(sides) == (1, 1) for sides in padding))
    return (
        same
        and math.prod(strides) == 1
        and all(math.prod(d or (1,)) == 1 for d in dilations.values())
        and feature_group_count == 1
        and x.ndim == 4
        and kernel.shape[:2] == _KERNEL_SIZE
        and dimension_numbers == lax.conv_dimension_numbers(x.shape, kernel.shape, _LAYOUT)
    )


def _convolve_pairs(x: Array, kernel: Array, *, precision) -> Array:
    n, height, width, inputs = x.shape
    outputs = kernel.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(n, height + 2, width // _PIXELS + 1, _PIXELS * inputs)
    # Output pixel i of a pair sees the padded pixels i ... i + 2 of the four in two neighbouring pairs.
    shifted = [jnp.pad(kernel, ((0, 0), (i, 1 - i), (0, 0), (0, 0))) for i in range(_PIXELS)]
    kernel = jnp.stack(shifted, axis=-2).reshape(3, 2, _PIXELS * inputs, _PIXELS * outputs)
    y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT, precision=precision)
    return y.reshape(n, height, width, outputs)


def _convolve_patches(x: Array, kernel: Array, *, precision) -> Array:
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    patches = jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)
    return jnp.matmul(patches, kernel.reshape(-1, kernel.shape[3]), precision=precision)
