"""Masks in a file: one bit per weight, no pickle, one version number."""

import io
import json
import math
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array

from jaxprune import files
from jaxprune.pruning._trees import align_masks, flatten_entries, show
from jaxprune.pruning.mask_calculator import MASK_DTYPE

FORMAT = "jaxprune masks"
VERSION = 1
_HEADER = "header"
_BITS_PER_BYTE = 8


def save_masks(path, masks) -> None:
    """Writes the masks to `path`, local or `gs://`, as an .npz file of packed bits, whole or not at all.

    A file of masks that jaxprune wrote is replaced.

    Raises:
      ValueError: an empty path, or masks that are not 0 and 1.
      FileExistsError: something else is at `path`.
      OSError: the file could not be written, as on a full disk; what was at `path` still is.
    """
    path = files.check_output(path, what="mask file", is_ours=_is_ours)
    is_new = not files.is_there(path)
    entries, bits = [], {}
    for entry_path, mask in flatten_entries(masks):
        shape = None
        if mask is not None:
            mask = np.asarray(mask)
            if not np.isin(mask, (0, 1)).all():
                name = show(tuple(map(str, entry_path)))
                raise ValueError(
                    f"the mask of {name} has other values than 0 and 1; unpack the masks of an updater with "
                    "use_packed_masks first, by pruning.base_updater.unpack_masks(masks, params)"
                )
            shape = mask.shape
            bits[f"mask{len(entries)}"] = np.packbits(mask.astype(np.uint8))
        entries.append({"path": entry_path, "shape": shape})
    entries = json.loads(json.dumps(entries))
    header = {"format": FORMAT, "version": VERSION, "masks": entries, "checksum": _sum_of(entries, bits)}
    buffer = io.BytesIO()
    np.savez(buffer, **{_HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}, **bits)
    files.write(path, buffer.getvalue(), exclusive=is_new)


def load_masks(path, params: Any = None):
    """Returns the masks that `save_masks` wrote to `path`.

    With `params`, they come in the parameters' container and are checked against them; without, in nested dicts. Raises
    `ValueError` for a file that holds no masks or is damaged, one of a newer version, or masks of other parameters.
    """
    path = epath.Path(path)
    content = io.BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as archive:
            header, arrays = _header(archive), {name: archive[name] for name in archive.files if name != _HEADER}
    except Exception as error:  # whatever a damaged archive makes its reader stumble on
        raise ValueError(f"{path} holds no masks; give a file that pruning.save_masks wrote") from error
    if header["version"] > VERSION:
        raise ValueError(
            f"{path} has version {header['version']} of the mask format, this jaxprune reads up to {VERSION}; "
            "install a newer jaxprune"
        )
    try:
        masks = _unpacked(header, arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        cause = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"the masks in {path} are damaged ({cause}); save them again") from error
    if params is None:
        return masks
    try:
        return align_masks(masks, params)
    except ValueError as error:
        raise ValueError(f"{path} holds masks of another model: {error}") from error


def _header(archive) -> dict:
    """Returns the header of an archive, which says that it holds masks, of a version that is a number."""
    header = json.loads(archive[_HEADER].tobytes())
    if header["format"] != FORMAT or not isinstance(header["version"], int):
        raise ValueError(header)
    return header


def _unpacked(header: dict, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the masks in nested dicts; files from before there were check sums are taken as they are."""
    if "checksum" in header and header["checksum"] != _sum_of(header["masks"], arrays):
        raise ValueError("the check sum is wrong")
    masks: Any = {}
    for index, entry in enumerate(header["masks"]):
        mask = None
        if entry["shape"] is not None:
            mask = _mask(show(tuple(map(str, entry["path"]))), arrays[f"mask{index}"], entry["shape"])
        if not entry["path"]:
            return mask
        node = masks
        for name in entry["path"][:-1]:
            node = node.setdefault(name, {})
        node[entry["path"][-1]] = mask
    return masks


def _mask(name: str, bits: np.ndarray, shape: Any) -> Array:
    if not isinstance(shape, list) or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"the mask of {name} has the shape {shape!r}")
    size = math.prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // _BITS_PER_BYTE),):
        raise ValueError(f"the mask of {name}, {size} bits, has {bits.size} entries of {bits.dtype}")
    return jnp.asarray(np.unpackbits(bits, count=size).reshape(shape), MASK_DTYPE)


def _sum_of(entries: list, bits: dict[str, np.ndarray]) -> str:
    sums = {name: files.checksum(array.tobytes()) for name, array in bits.items()}
    return files.checksum(json.dumps([entries, sums], sort_keys=True))


def _is_ours(path: epath.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return False
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return bool(_header(archive))
        except Exception:  # what is no archive of ours can be anything
            return False
