"""Several runs in one report: the networks that they share, on the test sets that they share, and how they differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxprune.report import resampling, tables, words
from jaxprune.report.evidence import ACCURACY, CLEAN_SET, ECE, Evidence, Network
from jaxprune.report.page_tables import BELOW_ALL, Cell, Column, Table
from jaxprune.report.resampling import Estimate


def configs(studies: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns every field of the configurations that is not the same in all runs."""
    flat = {name: dict(_leaves(study.get("config") or {})) for name, study in studies.items()}
    fields = sorted({field for each in flat.values() for field in each})
    lines = []
    for field in fields:
        values = [str(each.get(field, words.UNKNOWN)) for each in flat.values()]
        if len(set(values)) > 1:
            lines.append([Cell(field, field), *(Cell(value, value) for value in values)])
    unrecorded = [name for name, each in flat.items() if not each]
    caption = words.caption(
        f"{words.counted(len(lines), 'field')} of the configurations differ; what is not listed is the same.",
        f"Not recorded: {', '.join(unrecorded)}." if unrecorded else "",
    )
    return Table(
        "What the runs did differently", caption, [Column("Field", False), *(Column(n, False) for n in flat)], lines
    )


def networks(parts: Sequence[tuple[str, pd.DataFrame, Evidence]]) -> list[Table]:
    """Returns a table per data set and arm that several runs share: each run's values, and what the last adds."""
    shared = {}
    for run, family, evidence in parts:
        shared.setdefault(tuple(family[key].iloc[0] for key in tables.FAMILY), []).append((run, family, evidence))
    return [_arm(" / ".join(key), found) for key, found in shared.items() if len(found) > 1]


def _arm(name: str, parts: Sequence[tuple[str, pd.DataFrame, Evidence]]) -> Table:
    runs, evidences = [run for run, _, _ in parts], [evidence for _, _, evidence in parts]
    common = [each for each in evidences[0].test_sets if all(each in other.test_sets for other in evidences[1:])]
    corrupted = tuple(each for each in common if each != CLEAN_SET)
    wanted = [("clean accuracy", (CLEAN_SET,), ACCURACY), ("clean ECE", (CLEAN_SET,), ECE)]
    if corrupted:
        wanted += [("corrupted accuracy", corrupted, ACCURACY), ("corrupted ECE", corrupted, ECE)]
    lines = []
    for network in _shared_networks([family for _, family, _ in parts]):
        for quantity, test_sets, measure in wanted:
            levels = [evidence.level(network, test_sets, measure) for evidence in evidences]
            if not all(np.isfinite(each.value) for each in levels):
                continue
            method, stage = words.method(network.method), words.stage(network.stage)
            lines.append(
                [
                    Cell(method, method),
                    Cell(stage, stage),
                    Cell(f"{100 * network.sparsity:.4g}", network.sparsity),
                    Cell(quantity, quantity),
                    *(_level(each) for each in levels),
                    _difference(levels[0], levels[-1]),
                ]
            )
    columns = [
        *(Column("Method", False), Column("Stage", False), Column("Sparsity, %"), Column("Quantity", False)),
        *(Column(f"{run}, %") for run in runs),
        Column(f"{runs[-1]} minus {runs[0]}, points"),
    ]
    sizes = ", ".join(
        f"{run} n = {words.span(family['n'])}, {words.counted(family['seed'].nunique(), 'seed')}"
        for run, family, _ in parts
    )
    caption = words.caption(
        f"Networks that all the runs have, on the {words.counted(len(common), 'test set')} that all have "
        f"({words.counted(len(corrupted), 'corrupted one')}); {sizes}.",
        "In brackets 95 % intervals; those of the difference take the runs as independent, which is wider than the "
        "truth where they share images. ECE with 10 equal-width bins.",
    )
    return Table(f"Side by side: {name}", caption, columns, lines)


def _shared_networks(families: Sequence[pd.DataFrame]) -> list[Network]:
    fields = list(Network._fields)
    found = [
        [Network(*each) for each in family[fields].drop_duplicates().itertuples(index=False)] for family in families
    ]
    return [each for each in found[0] if all(each in other for other in found[1:])]


def _level(estimate: Estimate) -> Cell:
    ends = f" ({words.number(estimate.low)} to {words.number(estimate.high)})" if estimate.has_interval else ""
    return Cell(f"{words.number(estimate.value)}{ends}", estimate.value)


def _difference(first: Estimate, last: Estimate) -> Cell:
    found = resampling.independent_difference(last, first)
    if not found.has_interval:
        return Cell(words.number(found.value, signed=True), found.value if np.isfinite(found.value) else BELOW_ALL)
    ends = f"{words.number(found.low, signed=True)} to {words.number(found.high, signed=True)}"
    return Cell(f"{words.number(found.value, signed=True)} ({ends})", found.value)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
            value = {each["name"]: each for each in value}
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
