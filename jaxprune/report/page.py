"""One HTML file that needs nothing but itself, from the rows of one or several runs, and the data beside it."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from etils import epath

from jaxprune import names
from jaxprune.report import (
    aggregates,
    drawing,
    figures,
    findings,
    formatting,
    measurements,
    pictures,
    protocol,
    tables,
    verdicts,
)
from jaxprune.report.drawing import Plot
from jaxprune.report.measurements import ArmResults, Exemplars
from jaxprune.report.tables import Table
from jaxprune.report.verdicts import Verdict
from jaxprune.results import images
from jaxprune.results.rows import Row

TEMPLATE = "report.html.jinja"
VERDICT_COLUMNS = (
    *("arm", "finding", "subject", "outcome", "comparison", "quantity", "value", "low", "high"),
    *("claim", "threshold", "p_holm", "seeds", "result"),
)
OUTCOME_SIGNS = {verdicts.CONFIRMED: "✓", verdicts.NOT_CONFIRMED: "✗", verdicts.NOT_ENOUGH: "?"}


class Run(NamedTuple):
    """One run folder: its rows, and what its study says of itself, which may lack any key."""

    folder: epath.Path
    rows: Sequence[Row]
    study: Mapping[str, Any]


class Section(NamedTuple):
    """What is shown of one arm of a run, on one data set."""

    label: str
    prefix: str
    run: Run
    arm: ArmResults
    verdicts: Sequence[Verdict]
    exemplars: Sequence[Exemplars]
    plots: Sequence[Plot]
    tables: Sequence[Table]


class Report(NamedTuple):
    """The name of a report, its tables of data by file name, its sections, and what is shown of all together."""

    name: str
    data: dict[str, pd.DataFrame]
    sections: Sequence[Section]
    shared_plots: Sequence[Plot]
    shared_tables: Sequence[Table]


def gather(runs: Sequence[Run]) -> Report:
    """Returns the contents of a report; with several runs, what tells them apart is in every name."""
    run_names = _run_names([run.folder for run in runs])
    results, summaries, sections = [], [], []
    for name, run in zip(run_names, runs, strict=True):
        table = aggregates.results(run.rows)
        results.append(table)
        summaries.append(aggregates.summary(table))
        arms = [ArmResults(rows, run.folder) for rows in aggregates.arms(table)]
        has_dataset = len({arm.dataset for arm in arms}) > 1 or len(arms) == 1
        for arm in arms:
            label = f"{arm.dataset}, {formatting.arm(arm.rows)}" if has_dataset else arm.name
            sections.append(_section(run, arm, name, f"{name}: {label}" if name else label))
    if len(runs) > 1:
        for parts in (results, summaries):
            parts[:] = [part.assign(run=name)[["run", *part]] for name, part in zip(run_names, parts, strict=True)]
    data = {
        "results": pd.concat(results, ignore_index=True),
        "summary": pd.concat(summaries, ignore_index=True),
        "verdicts": pd.DataFrame(_comparisons(sections), columns=VERDICT_COLUMNS),
    }
    name = " and ".join(run_names) if len(runs) > 1 else _study_name(runs[0])
    arms = {section.label: section.arm for section in sections}
    plots, shared = [], []
    if len(runs) > 1:
        shared = [tables.configurations(dict(zip(run_names, (run.study for run in runs), strict=True)))]
        shared += _side_by_side(dict(zip(run_names, runs, strict=True)), sections)
    if len(arms) > 1:
        if figures.known_sizes(arms.values()):
            plots.append(figures.trade_off_of_arms(arms, "all-trade-off"))
        shared.append(tables.arms(arms))
    return Report(name, data, sections, plots, shared)


def render(report: Report) -> str:
    """Returns the whole page. Nothing of what a study says of itself is trusted as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections, runs = report.sections, _runs(report.sections)
    return environment.get_template(TEMPLATE).render(
        name=report.name,
        facts=_facts(sections, runs),
        findings=_findings(sections),
        labels=[section.label for section in sections],
        signs=OUTCOME_SIGNS,
        shared_figures=[(plot, drawing.svgs(plot)) for plot in report.shared_plots],
        shared_tables=report.shared_tables,
        sections=[_section_content(section) for section in sections],
        runs=[_run_content(run, of_run) for run, of_run in runs],
        palette=drawing.palette(),
    )


