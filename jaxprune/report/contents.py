"""From the rows of one or several runs to all that a report shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from etils import epath

from jaxprune.report import figures, findings, page_tables, side_by_side, tables, trade_off, words
from jaxprune.report.evidence import Evidence
from jaxprune.report.page import Section, Shared
from jaxprune.report.rows import Row

Run = tuple[epath.Path, Sequence[Row], Mapping[str, Any]]


class Contents(NamedTuple):
    """The name of a report, its tables of data by file name, and what its page shows."""

    name: str
    data: dict[str, pd.DataFrame]
    sections: list[Section]
    shared: Shared


def gather(runs: Sequence[Run]) -> Contents:
    """Returns the contents of a report; with several runs, what tells them apart is in every name."""
    names = _run_names([folder for folder, _, _ in runs])
    results, sections = [], []
    for run, (folder, records, study) in zip(names, runs, strict=True):
        table = tables.results(records)
        results.append(table)
        families = list(tables.families(table))
        in_full = len({family["dataset"].iloc[0] for family in families}) > 1 or len(families) == 1
        for family in families:
            name = family["arm"].iloc[0]
            label = f"{family['dataset'].iloc[0]}, {words.arm(family)}" if in_full else name
            sections.append(_section(folder, study, family, run, label))
    labels = [section.label for section in sections]
    several = len(runs) > 1
    if several:
        results = [table.assign(run=run)[["run", *table]] for run, table in zip(names, results, strict=True)]
    data = {
        "results": pd.concat(results, ignore_index=True),
        "summary": pd.concat(
            [tables.summary(table) if not several else _with_run(table) for table in results], ignore_index=True
        ),
        "verdicts": _verdicts(sections),
    }
    shared = Shared([], [])
    if len(sections) > 1:
        parts = [(section.rows, section.evidence) for section in sections]
        plots = [trade_off.of_arms(parts, "all-trade-off", labels)]
        shared = Shared(plots, [page_tables.arms([(each.label, each.rows) for each in sections])])
    if several:
        by_run = [
            (run, section.rows, section.evidence)
            for run, (folder, _, _) in zip(names, runs, strict=True)
            for section in sections
            if section.evidence.run_dir == folder
        ]
        studies = {run: study for run, (_, _, study) in zip(names, runs, strict=True)}
        shared = Shared(shared.plots, [side_by_side.configs(studies), *side_by_side.networks(by_run), *shared.tables])
    name = " and ".join(names) if several else str(runs[0][2].get("study") or results[0]["study"].iloc[0])
    return Contents(name, data, sections, shared)


def _section(folder: epath.Path, study: Mapping[str, Any], family: pd.DataFrame, run: str, label: str) -> Section:
    evidence = Evidence(family, folder)
    prefix = "-".join(words.file_stem(name) for name in (run, *(family[key].iloc[0] for key in tables.FAMILY)) if name)
    return Section(
        label=f"{run}: {label}" if run else label,
        prefix=prefix,
        study=study,
        rows=family,
        evidence=evidence,
        verdicts=findings.verdicts(evidence),
        plots=figures.plots(family, evidence, prefix),
    )


def _run_names(folders: Sequence[epath.Path]) -> list[str]:
    """Returns the shortest ends of the paths that tell the runs apart; one run needs no name."""
    if len(folders) == 1:
        return [""]
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _with_run(table: pd.DataFrame) -> pd.DataFrame:
    summary = tables.summary(table)
    return summary.assign(run=table["run"].iloc[0])[["run", *summary]]


def _verdicts(sections: Sequence[Section]) -> pd.DataFrame:
    columns = [
        *("arm", "finding", "subject", "outcome", "comparison", "quantity", "value", "low", "high"),
        *("claim", "threshold", "p_holm", "seeds", "result"),
    ]
    return pd.DataFrame(list(_comparisons(sections)), columns=columns)


def _comparisons(sections: Sequence[Section]) -> Iterator[tuple]:
    for section in sections:
        for verdict in section.verdicts:
            for each in verdict.comparisons:
                value, low, high, *_ = each.estimate
                answer = (section.label, verdict.question.finding, verdict.subject, verdict.outcome)
                numbers = (value, low, high, each.claim, each.null, each.p_value, each.estimate.num_seeds, each.state)
                yield (*answer, each.label.replace(words.UNIT_SPACE, " "), each.quantity, *numbers)
