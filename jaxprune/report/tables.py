"""The sortable tables of the page, which are written as LaTeX and Markdown too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxprune import names
from jaxprune.report import aggregates, bootstrap, formatting
from jaxprune.report.bootstrap import IntervalEstimate
from jaxprune.report.formatting import PERCENT, POINTS
from jaxprune.report.measurements import ArmResults, Exemplars, Variant, quantities
from jaxprune.report.verdicts import Verdict

# What the tables by severity show: the measure, its name, and what its caption adds.
SEVERITY_TABLES = (
    ("accuracy", "accuracy", ""),
    ("ece_equal_width_10", "calibration error (ECE)", "10 equal-width bins."),
)
# What the tables of networks show of each, beside its name and size: clean, then corrupted.
CLEAN_MEASURES = ("clean_accuracy", "clean_ece_equal_width_10", "clean_ece_equal_mass_10")
CORRUPTED_MEASURES = ("corrupted_accuracy", "corrupted_ece_equal_width_10")
# An unknown value sorts below every measured one.
BELOW_ALL = -1.0
MEGA = 1e6
# A table of the page shows at most so many comparisons of a verdict; verdicts.csv has all.
MAX_COMPARISONS = 20


class Cell(NamedTuple):
    """What is read, and the value that a click on the column sorts by."""

    text: str
    order: float | str


class Column(NamedTuple):
    """A heading, and whether its cells are numbers."""

    label: str
    is_number: bool = True


class Table(NamedTuple):
    """A captioned table whose columns can be sorted."""

    title: str
    caption: str
    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]


def networks(rows: pd.DataFrame) -> Table:
    """Returns the table of all networks of an arm."""
    table = aggregates.summary(rows)
    has_interval = table["clean_accuracy_low"].notna().any()
    has_corrupted = (rows["corruption"] != names.CLEAN).any()
    columns = [
        *_columns("Method", "Stage", numbers=("Sparsity, %", "Achieved, %", "Non-zero parameters")),
        *_columns(numbers=("Multiply-accumulates, M", "Seeds", "Clean accuracy, %")),
        *_columns(numbers=("95 % interval",) if has_interval else ()),
        *_columns(numbers=("Clean ECE, equal-width, %", "Clean ECE, equal-mass, %")),
        *_columns(numbers=("Corrupted accuracy, %", "Corrupted ECE, %") if has_corrupted else ()),
    ]
    lines = []
    for _, network in table.iterrows():
        low, high = network["clean_accuracy_low"], network["clean_accuracy_high"]
        interval = f"{formatting.number(low)} to {formatting.number(high)}" if pd.notna(low) else formatting.UNKNOWN
        accuracy, *errors = (_mean(network, measure) for measure in CLEAN_MEASURES)
        lines.append(
            [
                *_titles(network),
                _sparsity(network["sparsity"]),
                _number(network["sparsity_achieved"], ".2f", unit=0.01),
                *_size(network),
                accuracy,
                *([Cell(interval, _known(low))] if has_interval else []),
                *errors,
                *(_mean(network, measure) for measure in (CORRUPTED_MEASURES if has_corrupted else ())),
            ]
        )
    caption = formatting.paragraph(
        "Sparsity is the fraction of prunable weights, or of the channels of the layers that a method prunes, removed. "
        "Non-zero parameters count the whole network; multiply-accumulates are those of its convolutions and matrix "
        "products for one image, and a masked weight still costs them.",
        "The interval is Wilson's over the test images." if has_interval else "",
        formatting.deviations(aggregates.seeds_per_variant(rows).max()),
        "Corrupted values are means over all corruptions and severities, ECE with 10 equal-width bins."
        if has_corrupted
        else "",
        formatting.measured_on(rows),
    )
    return Table("All networks", caption, columns, lines)


def severities(rows: pd.DataFrame) -> list[Table]:
    """Returns accuracy and calibration error of all networks by severity; nothing where only clean images were."""
    table, out = aggregates.by_severity(rows), []
    if not (table["severity"] > 0).any():
        return out
    levels = sorted(table["severity"].unique())
    headings = [f"Severity {level}" if level else "Clean" for level in levels]
    columns = _columns("Method", "Stage", numbers=("Sparsity, %", *headings))
    for measure, noun, note in SEVERITY_TABLES:
        lines = []
        for _, network in table.groupby(aggregates.VARIANT, sort=False):
            by_level, first = network.set_index("severity").reindex(levels), network.iloc[0]
            values = (_mean(line, measure) for _, line in by_level.iterrows())
            lines.append([*_titles(first), _sparsity(first["sparsity"]), *values])
        what = f"Mean {noun} in % over the corruptions at each severity."
        caption = formatting.paragraph(what, note, formatting.measured_on(rows))
        out.append(Table(f"Corrupted {noun} by severity", caption, columns, lines))
    return out


def arms(results: Mapping[str, ArmResults]) -> Table:
    """Returns dense and pruned networks of several arms, by their labels, after their main stage; no controls."""
    columns = [
        *_columns("Arm", "Method", numbers=("Sparsity, %", "Non-zero parameters", "Multiply-accumulates, M", "Seeds")),
        *_columns(numbers=("Clean accuracy, %", "Clean ECE, %", "Corrupted accuracy, %", "Corrupted ECE, %")),
    ]
    lines = []
    for label, arm in results.items():
        table = aggregates.summary(arm.rows)
        left_out = [names.DENSE, *aggregates.CONTROLS]
        pruned = table[(table["stage"] == arm.stage) & ~table["method"].isin(left_out)]
        for _, network in pd.concat([aggregates.baseline(table, arm.stage), pruned]).iterrows():
            values = (_mean(network, measure) for measure in (*CLEAN_MEASURES[:2], *CORRUPTED_MEASURES))
            lines.append([_text(label), _titles(network)[0], _sparsity(network["sparsity"]), *_size(network), *values])
    stages = dict.fromkeys(formatting.stage(arm.stage) for arm in results.values())
    caption = formatting.paragraph(
        f"Networks {' or '.join(stages)}; random controls are in the sections of the arms.",
        formatting.deviations(max(aggregates.seeds_per_variant(arm.rows).max() for arm in results.values())),
        "Corrupted values are means over all corruptions and severities; ECE with 10 equal-width bins.",
        formatting.measured_on(pd.concat([arm.rows for arm in results.values()])),
    )
    return Table("All arms", caption, columns, lines)


def comparisons(verdict: Verdict) -> Table:
    """Returns the comparisons that a verdict was made from."""
    shown, total = verdict.comparisons[:MAX_COMPARISONS], len(verdict.comparisons)
    columns = [
        *(Column("Comparison", False), Column("Quantity", False), Column("Value and 95 % interval")),
        *(Column("Claim", False), Column("p (Holm)"), Column("Result", False)),
    ]
    lines = [
        [
            _text(each.label),
            _text(each.quantity),
            Cell(formatting.interval(each.estimate, each.unit, unknown="no interval"), each.estimate.value),
            Cell(each.threshold, each.null),
            Cell(formatting.p_value(each.p_value), each.p_value if np.isfinite(each.p_value) else 2.0),
            _text(each.state),
        ]
        for each in shown
    ]
    caption = formatting.paragraph(
        "p-values are Holm's for all comparisons of the verdict, and decide; the intervals are not corrected.",
        f"The first {len(shown)} of {total}; verdicts.csv has all." if len(shown) < total else "",
    )
    return Table("Comparisons", caption, columns, lines)


def exemplars(found: Sequence[Exemplars], rows: pd.DataFrame) -> Table:
    """Returns how many images dense and pruned networks part on, and how hard they are."""
    numbers = ("Sparsity, %", "Exemplars", "Of the images, %")
    accuracies = ("Dense accuracy on them, %", "Dense accuracy elsewhere, %")
    lines = [
        [
            _text(formatting.method(each.variant.method)),
            _sparsity(each.variant.sparsity),
            Cell(f"{len(each.index):,}", len(each.index)),
            *(
                Cell(formatting.number(value), _known(value))
                for value in (len(each.index) / each.num_images, each.dense_accuracy, each.other_accuracy)
            ),
            Cell(f"{each.num_seeds}", each.num_seeds),
        ]
        for each in found
    ]
    caption = formatting.paragraph(
        "Clean images whose most frequent prediction over the seeds differs between dense and pruned networks (Hooker "
        "et al. 2019). Networks of other seeds part on some images too, pruned or not: not all is pruning's doing.",
        "One seed: every image whose prediction flips." if found[0].num_seeds == 1 else "",
        formatting.measured_on(rows),
        "The numbers are counts of these images, without an interval.",
    )
    columns = _columns("Method", numbers=(*numbers, *accuracies, "Seeds"))
    return Table("Images that pruning decides otherwise", caption, columns, lines)


def configurations(studies: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns every field of the configurations, by the name of the run, that is not the same in all runs."""
    fields_of = {name: dict(_fields(study.get("config") or {})) for name, study in studies.items()}
    lines = []
    for field in sorted({field for each in fields_of.values() for field in each}):
        values = [str(each.get(field, formatting.UNKNOWN)) for each in fields_of.values()]
        if len(set(values)) > 1:
            lines.append([_text(field), *map(_text, values)])
    not_recorded = ", ".join(name for name, each in fields_of.items() if not each)
    caption = formatting.paragraph(
        f"{formatting.counted(len(lines), 'field')} of the configurations differ; what is not listed is the same.",
        f"Not recorded: {not_recorded}." if not_recorded else "",
    )
    return Table("What the runs did differently", caption, _columns("Field", *studies), lines)


