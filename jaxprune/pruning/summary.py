"""What is left of a network: sparsities, overlaps of masks, and bytes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxprune.pruning._annotations import HasParams, Masks, Params
from jaxprune.pruning._selection import MAX_SIZE
from jaxprune.pruning._trees import Names, align_masks, check_mask, flatten_named, named_masks, show
from jaxprune.pruning.operations import UNNAMED, multiply_accumulates

Total = Float[Array, ""]

BITS_PER_BYTE = 8
INDEX_BYTES = 4  # CSR indices and row pointers are int32


def summarize_sparsity(param_tree: Params, only_total_sparsity: bool = False) -> dict[str, Total | None]:
    """Returns {"path/of/parameter": fraction of zeros, ...} with the totals, as float32 scalars.

    The totals are `_total_sparsity`, `_nparams_nnz` (the weights that are not 0) and `_nparams`; alone when
    `only_total_sparsity`. A None in the tree, such as a mask that is not there, is None in the summary and no part of
    the totals. Works under jit.

    >>> {name: value.item() for name, value in summarize_sparsity({"w": jnp.array([1.0, 0.0])}).items()}
    {'w': 0.5, '_total_sparsity': 0.5, '_nparams_nnz': 1.0, '_nparams': 2.0}
    """
    leaves = {show(names): leaf for names, leaf in flatten_named(param_tree)}
    sizes = {name: jnp.size(leaf) for name, leaf in leaves.items()}
    non_zeros = {name: jnp.count_nonzero(leaf) for name, leaf in leaves.items()}
    summary = {}
    if not only_total_sparsity:
        summary = {show(names): None for names, leaf in named_masks(param_tree).items() if leaf is None}
        summary |= {name: _sparsity(non_zeros[name], size) for name, size in sizes.items()}
    size = sum(sizes.values())
    # Integers add exactly as long as they hold the total.
    count = sum(non_zeros.values()) if size <= MAX_SIZE else sum(map(jnp.float32, non_zeros.values()))
    summary["_total_sparsity"] = _sparsity(count, size)
    summary["_nparams_nnz"] = jnp.float32(count)
    summary["_nparams"] = jnp.float32(size)
    return summary


def _sparsity(non_zeros: ArrayLike, size: int) -> Total:
    return jnp.float32(size - non_zeros) / jnp.float32(size)


def summarize_intersection(
    mask_tree1: Masks, mask_tree2: Masks, only_total_intersection: bool = False
) -> dict[str, Total | None]:
    """Returns how much of the first masks' kept weights the second keep too, {"path": fraction, ...}.

    The total is `_total_intersection`, alone when `only_total_intersection`. It is not symmetric; `mask_overlap` is.
    A parameter without a first mask is None and no part of the total; one without a second mask shares nothing.

    >>> masks = {"w": jnp.array([1, 1, 0, 1])}, {"w": jnp.array([1, 0, 1, 0])}
    >>> round(summarize_intersection(*masks)["w"].item(), 4)
    0.3333
    """
    shared, kept = {}, {}
    for names, (one, other) in _matched(mask_tree1, mask_tree2).items():
        name = show(names)
        shared[name] = kept[name] = None
        if one is not None:
            shared[name] = jnp.int32(0) if other is None else jnp.sum((one == 1) & (other == 1), dtype=jnp.int32)
            kept[name] = jnp.sum(one == 1, dtype=jnp.int32)
    return _relative(shared, kept, only_total_intersection, "_total_intersection")


def mask_overlap(mask_tree1: Masks, mask_tree2: Masks, *, only_total: bool = False) -> dict[str, Total | None]:
    """Returns the Jaccard index of what two trees of masks keep, {"path": in [0, 1], ...} and `_total_overlap`.

    A parameter without a mask in either tree is None and no part of the total.

    >>> masks = {"w": jnp.array([1, 1, 0, 1])}, {"w": jnp.array([1, 0, 1, 0])}
    >>> mask_overlap(*masks)["w"].item()
    0.25
    """
    shared, either = {}, {}
    for names, (one, other) in _matched(mask_tree1, mask_tree2).items():
        name = show(names)
        shared[name] = either[name] = None
        if one is not None and other is not None:
            shared[name] = jnp.sum((one == 1) & (other == 1), dtype=jnp.int32)
            either[name] = jnp.sum((one == 1) | (other == 1), dtype=jnp.int32)
    return _relative(shared, either, only_total, "_total_overlap")


def intersect_masks(mask_tree1: Masks, mask_tree2: Masks) -> Masks:
    """Returns the masks that keep what both keep; a None mask keeps everything."""
    named = _matched(mask_tree1, mask_tree2)

    def both(one: Any, other: Any) -> Any:
        if one is None or other is None:
            return other if one is None else one
        return one * other

    kept = [both(one, other) for one, other in named.values()]
    structure = jax.tree.structure(mask_tree1, is_leaf=lambda node: node is None)
    return jax.tree.unflatten(structure, kept)


def _matched(mask_tree1: Masks, mask_tree2: Masks) -> dict[Names, tuple[Any, Any]]:
    first, second = named_masks(mask_tree1), named_masks(mask_tree2)
    different = sorted(first.keys() ^ second.keys())
    if different:
        raise ValueError(
            f"the masks are of different parameters: only one tree has {show(different[0])}; compare masks of one model"
        )
    for names in first:
        for mask in filter(lambda mask: mask is not None, (first[names], second[names])):
            shape = jnp.shape(mask if first[names] is None else first[names])
            check_mask(mask, shape, f"the mask of {show(names)}")
    return {names: (first[names], second[names]) for names in first}


def _relative(
    parts: Mapping[str, Any], wholes: Mapping[str, Any], only_total: bool, total_name: str
) -> dict[str, Total | None]:
    """Returns parts / wholes by name and of their sums; None stays None and counts nowhere."""
    summary: dict[str, Any] = {}
    if not only_total:
        summary = {name: None if part is None else part / jnp.maximum(wholes[name], 1) for name, part in parts.items()}
    counted = [name for name, part in parts.items() if part is not None]
    total = sum(parts[name] for name in counted) if counted else jnp.int32(0)
    summary[total_name] = total / jnp.maximum(sum(wholes[name] for name in counted), 1)
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
        multiply_accumulates: those per image that use this weight, see `operations.multiply_accumulates`; None where
            the forward pass or the image size is not known.
        multiply_accumulates_nonzero: those of them whose weight is not pruned: what hardware that skips zeros would do.
        masked: number of weights that a mask covers, whether it keeps or removes them.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    dense_bytes: int
    bitmask_bytes: int
    csr_bytes: int
    multiply_accumulates: int | None = None
    multiply_accumulates_nonzero: int | None = None
    masked: int = 0

    @property
    def nonzero(self) -> int:
        """The number of weights that are left."""
        return self.size - self.zeros

    @property
    def sparsity(self) -> float:
        """The fraction of weights that are pruned."""
        return self.zeros / max(self.size, 1)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Per-parameter rows and their total; `str(summary)` is a table, `as_dict()` plain data.

    Attributes:
        rows: one `LeafSummary` per parameter.
        total: all together.
        before: the summary of the network that this one was made from, if `summarize` was given one.
    """

    rows: tuple[LeafSummary, ...]
    total: LeafSummary
    before: "Summary | None" = None

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns {name: {"sparsity": ..., "size": ..., ...}} of plain numbers, the total under "total"."""
        named: dict[str, dict[str, Any]] = {}
        for row in (*self.rows, self.total):
            named[row.name] = dataclasses.asdict(row) | {"shape": list(row.shape), "sparsity": row.sparsity}
        return named

    def reductions(self) -> dict[str, float]:
        """Returns which fraction of its weights, bytes and operations the network before has lost.

        Raises `ValueError` without a network before.
        """
        if self.before is None:
            raise ValueError("nothing to compare with; call summarize(classifier, before=dense)")
        return {
            name: 1 - getattr(self.total, name) / getattr(self.before.total, name)
            for name in _COMPARED
            if getattr(self.total, name) is not None and getattr(self.before.total, name)
        }

    def __str__(self) -> str:
        has_operations = self.total.multiply_accumulates is not None
        header = ("parameter", "shape", "weights", "zeros", "sparsity", "dense", "bitmask", "CSR")
        header += ("MACs", "of non-zeros") if has_operations else ()
        lines = [header, *(_cells(row, has_operations) for row in (*self.rows, self.total))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        formatted = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, formatted))
        table = [formatted[0], rule, *formatted[1:-1], rule, formatted[-1]]
        if has_operations:
            table.append("MACs: multiply-accumulates of convolutions and matrix products for one image.")
        if self.total.masked:
            table.append(f"Masks cover {self.total.masked / self.total.size:.1%} of the weights.")
        if self.before is not None:
            lost = ", ".join(f"{_COMPARED[name]} {-value:+.1%}" for name, value in self.reductions().items())
            table.append(f"Against the network before: {lost}.")
        return "\n".join(table)


_COMPARED = {
    "size": "weights",
    "nonzero": "non-zero weights",
    "dense_bytes": "bytes",
    "multiply_accumulates": "MACs",
    "multiply_accumulates_nonzero": "MACs of non-zero weights",
}


def summarize(
    classifier_or_params: HasParams | Params,
    masks: Masks | None = None,
    *,
    before: HasParams | Params | None = None,
    image_size: int | None = None,
) -> Summary:
    """Returns sparsity, stored bytes and multiply-accumulates, per parameter and in total.

    Args:
      classifier_or_params: a classifier (anything with `params`) or its parameters. Multiply-accumulates need a
        classifier, and the size of its images.
      masks: what they say is pruned; without, what is exactly 0.
      before: the classifier or parameters that this one was made from, whose totals the summary then compares with.
      image_size: pixels per side; by default what the classifier states as `image_size`.

    >>> print(summarize({"conv": {"kernel": np.float32([[1, 0, 0, 2], [0, 0, 0, 3]])}}))
    parameter    shape   weights  zeros  sparsity  dense  bitmask   CSR
    -------------------------------------------------------------------
    conv/kernel  (2, 4)        8      5     62.5%   32 B     13 B  36 B
    -------------------------------------------------------------------
    total                      8      5     62.5%   32 B     13 B  36 B
    """
    params = getattr(classifier_or_params, "params", classifier_or_params)
    operations = _operations(classifier_or_params, image_size)
    named = dict(flatten_named(params))
    masked = named_masks(align_masks(masks, params))
    rows = tuple(_leaf_summary(names, leaf, masked[names], operations) for names, leaf in named.items())
    counts = ["size", "zeros", "dense_bytes", "bitmask_bytes", "csr_bytes", "masked"]
    if operations is not None:
        counts += ["multiply_accumulates", "multiply_accumulates_nonzero"]
    totals = {count: sum(getattr(row, count) for row in rows) for count in counts}
    if operations is not None:
        # What is no parameter's, such as products of two activations, belongs to the whole alone.
        other = operations.get(UNNAMED, 0)
        totals = {name: total + other * name.startswith("multiply") for name, total in totals.items()}
    earlier = None if before is None else summarize(before, image_size=image_size)
    return Summary(rows, LeafSummary("total", (), **totals), earlier)


def _operations(classifier: Any, image_size: int | None) -> dict[str, int] | None:
    image_size = image_size or getattr(classifier, "image_size", None)
    if image_size is None or not hasattr(classifier, "apply"):
        return None
    return multiply_accumulates(classifier, image_size=image_size)


def _leaf_summary(names: Names, leaf: Any, mask: Any, operations: dict[str, int] | None) -> LeafSummary:
    leaf = np.asarray(leaf)
    kept = int(np.count_nonzero(leaf if mask is None else np.asarray(mask)))
    dense = leaf.size * leaf.itemsize
    bitmask = csr = dense
    if kept < leaf.size:
        rows = leaf.size // (leaf.shape[-1] if leaf.shape else 1)
        bitmask = -(-leaf.size // BITS_PER_BYTE) + kept * leaf.itemsize
        csr = kept * (leaf.itemsize + INDEX_BYTES) + (rows + 1) * INDEX_BYTES
    macs = None if operations is None else operations.get(show(names), 0)
    # Every weight of a kernel is used at the same number of positions.
    nonzero = None if macs is None else macs * kept // max(leaf.size, 1)
    masked = 0 if mask is None else leaf.size
    return LeafSummary(show(names), leaf.shape, leaf.size, leaf.size - kept, dense, bitmask, csr, macs, nonzero, masked)


def _cells(row: LeafSummary, has_operations: bool) -> tuple[str, ...]:
    sizes = (row.dense_bytes, row.bitmask_bytes, row.csr_bytes)
    shape = str(row.shape) if row.shape else ""
    cells = (row.name, shape, f"{row.size:,}", f"{row.zeros:,}", f"{row.sparsity:.1%}", *map(_readable, sizes))
    if not has_operations:
        return cells
    return (*cells, f"{row.multiply_accumulates:,}", f"{row.multiply_accumulates_nonzero:,}")


def _readable(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
