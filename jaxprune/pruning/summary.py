"""What is left of a network: sparsities, overlaps of masks, and bytes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.pruning._selection import MAX_SIZE
from jaxprune.pruning._trees import Names, align_masks, flatten_named, named_masks, show

BITS_PER_BYTE = 8
INDEX_BYTES = 4  # CSR indices and row pointers are int32


def summarize_sparsity(param_tree, only_total_sparsity=False):
    """Returns {"path/of/parameter": fraction of zeros, ...} with the totals, as float32 scalars.

    The totals are `_total_sparsity`, `_nparams_nnz` (the weights that are not 0) and `_nparams`; alone when
    `only_total_sparsity`. Works under jit.

    >>> {name: value.item() for name, value in summarize_sparsity({"w": jnp.array([1.0, 0.0])}).items()}
    {'w': 0.5, '_total_sparsity': 0.5, '_nparams_nnz': 1.0, '_nparams': 2.0}
    """
    sizes = {show(names): jnp.size(leaf) for names, leaf in flatten_named(param_tree)}
    non_zeros = {show(names): jnp.count_nonzero(leaf) for names, leaf in flatten_named(param_tree)}
    summary = {} if only_total_sparsity else {name: _sparsity(non_zeros[name], sizes[name]) for name in sizes}
    size = sum(sizes.values())
    # Integers add exactly as long as they hold the total.
    count = sum(non_zeros.values()) if size <= MAX_SIZE else sum(map(jnp.float32, non_zeros.values()))
    summary["_total_sparsity"] = _sparsity(count, size)
    summary["_nparams_nnz"] = jnp.float32(count)
    summary["_nparams"] = jnp.float32(size)
    return summary


def _sparsity(non_zeros, size) -> jax.Array:
    return jnp.float32(size - non_zeros) / jnp.float32(size)


def summarize_intersection(mask_tree1, mask_tree2, only_total_intersection=False):
    """Returns how much of the first masks' kept weights the second keep too, {"path": fraction, ...}.

    The total is `_total_intersection`, alone when `only_total_intersection`. It is not symmetric; `mask_overlap` is.
    Parameters without masks count 0.

    >>> masks = {"w": jnp.array([1, 1, 0, 1])}, {"w": jnp.array([1, 0, 1, 0])}
    >>> round(summarize_intersection(*masks)["w"].item(), 4)
    0.3333
    """
    shared, kept, _ = _count_masks(mask_tree1, mask_tree2)
    return _relative(shared, kept, only_total_intersection, "_total_intersection")


def mask_overlap(mask_tree1, mask_tree2, *, only_total=False):
    """Returns the Jaccard index of what two trees of masks keep, {"path": in [0, 1], ...} and `_total_overlap`.

    >>> masks = {"w": jnp.array([1, 1, 0, 1])}, {"w": jnp.array([1, 0, 1, 0])}
    >>> mask_overlap(*masks)["w"].item()
    0.25
    """
    shared, _, either = _count_masks(mask_tree1, mask_tree2)
    return _relative(shared, either, only_total, "_total_overlap")


def intersect_masks(mask_tree1, mask_tree2):
    """Returns the masks that keep what both keep; a None mask keeps everything."""
    named = _matched(mask_tree1, mask_tree2)

    def both(one, other):
        if one is None or other is None:
            return other if one is None else one
        return one & other

    kept = [both(one, other) for one, other in named.values()]
    structure = jax.tree.structure(mask_tree1, is_leaf=lambda node: node is None)
    return jax.tree.unflatten(structure, kept)


def _matched(mask_tree1, mask_tree2) -> dict[Names, tuple[Any, Any]]:
    first, second = named_masks(mask_tree1), named_masks(mask_tree2)
    different = sorted(first.keys() ^ second.keys())
    if different:
        raise ValueError(
            f"the masks are of different parameters: only one tree has {show(different[0])}; compare masks of one model"
        )
    return {names: (first[names], second[names]) for names in first}


def _count_masks(mask_tree1, mask_tree2):
    shared, kept, either = {}, {}, {}
    for names, (one, other) in _matched(mask_tree1, mask_tree2).items():
        name = show(names)
        if one is None or other is None:
            shared[name] = kept[name] = either[name] = jnp.int32(0)
            if one is not None:
                kept[name] = jnp.sum(one == 1, dtype=jnp.int32)
        else:
            shared[name] = jnp.sum((one == 1) & (other == 1), dtype=jnp.int32)
            kept[name] = jnp.sum(one == 1, dtype=jnp.int32)
            either[name] = jnp.sum((one == 1) | (other == 1), dtype=jnp.int32)
    return shared, kept, either


def _relative(parts, wholes, only_total, total_name) -> dict[str, jax.Array]:
    summary = {} if only_total else {name: parts[name] / jnp.maximum(wholes[name], 1) for name in parts}
    summary[total_name] = sum(parts.values()) / jnp.maximum(sum(wholes.values()), 1)
    return summary


@dataclasses.dataclass(frozen=True)
class LeafSummary:
    """One parameter, or all together: counts, and bytes when stored in three ways.

    Attributes:
        name: the path.
        shape: the shape; empty for the total.
        size: number of weights.
        zeros: how many of them are pruned (by the mask if there is one, else exactly 0).
        dense_bytes: every weight stored.
        bitmask_bytes: one bit per weight, and the kept weights; unpruned parameters are dense.
        csr_bytes: the kept weights of a matrix with the last axis as columns, with int32 column indices and row
            pointers; unpruned parameters are dense.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    dense_bytes: int
    bitmask_bytes: int
    csr_bytes: int

    @property
    def sparsity(self) -> float:
        """The fraction of weights that are pruned."""
        return self.zeros / max(self.size, 1)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Per-parameter rows and their total; `str(summary)` is a table, `as_dict()` plain data."""

    rows: tuple[LeafSummary, ...]
    total: LeafSummary

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns {name: {"sparsity": ..., "size": ..., ...}} of plain numbers, the total under "total"."""
        named: dict[str, dict[str, Any]] = {}
        for row in (*self.rows, self.total):
            named[row.name] = dataclasses.asdict(row) | {"shape": list(row.shape), "sparsity": row.sparsity}
        return named

    def __str__(self) -> str:
        header = ("parameter", "shape", "weights", "zeros", "sparsity", "dense", "bitmask", "CSR")
        lines = [header, *map(_cells, self.rows), _cells(self.total)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        formatted = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, formatted))
        return "\n".join([formatted[0], rule, *formatted[1:-1], rule, formatted[-1]])