def side_by_side(runs: Mapping[str, ArmResults]) -> Table:
    """Returns what several runs, by name, measured of one arm: each run's values, and the last minus the first."""
    run_names, results = list(runs), list(runs.values())
    common = [each for each in results[0].test_sets if all(each in arm.test_sets for arm in results)]
    shared = [variant for variant in _variants(results[0]) if all(variant in _variants(arm) for arm in results[1:])]
    lines = []
    for variant in shared:
        title = [_text(formatting.method(variant.method)), _text(formatting.stage(variant.stage))]
        for quantity, (test_sets, measure) in quantities(common).items():
            levels = [arm.level(variant, test_sets, measure) for arm in results]
            if np.isfinite([each.value for each in levels]).all():
                change = bootstrap.independent_difference(levels[-1], levels[0])
                values = [*(_interval(each, PERCENT) for each in levels), _interval(change, POINTS)]
                lines.append([*title, _sparsity(variant.sparsity), _text(quantity), *values])
    sizes = ", ".join(
        f"{name} n = {formatting.value_range(arm.rows['n'])}, {formatting.counted(len(arm.seeds), 'seed')}"
        for name, arm in runs.items()
    )
    num_corrupted = sum(severity > 0 for _, severity in common)
    caption = formatting.paragraph(
        f"Networks that all the runs have, on the {formatting.counted(len(common), 'test set')} that all have "
        f"({formatting.counted(num_corrupted, 'corrupted one')}); {sizes}.",
        "In brackets 95 % intervals; those of the difference take the runs as independent, which is wider than the "
        "truth where they share images. ECE with 10 equal-width bins.",
    )
    columns = [
        *(Column("Method", False), Column("Stage", False), Column("Sparsity, %"), Column("Quantity", False)),
        *_columns(numbers=(*(f"{name}, %" for name in run_names), f"{run_names[-1]} minus {run_names[0]}, points")),
    ]
    return Table(f"Side by side: {results[0].dataset} / {results[0].name}", caption, columns, lines)


