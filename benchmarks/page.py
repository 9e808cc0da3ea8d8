"""Runs the comparisons of this folder, one script after another, and writes a page of their results.

    python benchmarks/page.py --out docs/benchmarks.md            on an idle machine; about half an hour on two cores
    python benchmarks/page.py --out page.md --areas metrics       some of it
    python benchmarks/page.py --out page.md --quick               tiny, to try the scripts: its numbers mean nothing

A library that is not installed, or a script that fails, is named on the page. Where matplotlib is installed the page
begins with a picture of all comparisons, `images/<name of the page>.png` beside it.
"""

import argparse
import importlib.metadata
import importlib.util
import io
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

COLOUR = "#0072b2"


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


def page(
    areas: dict[str, Area], results: dict[str, list[tuple[Run, Result]]], *, quick: bool, picture: str | None = None
) -> str:
    """Returns the page as Markdown; `picture` is the path, seen from the page, of what `draw` returned."""
    parts = ["# Benchmarks", _head(results, quick), _libraries()]
    if picture:
        parts.append(f"![How many times as fast as the other side, with quartiles]({picture})")
    for name, area in areas.items():
        parts += [f"## {area.title}", area.about]
        for each, result in results[name]:
            arguments = each.quick if quick else each.arguments
            parts.append(_code(f"python benchmarks/{each.script} {arguments}".rstrip()))
            if result.failure:
                parts.append(f"**`{each.script}` did not finish:** {_cell(result.failure)}")
            if measured := _measured(result):
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
            f"**{_digits(median)}**",
            f"{_digits(lower)} to {_digits(upper)}" if line["pairs"] > 1 else "",
            str(line["pairs"]),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _quantity(seconds: float, line: dict) -> str:
    if line["work"]:
        return f"{line['work'] / seconds:,.0f} {line['unit']}/s"
    return f"{_digits(seconds)} s" if seconds >= 1 else f"{_digits(1000 * seconds)} ms"


def _digits(value: float) -> str:
    """Returns a number with three digits, those that say it was exactly 1.00 too."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _measured(result: Result) -> list[dict]:
    return [line for line in result.lines if "absent" not in line]


def draw(areas: dict[str, Area], results: dict[str, list[tuple[Run, Result]]]) -> bytes | None:
    """Returns a PNG of how many times as fast every comparison found ours; None without matplotlib or comparisons."""
    groups = {
        area.title: [line for _, result in results[name] for line in _measured(result)] for name, area in areas.items()
    }
    groups = {title: lines for title, lines in groups.items() if lines}
    if importlib.util.find_spec("matplotlib") is None or not groups:
        return None
    from matplotlib.figure import Figure

    heights = [len(lines) + 1 for lines in groups.values()]
    figure = Figure(figsize=(8.5, 0.19 * sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (title, lines) in zip(panels, groups.items(), strict=True):
        for height, line in enumerate(lines):
            lower, median, upper = line["times_as_fast"]
            panel.plot([lower, upper], [height, height], color=COLOUR, linewidth=1.5)
            panel.plot(median, height, "o", color=COLOUR, markersize=4)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_yticks(range(len(lines)), [f"{line['name']}; {line['against']}" for line in lines], fontsize=7)
        panel.set_ylim(len(lines) - 0.4, -0.6)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(axis="x", color="0.87")
        panel.set_title(title, fontsize=9, loc="left")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[-1].set_xlabel("times as fast as the other side (right of the line: faster)", fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(command: str) -> str:
    return f"```sh\n{command}\n```"


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
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
    picture, place = draw(areas, results), pathlib.PurePosixPath("images", f"{options.out.stem}.png")
    if picture:
        write(options.out.parent / place, picture)
    write(options.out, page(areas, results, quick=options.quick, picture=str(place) if picture else None).encode())
    failed = [each.script for found in results.values() for each, result in found if result.failure]
    sys.stderr.write(f"\nwritten: {options.out}{'; failed: ' + ', '.join(failed) if failed else ''}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