def summarize(classifier_or_params, masks=None) -> Summary:
    """Returns sparsity and stored bytes, per parameter and in total.

    Takes a classifier (anything with `params`) or its parameters. With `masks`, what they say is pruned; without,
    what is exactly 0.

    >>> print(summarize({"conv": {"kernel": np.float32([[1, 0, 0, 2], [0, 0, 0, 3]])}}))
    parameter    shape   weights  zeros  sparsity  dense  bitmask   CSR
    -------------------------------------------------------------------
    conv/kernel  (2, 4)        8      5     62.5%   32 B     13 B  36 B
    -------------------------------------------------------------------
    total                      8      5     62.5%   32 B     13 B  36 B
    """
    params = getattr(classifier_or_params, "params", classifier_or_params)
    named = dict(flatten_named(params))
    masked = named_masks(align_masks(masks, params))
    rows = tuple(_leaf_summary(names, leaf, masked[names]) for names, leaf in named.items())
    counts = ("size", "zeros", "dense_bytes", "bitmask_bytes", "csr_bytes")
    total = LeafSummary("total", (), **{count: sum(getattr(row, count) for row in rows) for count in counts})
    return Summary(rows, total)


def _leaf_summary(names: Names, leaf, mask) -> LeafSummary:
    leaf = np.asarray(leaf)
    kept = int(np.count_nonzero(leaf if mask is None else np.asarray(mask)))
    dense = leaf.size * leaf.itemsize
    bitmask = csr = dense
    if kept < leaf.size:
        rows = leaf.size // (leaf.shape[-1] if leaf.shape else 1)
        bitmask = -(-leaf.size // BITS_PER_BYTE) + kept * leaf.itemsize
        csr = kept * (leaf.itemsize + INDEX_BYTES) + (rows + 1) * INDEX_BYTES
    return LeafSummary(show(names), leaf.shape, leaf.size, leaf.size - kept, dense, bitmask, csr)


def _cells(row: LeafSummary) -> tuple[str, ...]:
    sizes = (row.dense_bytes, row.bitmask_bytes, row.csr_bytes)
    shape = str(row.shape) if row.shape else ""
    return (row.name, shape, f"{row.size:,}", f"{row.zeros:,}", f"{row.sparsity:.1%}", *map(_readable, sizes))


def _readable(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
