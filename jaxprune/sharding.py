"""The device mesh and the placement of batches on it."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"


def data_mesh(devices=None) -> Mesh:
    """Returns a one-dimensional mesh, axis `"data"`, over `devices` (default: all)."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (DATA_AXIS,))


def round_up(count: int, mesh: Mesh) -> int:
    """Returns the smallest number >= `count` that the devices of `mesh` divide."""
    return -(-count // mesh.size) * mesh.size


def split_rows(batch, mesh: Mesh):
    """Returns the arrays of `batch` on the devices of `mesh`, the rows split among them."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))


def replicate(tree, mesh: Mesh):
    """Returns the arrays of `tree` copied to every device of `mesh`."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def pad_rows(array: np.ndarray, count: int) -> np.ndarray:
    """Returns `array` with its first row repeated at the end until it has `count` rows."""
    return np.concatenate([array, np.repeat(array[:1], count - len(array), axis=0)]) if len(array) < count else array
