"""Masks in a file: one bit per weight, no pickle, one version number."""

import io
import json
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxprune.pruning._trees import align_masks, flatten_entries, show
from jaxprune.pruning.mask_calculator import MASK_DTYPE

FORMAT = "jaxprune masks"
VERSION = 1
_HEADER = "header"


def save_masks(path, masks) -> None:
    """Writes the masks to `path` as an .npz file of packed bits.

    The file is written under another name and renamed, so it is whole or absent. Any path of `etils.epath` will do.
    Raises `ValueError` for masks that are not 0 and 1.
    """
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
    header = json.dumps({"format": FORMAT, "version": VERSION, "masks": entries})
    buffer = io.BytesIO()
    np.savez(buffer, **{_HEADER: np.frombuffer(header.encode(), np.uint8)}, **bits)
    path = epath.Path(path)
    unfinished = path.parent / f".{path.name}.unfinished"
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)


def load_masks(path, params: Any = None):
    """Returns the masks that `save_masks` wrote to `path`.

    With `params`, they come in the parameters' container and are checked against them; without, in nested dicts. Raises
    `ValueError` for a file that holds no masks, one of a newer version, or masks of other parameters.
    """
    path = epath.Path(path)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(arrays[_HEADER].tobytes())
        if header["format"] != FORMAT:
            raise KeyError(header["format"])
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no masks; give a file that pruning.save_masks wrote") from error
    if header["version"] > VERSION:
        raise ValueError(
            f"{path} has version {header['version']} of the mask format, this jaxprune reads up to {VERSION}; "
            "install a newer jaxprune"
        )
    masks: Any = {}
    for index, entry in enumerate(header["masks"]):
        mask = None
        if entry["shape"] is not None:
            size = int(np.prod(entry["shape"]))
            mask = jnp.asarray(np.unpackbits(arrays[f"mask{index}"], count=size).reshape(entry["shape"]), MASK_DTYPE)
        if not entry["path"]:
            masks = mask
            break
        node = masks
        for name in entry["path"][:-1]:
            node = node.setdefault(name, {})
        node[entry["path"][-1]] = mask
    if params is None:
        return masks
    try:
        return align_masks(masks, params)
    except ValueError as error:
        raise ValueError(f"{path} holds masks of another model: {error}") from error
