"""Turns the tensors of a PyTorch checkpoint into a classifier's parameters."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from jaxprune.models.torch_file import read_torch_file

# Where people put the weights inside a checkpoint.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
# torch.nn.DataParallel, around the network or a part of it, and torch.compile.
_WRAPPERS = ("module", "_orig_mod")
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the weights
# torch.nn.utils.prune keeps a weight as two tensors.
_UNPRUNED, _MASK = "_orig", "_mask"
_LAYOUTS = {4: (2, 3, 1, 0), 2: (1, 0)}  # OIHW -> HWIO, [out, in] -> [in, out]
# (collection here, leaf here) for each leaf there; a "weight" of one dimension is a BatchNorm scale.
_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_LINEAR_OR_CONV = {"weight": ("params", "kernel"), "bias": ("params", "bias")}
# The network-slimming repositories keep which channels are chosen, 0 or 1 each, beside the weights.
_SELECTION_SUFFIX = "select.indexes"


def read_state_dict(path) -> dict[str, np.ndarray]:
    """Returns the flat `name -> array` weights in a PyTorch checkpoint, whatever container or wrapper holds them.

    Raises:
      FileNotFoundError, ValueError: as `read_torch_file`; or the file holds no named tensors.
    """
    content = read_torch_file(path)
    for container in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
            break
    if not isinstance(content, dict) or not any(isinstance(value, np.ndarray) for value in content.values()):
        raise ValueError(f"{path} holds no named tensors; save the weights with torch.save(model.state_dict(), path)")
    tensors = {name: value for name, value in content.items() if isinstance(value, np.ndarray) and name != _COUNTER}
    return _masked(_unwrapped(tensors, path))


def _unwrapped(tensors: dict[str, np.ndarray], path) -> dict[str, np.ndarray]:
    """Returns tensors under the names that they have in the network itself, without those of what it was put into."""
    names = {name: [part for part in name.split(".") if part not in _WRAPPERS] for name in tensors}
    # An attribute that holds the whole network, as in Lightning: a first part that all share, unless it is a list.
    while len({parts[0] for parts in names.values()}) == 1 and all(
        len(parts) > 2 and not parts[1].isdigit() for parts in names.values()
    ):
        names = {name: parts[1:] for name, parts in names.items()}
    unwrapped = {".".join(parts): tensors[name] for name, parts in names.items()}
    if len(unwrapped) < len(tensors):
        raise ValueError(f"{path} holds several networks, with and without {' or '.join(_WRAPPERS)}; save one of them")
    return unwrapped


def _masked(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns tensors with `x_orig` and `x_mask` multiplied into `x`, as PyTorch does in every forward pass."""
    pruned = {name.removesuffix(_UNPRUNED) for name in tensors if name.endswith(_UNPRUNED)}
    pruned = {name for name in pruned if f"{name}{_MASK}" in tensors}
    parts = {f"{name}{suffix}" for name in pruned for suffix in (_UNPRUNED, _MASK)}
    kept = {name: value for name, value in tensors.items() if name not in parts}
    return kept | {name: tensors[f"{name}{_UNPRUNED}"] * tensors[f"{name}{_MASK}"] for name in pruned}


def convert_state_dict(
    state_dict: dict,
    torch_keys: tuple[dict, ...],
    template: dict,
    *,
    name: str,
    path,
    flattened: Mapping[str, int] = MappingProxyType({}),
) -> dict:
    """Returns `{"params": ..., "batch_stats": ...}` shaped like `template`, from PyTorch's arrays.

    Args:
      state_dict: flat PyTorch names to arrays.
      torch_keys: for every known naming, module path here -> prefix of its keys there; the one that fits best is used.
      template: `{"params": ..., "batch_stats": ...}`, nested dicts of anything with a shape.
      name: the architecture, for messages.
      path: the file, for messages.
      flattened: linear layers that read a flattened feature map, path "a/b" -> its number of pixels; PyTorch flattens
        [channels, pixels], we [pixels, channels].

    Raises:
      ValueError: a missing, surplus or differently shaped tensor, named; or channels were selected already.
    """
    _check_selections(state_dict, path)
    unused = {key for key in state_dict if not key.endswith(("num_batches_tracked", _SELECTION_SUFFIX))}
    converted = {"params": {}, "batch_stats": {}}
    modules = {key.rpartition(".")[0] for key in state_dict}
    best = max(torch_keys, key=lambda naming: len(modules & set(naming.values())))
    for module_path, prefix in best.items():
        is_batch_norm = _lookup(template["batch_stats"], module_path) is not None
        for leaf_there, (collection, leaf_here) in (_BATCH_NORM if is_batch_norm else _LINEAR_OR_CONV).items():
            expected = (_lookup(template[collection], module_path) or {}).get(leaf_here)
            if expected is None:
                continue
            key = f"{prefix}.{leaf_there}"
            if key not in state_dict:
                raise ValueError(_other_architecture(path, name, f"{key} is missing", state_dict))
            array = np.asarray(state_dict[key], np.float32)
            array = array.transpose(_LAYOUTS.get(array.ndim, range(array.ndim)))
            pixels = flattened.get("/".join(module_path), 1) if array.ndim == 2 else 1
            if pixels > 1 and array.shape[0] % pixels == 0:
                array = array.reshape(-1, pixels, array.shape[1]).swapaxes(0, 1).reshape(array.shape)
            if array.shape != tuple(expected.shape):
                problem = f"{key} has shape {state_dict[key].shape} and gives {array.shape} where {expected.shape} fits"
                raise ValueError(_other_architecture(path, name, problem, state_dict))
            node = converted[collection]
            for part in module_path:
                node = node.setdefault(part, {})
            node[leaf_here] = array
            unused.discard(key)
    if unused:
        problem = f"{sorted(unused)[0]} has no place ({len(unused)} such tensors)"
        raise ValueError(_other_architecture(path, name, problem, state_dict))
    return converted


def _check_selections(state_dict: dict, path) -> None:
    for key, chosen in state_dict.items():
        if key.endswith(_SELECTION_SUFFIX) and not np.all(chosen == 1):
            raise ValueError(
                f"{path} holds a network that channels were removed from: {key} chooses {np.count_nonzero(chosen)} of "
                f"{chosen.size}; import the network from before the removal, and prune it here"
            )


def _lookup(tree: dict, path: tuple[str, ...]):
    for part in path:
        tree = tree.get(part)
        if tree is None:
            return None
    return tree


def _other_architecture(path, name: str, problem: str, state_dict: dict) -> str:
    return (
        f"{path} does not hold a {name}: {problem}; its {len(state_dict)} tensors begin with "
        f"{', '.join(list(state_dict)[:3])}; give the name, num_classes and options it was trained with"
    )
