"""The sortable tables of the page, which are written as LaTeX and Markdown too."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from jaxprune.report import tables, verdicts, words
from jaxprune.report.damage import Exemplars
from jaxprune.report.verdicts import Verdict

# What the tables by severity show: the measure, its name, and what its caption adds.
SEVERITY_TABLES = (
    ("accuracy", "accuracy", ""),
    ("ece_equal_width_10", "calibration error (ECE)", "10 equal-width bins."),
)
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
    table = tables.summary(rows)
    has_interval = table["clean_accuracy_low"].notna().any()
    has_corrupted = (rows["corruption"] != tables.CLEAN).any()
    columns = [
        *(Column("Method", False), Column("Stage", False), Column("Sparsity, %"), Column("Achieved, %")),
        *(Column("Non-zero parameters"), Column("Multiply-accumulates, M"), Column("Seeds")),
        Column("Clean accuracy, %"),
        *([Column("95 % interval")] if has_interval else []),
        *(Column("Clean ECE, equal-width, %"), Column("Clean ECE, equal-mass, %")),
        *([Column("Corrupted accuracy, %"), Column("Corrupted ECE, %")] if has_corrupted else []),
    ]
    lines = []
    for _, network in table.iterrows():
        low, high = network["clean_accuracy_low"], network["clean_accuracy_high"]
        interval = f"{words.number(low)} to {words.number(high)}" if pd.notna(low) else words.UNKNOWN
        corrupted = ["corrupted_accuracy", "corrupted_ece_equal_width_10"] if has_corrupted else []
        lines.append(
            [
                *_name(network),
                _sparsity(network["sparsity"]),
                Cell(f"{100 * network['sparsity_achieved']:.2f}", network["sparsity_achieved"]),
                *_size(network),
                Cell(f"{network['clean_seeds']}", network["clean_seeds"]),
                _measured(network, "clean_accuracy"),
                *([Cell(interval, low if pd.notna(low) else BELOW_ALL)] if has_interval else []),
                _measured(network, "clean_ece_equal_width_10"),
                _measured(network, "clean_ece_equal_mass_10"),
                *(_measured(network, measure) for measure in corrupted),
            ]
        )
    seeds = words.seeds_per_network(rows)
    caption = words.caption(
        "Sparsity is the fraction of prunable weights, or of the channels of the layers that a method prunes, removed. "
        "Non-zero parameters count the whole network; multiply-accumulates are those of its convolutions and matrix "
        "products for one image, and a masked weight still costs them.",
        "The interval is Wilson's over the test images." if has_interval else "",
        "Values after ± are standard deviations over seeds." if seeds.max() > 1 else "One seed: no deviation is known.",
        "Corrupted values are means over all corruptions and severities, ECE with 10 equal-width bins."
        if has_corrupted
        else "",
        words.evidence(rows),
    )
    return Table("All networks", caption, columns, lines)


def severities(rows: pd.DataFrame) -> list[Table]:
    """Returns accuracy and calibration error of all networks by severity; nothing where only clean images were."""
    severity = tables.by_severity(rows)
    if not (severity["severity"] > 0).any():
        return []
    levels = sorted(severity["severity"].unique())
    headings = ["Clean" if level == 0 else f"Severity {level}" for level in levels]
    columns = [Column("Method", False), Column("Stage", False), Column("Sparsity, %"), *map(Column, headings)]
    out = []
    for measure, noun, note in SEVERITY_TABLES:
        lines = []
        for _, network in severity.groupby(tables.NETWORK, sort=False):
            first = network.iloc[0]
            by_level = network.set_index("severity").reindex(levels)
            name = [*_name(first), _sparsity(first["sparsity"])]
            lines.append([*name, *(_measured(line, measure) for _, line in by_level.iterrows())])
        what = f"Mean {noun} in % over the corruptions at each severity."
        out.append(
            Table(f"Corrupted {noun} by severity", words.caption(what, note, words.evidence(rows)), columns, lines)
        )
    return out


def arms(families: Sequence[tuple[str, pd.DataFrame]]) -> Table:
    """Returns dense and pruned networks of several arms after their main stage, controls left out."""
    columns = [
        *(Column("Arm", False), Column("Method", False), Column("Sparsity, %"), Column("Non-zero parameters")),
        *(Column("Multiply-accumulates, M"), Column("Seeds"), Column("Clean accuracy, %"), Column("Clean ECE, %")),
        *(Column("Corrupted accuracy, %"), Column("Corrupted ECE, %")),
    ]
    measures = ("clean_accuracy", "clean_ece_equal_width_10", "corrupted_accuracy", "corrupted_ece_equal_width_10")
    lines, stages = [], []
    for label, family in families:
        table, stage = tables.summary(family), tables.main_stage(family)
        stages.append(stage)
        pruned = table[(table["stage"] == stage) & ~table["method"].isin([tables.DENSE, *tables.RANDOM.values()])]
        for _, network in pd.concat([tables.baseline(table, stage), pruned]).iterrows():
            lines.append(
                [
                    Cell(label, label),
                    _name(network)[0],
                    _sparsity(network["sparsity"]),
                    *_size(network),
                    Cell(f"{network['clean_seeds']}", network["clean_seeds"]),
                    *(_measured(network, measure) for measure in measures),
                ]
            )
    seeds = [words.seeds_per_network(family).max() for _, family in families]
    caption = words.caption(
        f"Networks {' or '.join(dict.fromkeys(map(words.stage, stages)))}; random controls are in the sections of the "
        "arms.",
        "Values after ± are standard deviations over seeds." if max(seeds) > 1 else "One seed: no deviation is known.",
        "Corrupted values are means over all corruptions and severities; ECE with 10 equal-width bins.",
        words.evidence(pd.concat([family for _, family in families])),
    )
    return Table("All arms", caption, columns, lines)


def comparisons(verdict: Verdict) -> Table:
    """Returns the comparisons that a verdict was made from."""
    shown = verdict.comparisons[:MAX_COMPARISONS]
    columns = [
        *(Column("Comparison", False), Column("Quantity", False), Column("Value and 95 % interval")),
        *(Column("Claim", False), Column("p (Holm)"), Column("Result", False)),
    ]
    lines = [
        [
            Cell(each.label, each.label),
            Cell(each.quantity, each.quantity),
            Cell(verdicts.interval(each).replace("95 % interval ", ""), each.estimate.value),
            Cell(verdicts.threshold(each), each.null),
            Cell(words.p_value(each.p_value), each.p_value if each.p_value == each.p_value else 2.0),
            Cell(each.state, each.state),
        ]
        for each in shown
    ]
    rest = len(verdict.comparisons) - len(shown)
    caption = words.caption(
        "p-values are Holm's for all comparisons of the verdict, and decide; the intervals are not corrected.",
        f"The first {len(shown)} of {len(verdict.comparisons)}; verdicts.csv has all." if rest else "",
    )
    return Table("Comparisons", caption, columns, lines)


def exemplars(found: Sequence[Exemplars], rows: pd.DataFrame) -> Table:
    """Returns how many images dense and pruned networks part on, and how hard they are."""
    columns = [
        *(Column("Method", False), Column("Sparsity, %"), Column("Exemplars"), Column("Of the images, %")),
        *(Column("Dense accuracy on them, %"), Column("Dense accuracy elsewhere, %"), Column("Seeds")),
    ]
    lines = []
    for each in found:
        name, share = words.method(each.network.method), len(each.index) / each.num_images
        lines.append(
            [
                Cell(name, name),
                _sparsity(each.network.sparsity),
                Cell(f"{len(each.index):,}", len(each.index)),
                Cell(words.number(share), share),
                Cell(words.number(each.dense_accuracy), _known(each.dense_accuracy)),
                Cell(words.number(each.other_accuracy), _known(each.other_accuracy)),
                Cell(f"{each.num_seeds}", each.num_seeds),
            ]
        )
    caption = words.caption(
        "Clean images whose most frequent prediction over the seeds differs between dense and pruned networks (Hooker "
        "et al. 2019). Networks of other seeds part on some images too, pruned or not: not all is pruning's doing.",
        "One seed: every image whose prediction flips." if found[0].num_seeds == 1 else "",
        words.evidence(rows),
        "The numbers are counts of these images, without an interval.",
    )
    return Table("Images that pruning decides otherwise", caption, columns, lines)


def markdown(table: Table) -> str:
    """Returns a table as Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = line(["---:" if column.is_number else "---" for column in table.columns])
    body = [line([cell.text for cell in cells]) for cells in table.lines]
    head = line([column.label for column in table.columns])
    return "\n".join([f"## {table.title}", "", head, rule, *body, "", table.caption, ""])


