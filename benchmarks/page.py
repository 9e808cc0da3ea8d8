"""Runs the comparisons of this folder, one script after another, and writes a page of their results.

    python benchmarks/page.py --out docs/benchmarks.md            on an idle machine; about half an hour on two cores
    python benchmarks/page.py --out page.md --areas metrics       some of it
    python benchmarks/page.py --out page.md --quick               tiny, to try the scripts: its numbers mean nothing

A library that is not installed, or a script that fails, is named on the page.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent


class Run(NamedTuple):
    """A script with its arguments, and with those that only try it."""

    script: str
    arguments: str
    quick: str


class Area(NamedTuple):
    """A section of the page."""

    title: str
    about: str
    runs: tuple[Run, ...]


AREAS = {
    "corruptions": Area(
        "Corruptions",
        "32 x 32 pixels, all severities, random numbers included. The other side works image by image on one core, "
        "as the original scripts do; ours uses all cores.",
        (Run("corruptions.py", "--rounds 5", "--names contrast --rounds 1"),),
    ),
    "metrics": Area(
        "Metrics",
        "The same inputs on both sides; compilation is not counted, waiting for the device is.",
        (Run("metrics.py", "", "--small --repeats 1"),),
    ),
    "evaluation": Area(
        "Evaluation",
        "ResNet-20 with the same weights on both sides. The other side's corruptions are timed on a few images and "
        "extrapolated.",
        (
            Run(
                "evaluation.py",
                "--parts forward corrupted --images 1000 --oracle-images 8 --rounds 5",
                "--parts forward --images 16 --rounds 1",
            ),
        ),
    ),
    "pruning": Area(
        "Pruning",
        "The time to prune, the cost of a step that holds masks, and what removed channels save.",
        (
            Run("pruning.py", "--weights 2500000", "--weights 20000 --sparsities 2 --rounds 1 --only threshold"),
            Run("latency.py", "", "resnet8 --batch-size 4 --repeats 2"),
        ),
    ),
    "training": Area(
        "Training",
        "One epoch of `training.fit`, batch 64, beside the same epoch in PyTorch, beside a loop written by hand, and "
        "with masks beside without.",
        (Run("training.py", "--only torch loop masks --rounds 7", "--only masks --rounds 1 --steps 1"),),
    ),
}
# What the extra `bench` brings, by distribution.
LIBRARIES = ("torch", "torchmetrics", "netcal", "relplot", "scikit-learn", "scipy", "opencv-python-headless", "pillow")


class Result(NamedTuple):
    """What a script wrote, and why it stopped, if it failed."""

    lines: list[dict]
    failure: str | None


def run(script: pathlib.Path, arguments: str) -> Result:
    """Runs a script in a process of its own and returns what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        found = pathlib.Path(folder) / "results.jsonl"
        command = [sys.executable, str(script), *shlex.split(arguments), "--json", str(found)]
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(done.stderr)
        lines = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
    last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    if done.returncode:
        return Result(lines, last)
    return Result(lines, None if lines else "it measured nothing")


def page(areas: dict[str, Area], results: dict[str, list[tuple[Run, Result]]], *, quick: bool) -> str:
    """Returns the page as Markdown."""
    parts = ["# Benchmarks", _head(results, quick), _libraries()]
    for name, area in areas.items():
        parts += [f"## {area.title}", area.about]
        for each, result in results[name]:
            arguments = each.quick if quick else each.arguments
            parts.append(_code(f"python benchmarks/{each.script} {arguments}".rstrip()))
            if result.failure:
                parts.append(f"**`{each.script}` did not finish:** {_cell(result.failure)}")
            measured = [line for line in result.lines if "absent" not in line]
            if measured:
                parts.append(_table(measured))
            parts += [
                f"**Not measured:** {line['name']} against {line['against']}: {_cell(line['absent'])}."
                for line in result.lines
                if "absent" in line
            ]
    return "\n\n".join(parts) + "\n"


def _head(results, quick: bool) -> str:
    lines = [line for area in results.values() for _, result in area for line in result.lines]
    machines = sorted({line["machine"] for line in lines})
    dates = sorted({line["date"] for line in lines})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    text = (
        f"Measured {when} on {'; '.join(machines) or 'no machine'}. This page is written by\n\n"
        f"{_code('python benchmarks/page.py --out docs/benchmarks.md')}\n\n"
        "The two sides of a comparison run in alternation in one process. Shown are medians; how many times as fast "
        "ours is is taken pair by pair, with the quartiles of the pairs."
    )
    return text + ("\n\n**Tiny inputs, to try the scripts: these numbers mean nothing.**" if quick else "")


def _libraries() -> str:
    present, absent = [], []
    for name in LIBRARIES:
        try:
            present.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    text = f"Compared with: {', '.join(present) or 'nothing'}."
    if absent:
        text += f" **Not installed:** {', '.join(absent)}; `pip install 'jaxprune[bench]'` brings them."
    return text


def _table(lines: list[dict]) -> str:
    rows = ["| What | Ours | Theirs | | Times as fast | Quartiles | Pairs |", "|---|--:|--:|---|--:|---|--:|"]
    for line in lines:
        lower, median, upper = line["times_as_fast"]
        cells = (
            _cell(line["name"]),
            _quantity(line["ours"], line),
            _quantity(line["theirs"], line),
            _cell(line["against"]),
            f"**{median:.3g}**",
            f"{lower:.3g} to {upper:.3g}",
            str(line["pairs"]),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _quantity(seconds: float, line: dict) -> str:
    if line["work"]:
        return f"{line['work'] / seconds:,.0f} {line['unit']}/s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(command: str) -> str:
    return f"```sh\n{command}\n```"


def write(path: pathlib.Path, text: str) -> None:
    """Writes the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 if a script failed; the page is written either way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--areas", nargs="+", default=list(AREAS), choices=list(AREAS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    areas = {name: AREAS[name] for name in options.areas}
    results = {}
    for name, area in areas.items():
        results[name] = []
        for each in area.runs:
            chosen = each.quick if options.quick else each.arguments
            sys.stderr.write(f"\n{each.script} {chosen}\n")
            results[name].append((each, run(HERE / each.script, chosen)))
    write(options.out, page(areas, results, quick=options.quick))
    failed = [each.script for found in results.values() for each, result in found if result.failure]
    sys.stderr.write(f"\nwritten: {options.out}{'; failed: ' + ', '.join(failed) if failed else ''}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
