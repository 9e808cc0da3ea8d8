"""The devices that are asked for, the mesh over them, and the placement of batches on it."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"
_INSTALLATIONS = {"cpu": "jax", "gpu": "jax[cuda12] or jax[cuda13]", "tpu": "jax[tpu]"}
DEVICE_KINDS = tuple(_INSTALLATIONS)


def require_devices(kind: str) -> list[jax.Device]:
    """Returns all devices of a kind, to be given as `devices=`; a run that was meant for a TPU never ends up on a CPU.

    Raises:
      ValueError: an unknown kind, or one that this process does not have; says what it has.

    >>> require_devices("cpu")[0].platform
    'cpu'
    """
    if kind not in DEVICE_KINDS:
        raise ValueError(f"unknown kind of device {kind!r}; known: {', '.join(DEVICE_KINDS)}")
    try:
        return jax.devices(kind)
    except RuntimeError as error:
        found, setting = jax.devices(), os.environ.get("JAX_PLATFORMS", "")
        if setting and kind not in setting:
            why = f"JAX_PLATFORMS={setting} is set: unset it"
        else:
            why = f"see whether {_INSTALLATIONS[kind]} is installed and no other process has the device"
        raise ValueError(
            f"a {kind} was asked for, but this process has {len(found)} x {found[0].platform} "
            f"({found[0].device_kind}); {why}, or ask for {found[0].platform}"
        ) from error


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


def num_processes(mesh: Mesh) -> int:
    """Returns how many processes the devices of `mesh` belong to."""
    return len({device.process_index for device in mesh.devices.flat})


def place_rows(batch, mesh: Mesh):
    """Returns the host arrays of `batch` with their rows split among the devices of `mesh`, also of several processes.

    Each process passes the whole batch and places the rows of its own devices.
    """
    return _place(batch, NamedSharding(mesh, PartitionSpec(DATA_AXIS)), num_processes(mesh))


def place_everywhere(tree, mesh: Mesh):
    """Returns the arrays of `tree` copied to every device of `mesh`, also of several processes, which pass the same."""
    return _place(tree, NamedSharding(mesh, PartitionSpec()), num_processes(mesh))


def _place(tree, where: NamedSharding, processes: int):
    if processes == 1:
        return jax.device_put(tree, where)

    def place(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, where, lambda index: host[index])

    return jax.tree.map(place, tree)
