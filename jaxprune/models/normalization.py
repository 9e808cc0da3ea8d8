"""The mean and std that images are normalised with, checked: they belong to images in [0, 1]."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_UNITS = "mean and std belong to images / 255, such as mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)"


def num_channels(mean, std) -> int | None:
    """Returns how many channels mean and std are for; None if both are one number, for all channels.

    Raises:
      ValueError: an array of another rank, or as many means as there are not stds.
    """
    lengths = {}
    for name, value in (("mean", mean), ("std", std)):
        shape = np.shape(value)
        if len(shape) > 1 or shape == (0,):
            raise ValueError(f"{name} has shape {list(shape)}; give one number per channel, or one for all")
        if shape:
            lengths[name] = shape[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{lengths['mean']} means and {lengths['std']} stds; give one of each per channel")
    return next(iter(lengths.values()), None)


def normalization(
    mean: float | Sequence[float] | Array, std: float | Sequence[float] | Array, *, channels: int
) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
    """Returns mean and std as float32 arrays, one entry per channel.

    Values inside `jit`, and those that are only shapes, are not looked at.

    Raises:
      ValueError: another number of channels; a mean outside [-1, 1], a std of 0 or less, or above 1: such numbers
        belong to images in 0..255, or to nothing.

    >>> normalization(0.5, (0.2, 0.25), channels=2)[0].tolist()
    [0.5, 0.5]
    """
    given = num_channels(mean, std)
    if given not in (None, channels):
        raise ValueError(f"mean and std are for {given} channels, the network takes {channels}; give one per channel")
    for name, value, fine, allowed in (
        ("mean", mean, lambda v: np.abs(v) <= 1, "numbers in [0, 1]"),
        ("std", std, lambda v: (v > 0) & (v <= 1), "numbers above 0, at most 1"),
    ):
        if _is_known(value) and not fine(np.asarray(value, np.float64)).all():
            raise ValueError(f"{name} is {np.asarray(value).tolist()}; it must be {allowed}: {_UNITS}")
    return tuple(
        value
        if isinstance(value, jax.ShapeDtypeStruct)
        else jnp.broadcast_to(jnp.asarray(value, jnp.float32), (channels,))
        for value in (mean, std)
    )


def _is_known(value) -> bool:
    return not isinstance(value, jax.core.Tracer | jax.ShapeDtypeStruct)
