"""How far a run is from the published protocol, so that no page hides what it left out."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from jaxprune.report import tables, words

# Mitra, Schwalbe, Klein 2024 (arXiv 2405.20876), section on the experimental set-up.
DATASETS = ("cifar10", "cifar100")
PRETRAIN_EPOCHS, FINE_TUNE_EPOCHS = 160, 40
SEEDS, TEST_IMAGES, SEVERITIES = 3, 10_000, 5
CORRUPTIONS = {
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

UNRECORDED = "not recorded in study.json"


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
        _epochs("Epochs of training", PRETRAIN_EPOCHS, study, fine_tuning=False),
        _epochs("Epochs of fine-tuning", FINE_TUNE_EPOCHS, study, fine_tuning=True),
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


def _epochs(name: str, protocol: int, study: Mapping[str, Any], *, fine_tuning: bool) -> Item:
    config = study.get("config")
    found = {
        path: value
        for path, value in _leaves(config if isinstance(config, Mapping) else {})
        if path.lower().endswith("epochs") and _is_fine_tuning(path) == fine_tuning
    }
    if not found:
        return Item(name, f"{protocol}", UNRECORDED, None)
    if not fine_tuning and study.get("checkpoint_sha256") and not any(found.values()):
        return Item(name, f"{protocol}", "none here: an imported checkpoint", None)
    several = len(found) > 1
    here = ", ".join(f"{value} ({path})" if several else f"{value}" for path, value in found.items())
    return Item(name, f"{protocol}", here, all(value == protocol for value in found.values()))


def _is_fine_tuning(path: str) -> bool:
    return "finetun" in path.lower().replace("_", "").replace("-", "")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
