"""Reads the tensors of a PyTorch checkpoint without PyTorch and without executing anything in the file.

The format (PyTorch >= 1.6) is an uncompressed zip archive: `<root>/data.pkl`, a pickle that describes nested dicts of
tensors, and one `<root>/data/<key>` with the raw bytes of each storage. The pickle is read by an unpickler that knows
four kinds of names only, each replaced by code of ours; any other name is refused before it is looked up.
"""

import collections
import dataclasses
import math
import pickle
import zipfile

import ml_dtypes
import numpy as np
from etils import epath

_STORAGE_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class _StorageType:
    dtype: type


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, file, read_storage):
        super().__init__(file)
        self._read_storage = read_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, requires_grad, hooks: tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        raise ValueError(
            f"it holds a {module}.{name}, which is not a tensor; save only the weights: "
            f"torch.save(model.state_dict(), path)"
        )

    def persistent_load(self, pid):
        kind, storage_type, key, _, size = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"it refers to a {kind!r} that is not a tensor storage")
        return self._read_storage(key, np.dtype(storage_type.dtype), size)


def _tensor(storage, offset, size, stride, *_):
    count = math.prod(size)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if count else offset - 1
    if offset < 0 or min(size, default=1) < 0 or min(stride, default=1) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of shape {size} reaches beyond its storage of {len(storage)} values")
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], tuple(size), [s * storage.itemsize for s in stride], writeable=False
    )
    return np.array(view)


def read_torch_file(path) -> dict:
    """Returns what a PyTorch checkpoint holds, its tensors as NumPy arrays.

    Nothing in the file is executed: names other than tensors, their storages and ordered dicts are refused.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not a zip-format checkpoint, truncated or damaged, or it holds other things than tensors.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}; give the path of a PyTorch .pt or .pth file")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return _read_archive(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a complete PyTorch checkpoint ({error}): it is truncated, of the format before "
            f"PyTorch 1.6, or something else; copy it again, or re-save it with torch.save (weights of Flax and other "
            f"libraries come in through Python: models.from_nnx, from_linen, from_function)"
        ) from error
    except (ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a PyTorch checkpoint: {error}") from error


def _read_archive(archive: zipfile.ZipFile) -> dict:
    index = next((name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]), None)
    if index is None:
        raise ValueError("the archive holds no data.pkl, as torch.save writes")
    root = index.split("/")[0]
    byteorder = f"{root}/byteorder"
    if byteorder in archive.namelist() and archive.read(byteorder) != b"little":
        raise ValueError("its numbers are big-endian; re-save it on a little-endian machine")

    def read_storage(key, dtype, size):
        data = archive.read(f"{root}/data/{key}")
        if len(data) < size * dtype.itemsize:
            raise ValueError(f"storage {key} has {len(data)} bytes instead of {size * dtype.itemsize}")
        return np.frombuffer(data, dtype, size)

    with archive.open(index) as file:
        return _TensorUnpickler(file, read_storage).load()
