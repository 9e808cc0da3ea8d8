"""The page: one HTML file that needs nothing but itself."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from jaxprune.report import damage, findings, headline, page_tables, pictures, protocol, tables, theme, verdicts, words
from jaxprune.report.evidence import Evidence
from jaxprune.report.page_tables import Table
from jaxprune.report.verdicts import Verdict

TEMPLATE = "report.html.jinja"
OUTCOME_SIGNS = {verdicts.CONFIRMED: "✓", verdicts.NOT_CONFIRMED: "✗", verdicts.NOT_ENOUGH: "?"}


class Section(NamedTuple):
    """What is shown of one data set and arm of a run: its rows, what follows from them, and its figures."""

    label: str
    prefix: str
    study: Mapping[str, Any]
    rows: pd.DataFrame
    evidence: Evidence
    verdicts: Sequence[Verdict]
    plots: Sequence[theme.Plot]


class Shared(NamedTuple):
    """What is shown of all sections together, where there are several."""

    plots: Sequence[theme.Plot]
    tables: Sequence[Table]


def render(name: str, sections: Sequence[Section], shared: Shared) -> str:
    """Returns the whole page. What a study says of itself may lack any key, and nothing of it is trusted as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        name=name,
        facts=_facts(sections),
        findings=_findings(sections),
        labels=[section.label for section in sections],
        signs=OUTCOME_SIGNS,
        shared_figures=[(plot, theme.svgs(plot)) for plot in shared.plots],
        shared_tables=shared.tables,
        sections=[_section(section) for section in sections],
        runs=[_run(run, sections) for run in _one_per_run(sections)],
        palette=theme.palette(),
    )


def section_tables(section: Section) -> list[Table]:
    """Returns the tables of a section."""
    out = [page_tables.networks(section.rows), *page_tables.severities(section.rows)]
    exemplars = damage.exemplars(section.evidence)
    return [*out, page_tables.exemplars(exemplars, section.rows)] if exemplars else out


def _section(section: Section) -> dict[str, Any]:
    rows = section.rows
    methods = [words.method(method) for method in tables.methods(rows)]
    return {
        "title": section.label,
        "anchor": f"section-{section.prefix}",
        "headline": headline.sentences(rows),
        "protocol": protocol.compare(rows, section.study),
        "methods": methods if len(methods) > 1 else [],
        "figures": [(plot, theme.svgs(plot)) for plot in section.plots],
        "tables": section_tables(section),
        "exemplars": _exemplars(section),
        "gallery": _gallery(section),
    }


