"""Poisson counts of 8-bit intensities, by alias tables: one random word and one gather per count.

Walker's alias method: the counts 0..511 above an offset are 512 cells of equal probability, each split between its
own count and one other. A 32-bit word picks the cell with 9 bits and the side with the other 23.
Exact up to that resolution: no probability is off by more than 512 * 2^-33 = 6e-8, the sum of all by less than 2e-5,
and the counts that have no cell lie 11 standard deviations from the mean. A table takes 0.5 MB per severity.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from jaxprune.corruptions import severities
from jaxprune.corruptions.image import Severity, at_severity

_CELL_BITS = 9
_CELLS = 2**_CELL_BITS
_LEVELS = 256


def poisson_counts(
    words: UInt32[Array, "*size"], intensity: Float[Array, "*size"], severity: Severity, preset: str
) -> Float[Array, "*size"]:
    """Returns Poisson counts of mean `photons * intensity / 255`, for whole intensities 0..255."""
    level = intensity.astype(jnp.int32)
    cell = (words & np.uint32(_CELLS - 1)).astype(jnp.int32)
    table = at_severity(_alias_tables(preset), severity)
    entry = table.at[level * _CELLS + cell].get(mode="promise_in_bounds")
    other = (entry & np.uint32(_CELLS - 1)).astype(jnp.int32)
    count = jnp.where((words >> _CELL_BITS) < (entry >> _CELL_BITS), cell, other)
    photons = at_severity(severities.SHOT_NOISE_PHOTONS[preset], severity)
    return (_offset(level, photons) + count).astype(jnp.float32)


def _offset(level, photons):
    """Returns the count of the first cell: 0, or half the cells below the mean."""
    return (photons * level // (_LEVELS - 1) - _CELLS // 2).clip(0)


@functools.cache
def _alias_tables(preset: str) -> np.ndarray:
    """Returns uint32 [5, 256 * 512]: 23 bits of the share of the cell's own count, 9 bits of the other count."""
    return np.stack([_alias_table(photons) for photons in severities.SHOT_NOISE_PHOTONS[preset]])


def _alias_table(photons: int) -> np.ndarray:
    level = np.arange(_LEVELS)[:, None]
    counts = _offset(level, photons) + np.arange(_CELLS)[None]
    mean = np.maximum(level * photons / (_LEVELS - 1), 1e-300)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, counts.max() + 1)))])
    probability = np.exp(counts * np.log(mean) - mean - log_factorial[counts])
    share, other = _alias(probability / probability.sum(axis=1, keepdims=True))
    top = 2 ** (32 - _CELL_BITS)
    share = np.minimum(np.rint(share * top), top - 1).astype(np.uint32)
    return ((share << _CELL_BITS) | other.astype(np.uint32)).reshape(-1)


def _alias(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (share, other): the sweeping construction of alias tables, all rows at once.

    A row goes through its rich cells (at least their due), keeping what is left of the current one. Each step settles
    one cell: a poor one, filled up from the current rich one, or the rich one once it has become poor itself.
    """
    rows, cells = probability.shape
    due = probability * cells
    share, other = np.ones((rows, cells)), np.tile(np.arange(cells), (rows, 1))
    order = np.argsort(due < 1, axis=1, kind="stable")
    num_rich = (due >= 1).sum(axis=1)
    row = np.arange(rows)
    rich, poor = np.zeros(rows, int), num_rich.copy()
    left = due[row, order[:, 0]]
    for _ in range(cells - 1):
        last_rich = rich + 1 >= num_rich
        fill = (poor < cells) & ((left > 1) | last_rich)
        current = order[row, rich]
        following = order[row, np.where(fill, np.minimum(poor, cells - 1), rich + 1)]
        settled, giver = np.where(fill, following, current), np.where(fill, current, following)
        share[row, settled] = np.where(fill, due[row, following], left)
        other[row, settled] = giver
        left += due[row, following] - 1
        poor += fill
        rich += ~fill
    return share, other
