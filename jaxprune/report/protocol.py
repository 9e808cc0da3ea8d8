"""How far a run is from the published protocol, so that no page hides what it left out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from jaxprune import names
from jaxprune.report import tables, words

# Mitra, Schwalbe, Klein 2024 (arXiv 2405.20876), section on the experimental set-up.
DATASETS = ("cifar10", "cifar100")
PRETRAIN_EPOCHS, FINE_TUNE_EPOCHS = 160, 40
SEEDS, TEST_IMAGES, SEVERITIES = 3, 10_000, 5
CORRUPTIONS = set(names.COMMON_CORRUPTIONS)
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

NOT_RECORDED = "not recorded"


class Item(NamedTuple):
    """One line of the comparison; `same` is None where the run did not record it."""

    name: str
    protocol: str
    here: str
    same: bool | None


def compare(family: pd.DataFrame, study: Mapping[str, Any]) -> list[Item]:
    """Returns the protocol and the run side by side, for one data set and architecture."""
    dataset = family["dataset"].iloc[0]
    pruned = family.loc[family["method"] != tables.DENSE, "sparsity"]
    sparsities = sorted(pruned.unique())
    corrupted = family[family["corruption"] != tables.CLEAN]
    return [
        Item("Data set", "CIFAR-10 or CIFAR-100", dataset, dataset in DATASETS),
        _training(family, study),
        _fine_tuning(family),
        _count("Seeds", SEEDS, words.seeds_per_network(family)),
        _count("Test images", TEST_IMAGES, family["n"]),
        _corruptions(set(corrupted["corruption"])),
        _count("Severities", SEVERITIES, pd.Series([corrupted["severity"].nunique()])),
        Item(
            "Sparsities",
            f"{words.sparsity(SPARSITIES[0])} to {words.sparsity(SPARSITIES[-1])} in steps of {words.sparsity(0.1)}",
            ", ".join(map(words.sparsity, sparsities)) or "none",
            set(SPARSITIES) <= set(sparsities),
        ),
    ]


def _count(name: str, protocol: int, here: pd.Series) -> Item:
    return Item(name, f"{protocol:,}", words.span(here), bool(here.min() >= protocol))


def _corruptions(here: set[str]) -> Item:
    strange = len(here - CORRUPTIONS)
    note = f" ({strange} of them not in the protocol)" if strange else ""
    return Item("Corruptions", f"{len(CORRUPTIONS)}", f"{len(here)}{note}", here == CORRUPTIONS)


def _training(family: pd.DataFrame, study: Mapping[str, Any]) -> Item:
    item = _epochs("Epochs of training", PRETRAIN_EPOCHS, family, "pretrain_epochs")
    imported = study.get("checkpoint_sha256")
    # The record names the arms; a folder of one arm may hold the bare hash.
    is_imported = family["arm"].iloc[0] in imported if isinstance(imported, Mapping) else bool(imported)
    return (
        item._replace(here="none here: an imported checkpoint", same=None) if is_imported and item.here == "0" else item
    )


def _fine_tuning(family: pd.DataFrame) -> Item:
    fine_tuned = family[family["stage"].isin([tables.FINE_TUNED, tables.TEMPERATURE])]
    if fine_tuned.empty:
        return Item("Epochs of fine-tuning", f"{FINE_TUNE_EPOCHS}", "none: no fine-tuned network was measured", False)
    return _epochs("Epochs of fine-tuning", FINE_TUNE_EPOCHS, fine_tuned, "finetune_epochs")


def _epochs(name: str, protocol: int, rows: pd.DataFrame, column: str) -> Item:
    """Returns the epochs that the rows state, which are those of their own arm; older rows may not state them."""
    known = rows[column].dropna().astype(int) if column in rows else pd.Series(dtype=int)
    if known.empty:
        return Item(name, f"{protocol}", NOT_RECORDED, None)
    if len(known) < len(rows):
        missing = words.counted(len(rows) - len(known), "row")
        return Item(name, f"{protocol}", f"{words.span(known)} (not recorded in {missing})", None)
    return Item(name, f"{protocol}", words.span(known), bool((known == protocol).all()))
