"""The page: one HTML file that needs nothing but itself."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from jaxprune.report import headline, protocol, tables, theme, words

TEMPLATE = "report.html.jinja"
# What the tables by severity show: the measure, its name, and what its caption adds.
SEVERITY_TABLES = (
    ("accuracy", "accuracy", ""),
    ("ece_equal_width_10", "calibration error (ECE)", "10 equal-width bins."),
)
# An unknown value sorts below every measured one.
BELOW_ALL = -1.0
MEGA = 1e6


class Section(NamedTuple):
    """What is shown of one data set and architecture: its rows and its figures."""

    rows: pd.DataFrame
    plots: Sequence[theme.Plot]


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


def render(study: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Returns the whole page. `study` may lack any key; nothing of it is trusted as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        name=str(study.get("study") or sections[0].rows["study"].iloc[0]),
        facts=_facts(study, sections),
        sections=[_section(section, study) for section in sections],
        provenance=_provenance(study, sections),
        versions=_mapping(study, "versions"),
        seconds={key: _seconds(value) for key, value in _mapping(study, "seconds").items()},
        config=json.dumps(study["config"], indent=2, default=str) if study.get("config") else "",
        palette=theme.palette(),
    )


def _section(section: Section, study: Mapping[str, Any]) -> dict[str, Any]:
    rows = section.rows
    return {
        "title": f"{rows['dataset'].iloc[0]}, {words.arm(rows)}",
        "headline": headline.sentences(rows),
        "protocol": protocol.compare(rows, study),
        "figures": [(plot, theme.svgs(plot)) for plot in section.plots],
        "tables": [_networks(rows), *_severities(rows)],
    }


def _facts(study: Mapping[str, Any], sections: Sequence[Section]) -> list[str]:
    rows = pd.concat([section.rows for section in sections])
    networks = rows[[*tables.NETWORK, "seed"]].drop_duplicates()
    return [
        *(str(study[key]) for key in ("created", "device", "precision") if study.get(key)),
        words.counted(len(networks), "network"),
        words.counted(rows["seed"].nunique(), "seed"),
        f"{words.counted(len(rows), 'measurement')} on {words.span(rows['n'])} images each",
    ]


def _provenance(study: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, str]:
    known = {
        "Command": study.get("command"),
        "Created": study.get("created"),
        "Device": study.get("device"),
        "Precision": study.get("precision"),
        "Config hash": sections[0].rows["config_hash"].iloc[0],
    }
    return {label: str(value) if value else "not recorded" for label, value in known.items()}


def _mapping(study: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = study.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _seconds(value: Any) -> str:
    return f"{value:,.1f}{words.UNIT_SPACE}s" if isinstance(value, int | float) else str(value)


def _networks(rows: pd.DataFrame) -> Table:
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
        lines.append(
            [
                *_name(network),
                Cell(f"{100 * network['sparsity']:.4g}", network["sparsity"]),
                Cell(f"{100 * network['sparsity_achieved']:.2f}", network["sparsity_achieved"]),
                Cell(f"{network['num_nonzero']:,.0f}", network["num_nonzero"]),
                Cell(f"{network['multiply_accumulates'] / MEGA:,.2f}", network["multiply_accumulates"]),
                Cell(f"{network['clean_seeds']}", network["clean_seeds"]),
                _measured(network, "clean_accuracy"),
                *([Cell(interval, low if pd.notna(low) else BELOW_ALL)] if has_interval else []),
                _measured(network, "clean_ece_equal_width_10"),
                _measured(network, "clean_ece_equal_mass_10"),
                *(
                    [_measured(network, "corrupted_accuracy"), _measured(network, "corrupted_ece_equal_width_10")]
                    if has_corrupted
                    else []
                ),
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


def _severities(rows: pd.DataFrame) -> list[Table]:
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
            name = [*_name(first), Cell(f"{100 * first['sparsity']:.4g}", first["sparsity"])]
            lines.append([*name, *(_measured(line, measure) for _, line in by_level.iterrows())])
        caption = words.caption(
            f"Mean {noun} in % over the corruptions at each severity.",
            note,
            words.evidence(rows),
        )
        out.append(Table(f"Corrupted {noun} by severity", caption, columns, lines))
    return out


def _name(network: pd.Series) -> list[Cell]:
    method, stage = words.method(network["method"]), words.stage(network["stage"])
    return [Cell(method, method), Cell(stage, stage)]


def _measured(line: pd.Series, measure: str) -> Cell:
    mean, sd = line[f"{measure}_mean"], line[f"{measure}_sd"]
    text = words.measured(mean, sd).removesuffix(f"{words.UNIT_SPACE}%")
    return Cell(text, mean if pd.notna(mean) else BELOW_ALL)
