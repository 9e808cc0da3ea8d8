"""How far a run is from the published protocol, so that no page hides what it left out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from jaxprune import names
from jaxprune.report import aggregates, formatting

# Mitra, Schwalbe, Klein 2024 (arXiv 2405.20876), section on the experimental set-up.
DATASETS = ("cifar10", "cifar100")
PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 160, 40
SEEDS, TEST_IMAGES = 3, 10_000
CORRUPTIONS, SEVERITIES = set(names.COMMON_CORRUPTIONS), set(names.SEVERITIES)
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_DECIMALS = 6

NOT_RECORDED = "not recorded"


class ProtocolItem(NamedTuple):
    """One line of the comparison; `is_met` is None where the run did not record it."""

    name: str
    protocol: str
    here: str
    is_met: bool | None


def protocol_items(rows: pd.DataFrame, study: Mapping[str, Any]) -> list[ProtocolItem]:
    """Returns the protocol and the run side by side, for the rows of one arm."""
    dataset, corrupted = rows["dataset"].iloc[0], rows[rows["corruption"] != names.CLEAN]
    severities = set(corrupted["severity"])
    return [
        ProtocolItem("Data set", "CIFAR-10 or CIFAR-100", dataset, dataset in DATASETS),
        _training(rows, study),
        _fine_tuning(rows),
        _count("Seeds", SEEDS, aggregates.seeds_per_variant(rows)),
        _count("Test images", TEST_IMAGES, rows["n"]),
        _corruptions(set(corrupted["corruption"])),
        ProtocolItem("Severities", f"{len(SEVERITIES)}", f"{len(severities)}", severities >= SEVERITIES),
        _sparsities(rows[rows["sparsity"] > 0]),
    ]


def _count(name: str, protocol: int, here: pd.Series) -> ProtocolItem:
    return ProtocolItem(name, f"{protocol:,}", formatting.value_range(here), bool(here.min() >= protocol))


def _corruptions(here: set[str]) -> ProtocolItem:
    strange = len(here - CORRUPTIONS)
    note = f" ({strange} of them not in the protocol)" if strange else ""
    return ProtocolItem("Corruptions", f"{len(CORRUPTIONS)}", f"{len(here)}{note}", here == CORRUPTIONS)


def _sparsities(pruned: pd.DataFrame) -> ProtocolItem:
    low, high, step = (formatting.sparsity(each) for each in (SPARSITIES[0], SPARSITIES[-1], SPARSITIES[0]))
    # A sparsity may have been computed: 0.1 + 0.2 is 0.3 too.
    by_method = [set(each.round(_DECIMALS)) for _, each in pruned.groupby("method")["sparsity"]]
    listed = ", ".join(map(formatting.sparsity, sorted(set().union(*by_method)))) or "none"
    note = "" if all(each == by_method[0] for each in by_method) else " (not of every method)"
    is_met = bool(by_method) and all(set(SPARSITIES) <= each for each in by_method)
    return ProtocolItem("Sparsities", f"{low} to {high} in steps of {step}", f"{listed}{note}", is_met)


def _training(rows: pd.DataFrame, study: Mapping[str, Any]) -> ProtocolItem:
    item = _epochs("Epochs of training", PRETRAIN_EPOCHS, rows, "pretrain_epochs")
    imported = study.get("checkpoint_sha256")
    # The record names the arms; a folder of one arm may hold the bare hash.
    is_imported = rows["arm"].iloc[0] in imported if isinstance(imported, Mapping) else bool(imported)
    if is_imported and item.here == "0":
        return item._replace(here="none here: an imported checkpoint", is_met=None)
    return item


def _fine_tuning(rows: pd.DataFrame) -> ProtocolItem:
    # Stages are made of steps: a fine-tuned network that was quantized afterwards is fine-tuned too.
    after = {names.STAGE_FINE_TUNED, names.STAGE_TEMPERATURE}
    fine_tuned = rows[rows["stage"].map(lambda stage: not after.isdisjoint(names.stage_steps(stage)))]
    if fine_tuned.empty:
        here = "none: no fine-tuned network was measured"
        return ProtocolItem("Epochs of fine-tuning", f"{FINETUNE_EPOCHS}", here, False)
    return _epochs("Epochs of fine-tuning", FINETUNE_EPOCHS, fine_tuned, "finetune_epochs")


def _epochs(name: str, protocol: int, rows: pd.DataFrame, column: str) -> ProtocolItem:
    """Returns the epochs that the rows state, which are those of their own arm; older rows may not state them."""
    known = rows[column].dropna().astype(int) if column in rows else pd.Series(dtype=int)
    if known.empty:
        return ProtocolItem(name, f"{protocol}", NOT_RECORDED, None)
    here = formatting.value_range(known)
    if len(known) < len(rows):
        missing = formatting.counted(len(rows) - len(known), "row")
        return ProtocolItem(name, f"{protocol}", f"{here} ({NOT_RECORDED} in {missing})", None)
    return ProtocolItem(name, f"{protocol}", here, bool((known == protocol).all()))
