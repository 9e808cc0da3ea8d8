"""Top-k functions: from scores and a sparsity to a uint8 mask, 1 = keep."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped, UInt8

from jaxprune.pruning import sparsity_types
from jaxprune.pruning._selection import largest, ordered_keys

MASK_DTYPE = "uint8"

TopKFnType = Callable[[jax.Array, float], jax.Array]

# What ranks: an array of numbers or truth values, or nested lists of them.
Scores = ArrayLike | list
Mask = UInt8[Array, "..."]


def get_topk_fn(sparsity_type: Any) -> TopKFnType:
    """Returns the `topk_fn(scores, sparsity)` of a sparsity type, or raises `ValueError`."""
    if sparsity_type is sparsity_types.Unstructured or isinstance(sparsity_type, sparsity_types.Unstructured):
        return topk_mask_calculator
    if isinstance(sparsity_type, sparsity_types.Block):
        height, width = sparsity_type.block_shape
        return partial(
            topk_block_mask_calculator,
            block_height=height,
            block_width=width,
            use_avg_pooling=sparsity_type.use_avg_pooling,
        )
    if isinstance(sparsity_type, sparsity_types.NByM):
        return partial(topk_n_by_m_mask_calculator, sparsity_type=sparsity_type)
    if isinstance(sparsity_type, sparsity_types.Channel):
        return partial(topk_channel_mask_calculator, sparsity_type=sparsity_type)
    raise ValueError(
        f"{sparsity_type!r} is not a supported sparsity type; use Unstructured(), Block((height, width)), "
        "NByM(n, m) or Channel(axis) of pruning.sparsity_types"
    )


def topk_mask_calculator(scores: Scores, sparsity: ArrayLike) -> Mask:
    """Returns the mask of the `max(1, round(size * (1 - sparsity)))` largest scores.

    Among equal scores the lower flat index wins; half rounds to even, in float32 as the sparsity may be traced;
    sparsity 0 keeps all. Raises `ValueError` for a sparsity outside [0, 1].

    >>> topk_mask_calculator(jnp.array([[1.0, 5.0], [1.0, 1.0]]), 0.5).tolist()
    [[1, 1], [0, 0]]
    """
    return _topk(jnp.asarray(scores), _checked(sparsity))


def topk_n_by_m_mask_calculator(scores: Scores, sparsity: ArrayLike, sparsity_type: sparsity_types.NByM) -> Mask:
    """Returns the mask of the n largest of every m consecutive scores along an axis; of equal ones the later stays.

    Any sparsity but 0 gives the same mask, 0 keeps all. Raises `ValueError` when n > m or m does not divide the axis.

    >>> topk_n_by_m_mask_calculator(jnp.array([1, 4, 3, 2, 1, 1, 1, 1]), 0.5, sparsity_types.NByM(2, 4)).tolist()
    [0, 1, 1, 0, 0, 0, 1, 1]
    """
    scores = jnp.asarray(scores)
    n, m, axis = sparsity_type
    axis = _positive_axis(scores, axis)
    if not 1 <= n <= m:
        raise ValueError(f"N({n}) must be <= M({m}) and at least 1 in N:M sparsity, as in NByM(2, 4)")
    if scores.shape[axis] % m:
        raise ValueError(
            f"the target axis {axis} of shape {scores.shape} is not divisible by M = {m}; "
            "choose another axis or M, or a filter_fn that leaves this parameter out"
        )
    return _topk_n_by_m(scores, _checked(sparsity), n, m, axis)


def topk_block_mask_calculator(
    scores: Scores, sparsity: ArrayLike, block_height: int, block_width: int, use_avg_pooling: bool
) -> Mask:
    """Returns a mask of whole blocks over the first two axes and all of the others.

    A block's score is the mean (or else the maximum) of its entries; blocks at the edges are smaller and count with
    their true size. Then `max(1, round(blocks * (1 - sparsity)))` blocks stay. An array of one axis is a single row,
    where only the width matters. Raises `ValueError` for a block larger than the array.

    >>> topk_block_mask_calculator(jnp.array([[9.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), 0.5, 2, 2, True).tolist()
    [[1, 1, 0], [1, 1, 0]]
    """
    scores = jnp.asarray(scores)
    shape = scores.shape if scores.ndim != 1 else (1, *scores.shape)
    height = 1 if scores.ndim == 1 else block_height
    if scores.ndim == 0 or not (1 <= height <= shape[0] and 1 <= block_width <= shape[1]):
        raise ValueError(
            f"a block of {(block_height, block_width)} does not fit the first axes of shape {scores.shape}; "
            "choose a smaller block, or a filter_fn that leaves this parameter out"
        )
    return _topk_block(scores.reshape(shape), _checked(sparsity), height, block_width, use_avg_pooling).reshape(
        scores.shape
    )


def topk_channel_mask_calculator(scores: Scores, sparsity: ArrayLike, sparsity_type: sparsity_types.Channel) -> Mask:
    """Returns a mask of whole slices along an axis, scored by the sum over the other axes.

    >>> topk_channel_mask_calculator(jnp.array([[1, 5, 2], [1, 0, 2]]), 0.6, sparsity_types.Channel(-1)).tolist()
    [[0, 1, 0], [0, 1, 0]]
    """
    scores = jnp.asarray(scores)
    return _topk_channel(scores, _checked(sparsity), _positive_axis(scores, sparsity_type.axis))


@jax.jit
def _topk(scores: Shaped[Array, "..."], sparsity: ArrayLike) -> Mask:
    size = scores.size
    # The clip also undoes the rounding of sizes that float32 cannot hold.
    count = jnp.clip(jnp.round(size * (1 - sparsity)).astype(jnp.int32), 1, max(size, 1))
    count = jnp.where(sparsity == 0, size, count)
    return largest(scores.ravel(), count).reshape(scores.shape).astype(MASK_DTYPE)


_topk_mask_calculator_internal = _topk  # jaxpruner's name, which extensions of it call


@partial(jax.jit, static_argnames=("n", "m", "axis"))
def _topk_n_by_m(scores: Shaped[Array, "..."], sparsity: Float[Array, ""], n: int, m: int, axis: int) -> Mask:
    shape = scores.shape
    groups = ordered_keys(scores.ravel()).reshape(*shape[:axis], shape[axis] // m, m, *shape[axis + 1 :])
    members = [lax.index_in_dim(groups, position, axis + 1, keepdims=False) for position in range(m)]
    # The number of better members: m is small, so comparing all pairs is far cheaper than sorting. A later member
    # is better than an equal one; a member is never better than itself.
    better = [
        sum((other >= member if j > i else other > member).astype(jnp.int32) for j, other in enumerate(members))
        for i, member in enumerate(members)
    ]
    mask = jnp.stack([count < n for count in better], axis + 1).reshape(shape)
    return (mask | (sparsity == 0)).astype(MASK_DTYPE)


@partial(jax.jit, static_argnames=("height", "width", "use_avg_pooling"))
def _topk_block(
    scores: Shaped[Array, "rows columns ..."],
    sparsity: Float[Array, ""],
    height: int,
    width: int,
    use_avg_pooling: bool,
) -> Mask:
    rows, columns, *rest = scores.shape
    window = (height, width, *rest)
    padding = [(0, -rows % height), (0, -columns % width), *[(0, 0)] * len(rest)]
    if use_avg_pooling:
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        total = lax.reduce_window(scores, 0.0, lax.add, window, window, padding)
        # Static: how many true entries each block has.
        tall = np.diff(np.minimum(np.arange(0, rows + height, height), rows))
        wide = np.diff(np.minimum(np.arange(0, columns + width, width), columns))
        entries = np.outer(tall, wide) * int(np.prod(rest))
        pooled = total.reshape(entries.shape) / entries.astype(total.dtype)
    else:
        lowest = -jnp.inf if jnp.issubdtype(scores.dtype, jnp.floating) else jnp.iinfo(scores.dtype).min
        pooled = lax.reduce_window(scores, jnp.array(lowest, scores.dtype), lax.max, window, window, padding)
        pooled = pooled.reshape(pooled.shape[:2])
    mask = jnp.repeat(jnp.repeat(_topk(pooled, sparsity), height, axis=0), width, axis=1)[:rows, :columns]
    return lax.broadcast_in_dim(mask, scores.shape, (0, 1))


@partial(jax.jit, static_argnames="axis")
def _topk_channel(scores: Shaped[Array, "..."], sparsity: Float[Array, ""], axis: int) -> Mask:
    totals = jnp.sum(scores, axis=[other for other in range(scores.ndim) if other != axis])
    return lax.broadcast_in_dim(_topk(totals, sparsity), scores.shape, (axis,))


def _checked(sparsity: ArrayLike) -> Float[Array, ""]:
    if np.ndim(sparsity) != 0 or (not isinstance(sparsity, jax.core.Tracer) and not 0 <= sparsity <= 1):
        raise ValueError(
            f"the sparsity of a top-k function is one number in [0, 1], the fraction to remove; got {sparsity}"
        )
    return jnp.asarray(sparsity, dtype=float)


def _positive_axis(scores: Shaped[Array, "..."], axis: int) -> int:
    if not -scores.ndim <= axis < scores.ndim:
        raise ValueError(f"axis {axis} does not exist in an array of shape {scores.shape}; choose another axis")
    return axis % scores.ndim