def _findings(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Returns every question that some section answers, with the answers of each section."""
    out = []
    for question in findings.QUESTIONS:
        by_section = [[each for each in section.verdicts if each.question == question] for section in sections]
        if not any(by_section):
            continue
        answers = [
            {
                "section": section.label if len(sections) > 1 else "",
                "verdict": verdict,
                "table": page_tables.comparisons(verdict),
            }
            for section, found in zip(sections, by_section, strict=True)
            for verdict in found
        ]
        out.append({"question": question, "answers": answers, "by_section": by_section})
    return out


def _exemplars(section: Section) -> list[dict[str, Any]]:
    """Returns the pictures of the exemplars of the most pruned network of each method."""
    known = pictures.read(section.evidence.run_dir)
    if not known.exemplars:
        return []
    last = {each.network.method: each for each in damage.exemplars(section.evidence)}
    out = []
    for method, each in last.items():
        place = {int(index): i for i, index in enumerate(each.index)}
        shown = [index for index in pictures.ordered(each) if index in known.exemplars][: pictures.MAX_EXEMPLARS]
        out.append(
            {
                "title": f"{words.as_start(words.method(method))}, {words.sparsity(each.network.sparsity)} sparse",
                "images": [
                    {
                        "uri": pictures.data_uri(known.exemplars[index]),
                        "label": _class_name(known, each.labels[place[index]]),
                        "dense": _class_name(known, each.dense_prediction[place[index]]),
                        "pruned": _class_name(known, each.pruned_prediction[place[index]]),
                        "index": index,
                    }
                    for index in shown
                ],
                "total": len(each.index),
            }
        )
    return [each for each in out if each["images"]]


def _gallery(section: Section) -> dict[str, Any] | None:
    """Returns images under corruptions, with what the dense and the most pruned network of a method say of them."""
    known, evidence = pictures.read(section.evidence.run_dir), section.evidence
    dense = evidence.dense()
    kinds = [evidence.networks(granularity=kind) for kind in ("weights", "channels")]
    networks = [each[-1] for kind in kinds for each in kind.values()]
    if not known.gallery or dense is None:
        return None
    seed, lines = evidence.seeds[0], {}
    for (index, test_set), image in known.gallery.items():
        corruption, _, severity = test_set.rpartition("-")
        name = words.plain(corruption) if severity == "0" else f"{words.plain(corruption)} {severity}"
        says = []
        for network in (dense, *networks):
            found = evidence.outputs_of(network, seed, (corruption, int(severity)))
            if found is not None:
                who = "dense" if network == dense else f"{words.sparsity(network.sparsity)}"
                label = _class_name(known, found.prediction[index])
                says.append(
                    (who, f"{label} {100 * found.confidence[index]:.0f}{words.UNIT_SPACE}%", bool(found.correct[index]))
                )
        lines.setdefault(index, []).append({"name": name, "uri": pictures.data_uri(image), "says": says})
    pruned = ", ".join(findings.label(network) for network in networks)
    caption = words.caption(
        "Test images as the networks saw them, with the prediction and its confidence: dense, and at the highest "
        f"sparsity of each method ({pruned}), {words.stage(evidence.stage)}, seed {seed}; wrong ones are struck "
        "through. Single images, chosen among those that dense and pruned networks part on: "
        f"n = {len(lines)}, 1 seed, no interval."
    )
    return {"lines": list(lines.values()), "caption": caption}


def _class_name(known: pictures.Pictures, label: int) -> str:
    return known.class_names[label] if label < len(known.class_names) else f"class {label}"


def _facts(sections: Sequence[Section]) -> list[str]:
    rows = pd.concat([section.rows for section in sections])
    networks = sum(len(section.rows[[*tables.NETWORK, "seed"]].drop_duplicates()) for section in sections)
    studies = _one_per_run(sections)
    known = [
        value
        for run in studies
        for value in (
            run.study.get("created"),
            *_recorded(run, sections, "device"),
            *_recorded(run, sections, "precision"),
        )
    ]
    return [
        *dict.fromkeys(str(value) for value in known if value),
        *([words.counted(len(sections), "arm")] if len(sections) > 1 else []),
        words.counted(networks, "network"),
        words.counted(rows["seed"].nunique(), "seed"),
        f"{words.counted(len(rows), 'measurement')} on {words.span(rows['n'])} images each",
    ]


def _one_per_run(sections: Sequence[Section]) -> list[Section]:
    return list({str(section.evidence.run_dir): section for section in reversed(sections)}.values())[::-1]


def _recorded(run: Section, sections: Sequence[Section], column: str) -> list[str]:
    """Returns what the rows of a run name in a column; what the study says of itself where they do not."""
    own = [section.rows for section in sections if section.evidence.run_dir == run.evidence.run_dir]
    named = [value for rows in own if column in rows for value in rows[column].dropna().unique()]
    return list(dict.fromkeys(named)) or ([str(run.study[column])] if run.study.get(column) else [])


def _run(section: Section, sections: Sequence[Section]) -> dict[str, Any]:
    study = section.study
    known = {
        "Command": study.get("command"),
        "Created": study.get("created"),
        "Device": "; ".join(_recorded(section, sections, "device")),
        "Precision": "; ".join(_recorded(section, sections, "precision")),
        "Config hash": section.rows["config_hash"].iloc[0],
    }
    return {
        "name": str(study.get("study") or section.rows["study"].iloc[0]),
        "provenance": {label: str(value) if value else "not recorded" for label, value in known.items()},
        "versions": _mapping(study, "versions"),
        "seconds": {key: _seconds(value) for key, value in _mapping(study, "seconds").items()},
        "config": json.dumps(study["config"], indent=2, default=str) if study.get("config") else "",
    }


def _mapping(study: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = study.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _seconds(value: Any) -> str:
    return f"{value:,.1f}{words.UNIT_SPACE}s" if isinstance(value, int | float) else str(value)