def _run_names(folders: Sequence[epath.Path]) -> list[str]:
    """Returns the shortest ends of the paths that tell the runs apart; one run needs no name."""
    if len(folders) == 1:
        return [""]
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        found = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(found)) == len(found):
            return found
    return [str(folder) for folder in folders]


def _study_name(run: Run) -> str:
    return str(run.study.get("study") or run.rows[0]["study"])


def _section(run: Run, arm: ArmResults, run_name: str, label: str) -> Section:
    prefix = "-".join(formatting.file_stem(name) for name in (run_name, arm.dataset, arm.name) if name)
    exemplars = measurements.arm_exemplars(arm)
    shown = [tables.networks(arm.rows), *tables.severities(arm.rows)]
    shown += [tables.exemplars(exemplars, arm.rows)] if exemplars else []
    return Section(label, prefix, run, arm, findings.verdicts(arm), exemplars, figures.plots(arm, prefix), shown)


def _side_by_side(runs: Mapping[str, Run], sections: Sequence[Section]) -> list[Table]:
    """Returns a table for each arm that several runs share."""
    shared = {}
    for name, run in runs.items():
        for section in sections:
            if section.run is run:
                shared.setdefault((section.arm.dataset, section.arm.name), {})[name] = section.arm
    return [tables.side_by_side(results) for results in shared.values() if len(results) > 1]


