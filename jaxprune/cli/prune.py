"""`jaxprune prune`: one model pruned and saved, masked or smaller."""

import dataclasses
import os
import pathlib
import sys

import jax
from jaxtyping import PyTree
from tyro.conf import OmitArgPrefixes, Positional

from jaxprune import checkpoints, data, files, models, pruning
from jaxprune.cli import options
from jaxprune.cli.options import TorchOptions
from jaxprune.models.export import check_export_path


@dataclasses.dataclass
class Prune:
    """Prune a model and save it, with its masks or physically smaller; no fine-tuning."""

    checkpoint: Positional[str]
    """A PyTorch .pt file, a .safetensors file or a folder that jaxprune saved; what its masks took stays away."""
    sparsity: float
    """The fraction to remove, in [0, 1): of the convolution weights, or of the channels of the chosen layers."""
    out: str
    """The folder to write: a checkpoint that every jaxprune command reads."""
    method: str = "weight"
    """A method of pruning.METHODS, such as weight, random, filter_l1, slimming or channel_random."""
    filter_fn: str | None = None
    """Methods that remove weights: from which parameters, a name in pruning.FILTERS such as kernels, which takes
    linear and attention layers too. By default from the kernels of 2-D convolutions."""
    layers: tuple[str, ...] | None = None
    """Methods that remove channels: channel groups, or one word: study, all. By default the method's own choice."""
    round_to: int = 1
    """Methods that remove channels: keep a multiple of so many in each layer, such as 8."""
    export: str | None = None
    """Also write the pruned model as StableHLO into this file, which runs without jaxprune; replaces only such."""
    seed: int = 0
    """Of methods that draw."""
    num_classes: int = 10
    """The number of classes of a PyTorch file."""
    torch: OmitArgPrefixes[TorchOptions] = dataclasses.field(default_factory=TorchOptions)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parsed = options.parse(Prune, "prune", arguments)
    _check_outputs(parsed.checkpoint, parsed.out, parsed.export)
    choice = _choice(parsed)
    checkpoint = parsed.torch.open(
        parsed.checkpoint, num_classes=parsed.num_classes, mean=data.CIFAR10_MEAN, std=data.CIFAR10_STD
    )
    sparse, masks, note = _pruned(checkpoint, parsed, choice)
    metadata = {
        "method": pruning.canonical_name(parsed.method),
        "sparsity": parsed.sparsity,
        "seed": parsed.seed,
        "source": parsed.checkpoint,
    }
    checkpoints.save(parsed.out, sparse, masks=masks, metadata=metadata, replace=False)
    summary = pruning.summarize(sparse, masks, before=checkpoint.classifier)
    sys.stdout.write(f"{summary}\n{note}. Saved: {parsed.out}\n")
    if parsed.export is not None:
        models.export_stablehlo(parsed.export, sparse)
        sys.stdout.write(f"exported: {parsed.export}\n")


def _choice(parsed: Prune) -> dict:
    """Returns the options of `pruning.prune` for the method; a ValueError where they do not belong to it."""
    method = pruning.find_method(parsed.method)
    if "images" in method.needs:
        raise ValueError(
            f"method {parsed.method!r} needs training images, which this command has none of; use it in a study, or "
            "pruning.prune in Python"
        )
    if method.removes_channels and parsed.filter_fn is not None:
        raise ValueError(
            f"--filter-fn is for methods that remove weights ({pruning.methods_with('filter_fn')}), not for "
            f"{parsed.method!r}"
        )
    if not method.removes_channels and (parsed.layers or parsed.round_to != 1):
        raise ValueError(
            f"--layers and --round-to are for methods that remove channels ({pruning.methods_with('layers')}), not for "
            f"{parsed.method!r}"
        )
    if not method.removes_channels:
        return {"filter_fn": parsed.filter_fn}
    layers = parsed.layers[0] if parsed.layers and len(parsed.layers) == 1 else parsed.layers
    return {"layers": layers, "round_to": parsed.round_to}


def _pruned(
    checkpoint: checkpoints.Checkpoint, parsed: Prune, choice: dict
) -> tuple[models.Classifier, PyTree | None, str]:
    """Returns the pruned network, its masks unless its channels are gone, and what to say about it."""
    dense = checkpoint.classifier
    key = jax.random.key(parsed.seed)
    sparse, masks = pruning.prune(dense, method=parsed.method, sparsity=parsed.sparsity, key=key, **choice)
    if checkpoint.masks is not None:
        # What was pruned stays pruned; masks of single weights keep channels from being taken out, as `compact` says.
        masks = pruning.intersect_masks(masks, checkpoint.masks)
        sparse = sparse.replace(params=pruning.mask_params(sparse.params, masks))
    if not pruning.find_method(parsed.method).removes_channels:
        return sparse, masks, "Masks make no forward pass faster"
    small = pruning.compact(sparse, masks)
    is_smaller = _num_parameters(small) < _num_parameters(dense)
    return small, None, "The channels are gone, the network is smaller" if is_smaller else "No channel is gone"


def _num_parameters(classifier: models.Classifier) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(classifier.params))


def _check_outputs(checkpoint: str, out: str, export: str | None) -> None:
    """Raises a ValueError or an OSError if what `prune` will write would replace something, or lie in one another."""
    files.check_output(out, what="checkpoint folder")
    pairs = [("--out", out, "the checkpoint that is read", checkpoint)]
    if export is not None:
        check_export_path(export)
        pairs += [("--export", export, *pairs[0][2:]), ("--export", export, "--out", out)]
        pairs += [("--out", out, "--export", export)]
    for option, path, where, folder in pairs:
        if pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise ValueError(f"{option} {path} lies in {where}, {folder}; give another path")