def markdown(table: Table) -> str:
    """Returns a table as Markdown."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = line("---:" if column.is_number else "---" for column in table.columns)
    body = [line(cell.text for cell in cells) for cells in table.lines]
    head = line(column.label for column in table.columns)
    return "\n".join([f"## {table.title}", "", head, rule, *body, "", table.caption, ""])


def latex(table: Table) -> str:
    """Returns a table as a LaTeX `table` that needs the package booktabs."""

    def line(cells: Iterable[str]) -> str:
        return f"    {' & '.join(map(formatting.latex, cells))} \\\\"

    alignment = "".join("r" if column.is_number else "l" for column in table.columns)
    head = line(column.label for column in table.columns)
    body = [line(cell.text for cell in cells) for cells in table.lines]
    caption = formatting.latex(f"{table.title}. {table.caption}")
    return "\n".join(
        [
            *(r"\begin{table}", r"  \centering", rf"  \caption{{{caption}}}", rf"  \begin{{tabular}}{{{alignment}}}"),
            *(
                r"    \toprule",
                head,
                r"    \midrule",
                *body,
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ),
        ]
    )


def _columns(*texts: str, numbers: Iterable[str] = ()) -> list[Column]:
    return [*(Column(text, False) for text in texts), *map(Column, numbers)]


def _text(text: str) -> Cell:
    return Cell(text, text)


def _number(value: float, digits: str, *, unit: float = 1.0) -> Cell:
    """Returns a number in units, and a dash for what is not known."""
    return Cell(f"{value / unit:{digits}}" if pd.notna(value) else formatting.UNKNOWN, _known(value))


def _titles(network: pd.Series) -> list[Cell]:
    return [_text(formatting.method(network["method"])), _text(formatting.stage(network["stage"]))]


def _sparsity(value: float) -> Cell:
    return Cell(f"{100 * value:.4g}", value)


def _size(network: pd.Series) -> list[Cell]:
    return [
        _number(network["num_nonzero"], ",.0f"),
        _number(network["multiply_accumulates"], ",.2f", unit=MEGA),
        Cell(f"{network['clean_seeds']}", network["clean_seeds"]),
    ]


def _known(value: float) -> float:
    return value if np.isfinite(value) else BELOW_ALL


def _mean(line: pd.Series, measure: str) -> Cell:
    mean, sd = line[f"{measure}_mean"], line[f"{measure}_sd"]
    return Cell(formatting.mean_and_deviation(mean, sd), _known(mean))


def _interval(estimate: IntervalEstimate, unit: str) -> Cell:
    return Cell(formatting.interval(estimate, unit, has_unit=False), _known(estimate.value))


def _variants(arm: ArmResults) -> list[Variant]:
    rows = arm.rows[[*Variant._fields]].drop_duplicates()
    return [Variant(*each) for each in rows.itertuples(index=False)]


def _fields(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every field of a configuration by its path; what has a name in a list is found by that."""
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
            value = {each["name"]: each for each in value}
        if isinstance(value, Mapping) and value:
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