def _comparisons(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    for section in sections:
        for verdict in section.verdicts:
            for each in verdict.comparisons:
                yield {
                    "arm": section.label,
                    "finding": verdict.question.finding,
                    "subject": verdict.subject,
                    "outcome": verdict.outcome,
                    "comparison": each.label.replace(formatting.UNIT_SPACE, " "),
                    "quantity": each.quantity,
                    "value": each.estimate.value,
                    "low": each.estimate.low,
                    "high": each.estimate.high,
                    "claim": each.claim,
                    "threshold": each.null,
                    "p_holm": each.p_value,
                    "seeds": each.estimate.num_seeds,
                    "result": each.state,
                }


def _section_content(section: Section) -> dict[str, Any]:
    arm = section.arm
    methods = [formatting.method(method) for method in arm.methods]
    return {
        "title": section.label,
        "anchor": f"section-{section.prefix}",
        "headline": findings.what_happened(arm),
        "protocol": protocol.protocol_items(arm.rows, section.run.study),
        "methods": methods if len(methods) > 1 else [],
        "figures": [(plot, drawing.svgs(plot)) for plot in section.plots],
        "tables": section.tables,
        **_pictures(section),
    }


def _findings(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Returns every question that some section answers, with the answers of each section."""
    out = []
    for question in findings.QUESTIONS:
        by_section = [[each for each in section.verdicts if each.question == question] for section in sections]
        answers = [
            {
                "section": section.label if len(sections) > 1 else "",
                "verdict": verdict,
                "table": tables.comparisons(verdict),
            }
            for section, found in zip(sections, by_section, strict=True)
            for verdict in found
        ]
        if answers:
            out.append({"question": question, "answers": answers, "by_section": by_section})
    return out


def _pictures(section: Section) -> dict[str, Any]:
    """Returns the pictures of the exemplars of the most pruned network of each method, and the gallery."""
    known = images.read(section.run.folder)
    last = {each.variant.method: each for each in section.exemplars}
    groups = [_exemplars(each, known) for each in last.values()]
    return {"exemplars": [group for group in groups if group["images"]], "gallery": _gallery(section.arm, known)}


def _exemplars(found: Exemplars, known: images.Pictures) -> dict[str, Any]:
    shown = []
    for index, *labels in zip(
        map(int, found.index), found.labels, found.dense_prediction, found.pruned_prediction, strict=True
    ):
        if index in known.exemplars and len(shown) < images.MAX_EXEMPLARS:
            classes = (images.class_name(label, known.class_names) for label in labels)
            image = dict(zip(("label", "dense", "pruned"), classes, strict=True))
            shown.append(image | {"uri": pictures.data_uri(known.exemplars[index]), "index": index})
    method = formatting.capitalized(formatting.method(found.variant.method))
    title = f"{method}, {formatting.sparsity(found.variant.sparsity)} sparse"
    return {"title": title, "images": shown, "total": len(found.index)}


def _gallery(arm: ArmResults, known: images.Pictures) -> dict[str, Any] | None:
    """Returns images under corruptions, with what the dense and the most pruned network of a method say of them."""
    dense, pruned = arm.dense(), [variants[-1] for variants in arm.pruned().values()]
    if not known.gallery or dense is None:
        return None
    seed, lines = arm.seeds[0], {}
    for (index, test_set), image in known.gallery.items():
        corruption, _, severity = test_set.rpartition("-")
        name = formatting.spaced(corruption) + (f" {severity}" if severity != "0" else "")
        says = []
        for variant in (dense, *pruned):
            found = arm.outputs_of(variant, seed, (corruption, int(severity)))
            if found is not None:
                who = names.DENSE if variant.is_dense else formatting.sparsity(variant.sparsity)
                label = images.class_name(found.prediction[index], known.class_names)
                confidence = f"{100 * found.confidence[index]:.0f}{formatting.UNIT_SPACE}%"
                says.append((who, f"{label} {confidence}", bool(found.correct[index])))
        lines.setdefault(index, []).append({"name": name, "uri": pictures.data_uri(image), "says": says})
    listed = ", ".join(formatting.variant(*variant) for variant in pruned)
    caption = (
        "Test images as the networks saw them, with the prediction and its confidence: dense, and at the highest "
        f"sparsity of each method ({listed}), {formatting.stage(arm.stage)}, seed {seed}; wrong ones are struck "
        "through. Single images, chosen among those that dense and pruned networks part on: "
        f"n = {len(lines)}, 1 seed, no interval."
    )
    return {"lines": list(lines.values()), "caption": caption}


def _runs(sections: Sequence[Section]) -> list[tuple[Run, pd.DataFrame]]:
    """Returns every run with all its rows."""
    found = {}
    for section in sections:
        found.setdefault(str(section.run.folder), (section.run, []))[1].append(section.arm.rows)
    return [(run, pd.concat(rows, ignore_index=True)) for run, rows in found.values()]


def _facts(sections: Sequence[Section], runs: Sequence[tuple[Run, pd.DataFrame]]) -> list[str]:
    known = []
    for run, rows in runs:
        known += [
            str(run.study.get("created") or ""),
            *_recorded(run, rows, "device"),
            *_recorded(run, rows, "precision"),
        ]
    everything = pd.concat([rows for _, rows in runs])
    num_networks = sum(aggregates.num_networks(rows) for _, rows in runs)
    images = formatting.value_range(everything["n"])
    return [
        *dict.fromkeys(filter(None, known)),
        *([formatting.counted(len(sections), "arm")] if len(sections) > 1 else []),
        formatting.counted(num_networks, "network"),
        formatting.counted(everything["seed"].nunique(), "seed"),
        f"{formatting.counted(len(everything), 'measurement')} on {images} images each",
    ]


def _recorded(run: Run, rows: pd.DataFrame, column: str) -> list[str]:
    """Returns what the rows of a run name in a column; what the study says of itself where they do not."""
    named = list(rows[column].dropna().unique()) if column in rows else []
    return named or ([str(run.study[column])] if run.study.get(column) else [])


def _run_content(run: Run, rows: pd.DataFrame) -> dict[str, Any]:
    study = run.study
    provenance = {
        "Command": study.get("command"),
        "Created": study.get("created"),
        "Device": "; ".join(_recorded(run, rows, "device")),
        "Precision": "; ".join(_recorded(run, rows, "precision")),
        "Config hash": rows["config_hash"].iloc[0],
    }
    versions, seconds = (study[key] if isinstance(study.get(key), Mapping) else {} for key in ("versions", "seconds"))
    return {
        "name": _study_name(run),
        "provenance": {label: str(value or protocol.NOT_RECORDED) for label, value in provenance.items()},
        "versions": dict(versions),
        "seconds": {key: _seconds(value) for key, value in seconds.items()},
        "config": json.dumps(study["config"], indent=2, default=str) if study.get("config") else "",
    }


def _seconds(value: Any) -> str:
    return f"{value:,.1f}{formatting.UNIT_SPACE}s" if isinstance(value, int | float) else str(value)