def latex(table: Table) -> str:
    """Returns a table as a LaTeX `table` that needs the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return f"    {' & '.join(map(words.latex, cells))} \\\\"

    alignment = "".join("r" if column.is_number else "l" for column in table.columns)
    body = [line([cell.text for cell in cells]) for cells in table.lines]
    return "\n".join(
        [
            *(r"\begin{table}", r"  \centering", rf"  \caption{{{words.latex(f'{table.title}. {table.caption}')}}}"),
            *(
                rf"  \begin{{tabular}}{{{alignment}}}",
                r"    \toprule",
                line([column.label for column in table.columns]),
            ),
            *(r"    \midrule", *body, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""),
        ]
    )


def _name(network: pd.Series) -> list[Cell]:
    method, stage = words.method(network["method"]), words.stage(network["stage"])
    return [Cell(method, method), Cell(stage, stage)]


def _sparsity(value: float) -> Cell:
    return Cell(f"{100 * value:.4g}", value)


def _size(network: pd.Series) -> list[Cell]:
    return [
        Cell(f"{network['num_nonzero']:,.0f}", network["num_nonzero"]),
        Cell(f"{network['multiply_accumulates'] / MEGA:,.2f}", network["multiply_accumulates"]),
    ]


def _known(value: float) -> float:
    return value if value == value else BELOW_ALL


def _measured(line: pd.Series, measure: str) -> Cell:
    mean, sd = line[f"{measure}_mean"], line[f"{measure}_sd"]
    text = words.measured(mean, sd).removesuffix(f"{words.UNIT_SPACE}%")
    return Cell(text, mean if pd.notna(mean) else BELOW_ALL)
