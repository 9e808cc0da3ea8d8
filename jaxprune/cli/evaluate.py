"""`jaxprune evaluate`: clean and corrupted accuracy and calibration of one model or of several."""

import contextlib
import dataclasses
import os
import shlex
import sys

from etils import epath
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional

from jaxprune import data, evaluation, files
from jaxprune.cli import evaluated, options
from jaxprune.cli.options import DataOptions, TestSetOptions, TorchOptions
from jaxprune.cli.progress import count_test_sets, progress_bar
from jaxprune.corruptions import CORRUPTIONS
from jaxprune.evaluation import folder
from jaxprune.study import provenance

# Heading -> metric of a row.
_COLUMNS = {
    "accuracy": "accuracy",
    "NLL": "negative_log_likelihood",
    "Brier": "brier_score",
    "ECE, equal width, 10 bins": "ece_equal_width_10",
    "ECE, equal mass, 15 bins": "ece_equal_mass_15",
}


@dataclasses.dataclass
class Evaluate:
    """Clean and corrupted accuracy and calibration of one model, or of several on the same images."""

    checkpoints: Positional[tuple[str, ...]]
    """PyTorch .pt files, .safetensors files or folders that jaxprune saved."""
    data: OmitArgPrefixes[DataOptions]
    test_sets: OmitArgPrefixes[TestSetOptions] = dataclasses.field(default_factory=TestSetOptions)
    out: str | None = None
    """A folder for rows.jsonl, one row per model and test set, and evaluation.json, which says how it was made."""
    keep_examples: bool = False
    """Also write every image's confidence, prediction and losses into the folder examples of --out."""
    batch_size: int = evaluation.BATCH_SIZE
    """Images per step."""
    precision: str = "float32"
    """float32, or bfloat16 for weights and activations of that type."""
    torch: OmitArgPrefixes[TorchOptions] = dataclasses.field(default_factory=TorchOptions)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parsed = options.parse(Evaluate, "evaluate", options.renamed(arguments, {"--compute-dtype": "--precision"}))
    if not parsed.checkpoints:
        raise ValueError("jaxprune evaluate needs a checkpoint first, such as: jaxprune evaluate net.pt --dataset NAME")
    if parsed.keep_examples and parsed.out is None:
        raise ValueError("--keep-examples needs --out DIR, the folder to write into")
    if parsed.out is None:
        _evaluate(parsed, None)
        return
    out = folder.check(parsed.out)
    with folder.held(out):
        record, rows = _evaluate(parsed, out, shlex.join(["jaxprune", "evaluate", *arguments]))
        folder.finish(out, record, rows)
    sys.stdout.write(f"rows: {out / folder.ROWS_FILE}\n")


def _evaluate(parsed: Evaluate, out: epath.Path | None, command: str = "") -> tuple[dict, list[dict]]:
    """Evaluates and prints the tables; returns the record of a folder `out`, which is claimed here, and the rows."""
    selection, num_sets = parsed.test_sets.select(tuple(CORRUPTIONS), parsed.data.limit)
    dataset = parsed.data.load()
    paths = dict(zip(checkpoint_names(parsed.checkpoints), parsed.checkpoints, strict=True))
    known = {"num_classes": dataset.num_classes, "mean": dataset.mean, "std": dataset.std}
    opened = {name: parsed.torch.open(path, **known) for name, path in paths.items()}
    record = {} if out is None else _record(parsed, dataset, paths, command)
    with contextlib.nullcontext() if out is None else folder.claimed(out, record), progress_bar() as show:
        rows = evaluation.evaluate(
            {name: checkpoint.classifier for name, checkpoint in opened.items()},
            dataset,
            **selection,
            batch_size=parsed.batch_size,
            precision=parsed.precision,
            keep_examples=out / folder.EXAMPLES_FOLDER if parsed.keep_examples else None,
            on_test_set=count_test_sets(show, num_sets),
        )
    for name, path in paths.items():
        of_this = [row for row in rows if row["classifier"] == name]
        print_rows(of_this, f"{path} on {len(dataset)} {dataset.split} images of {dataset.name}")
    if out is not None:
        rows = evaluated.complete_rows(rows, opened, paths, record, image_size=dataset.image_shape[0])
    return record, rows


def _record(parsed: Evaluate, dataset: data.Dataset, paths: dict[str, str], command: str) -> dict:
    return {
        "command": command,
        **provenance.about_here(),
        "dataset": {"name": dataset.name, "split": dataset.split, "num_images": len(dataset)},
        "corrupted": parsed.test_sets.corrupted,
        "seed": None if parsed.test_sets.corrupted else parsed.test_sets.seed,
        "precision": parsed.precision,
        "batch_size": parsed.batch_size,
        "checkpoints": {name: {"path": path, "sha256": files.checksum_of(path)} for name, path in paths.items()},
    }


def checkpoint_names(paths: tuple[str, ...]) -> list[str]:
    """Returns names that tell the checkpoints apart: without folder and suffix, or with as much as that takes."""
    whole = [os.path.abspath(path) for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path, place in zip(paths, whole, strict=True) if whole.count(place) > 1)
        raise ValueError(f"checkpoint {twice} is given twice; give each once")
    names = [os.path.basename(path) for path in whole]
    stems = [
        name if os.path.isdir(path) else os.path.splitext(name)[0] for name, path in zip(names, whole, strict=True)
    ]
    for candidates in (stems, names):
        if len(set(candidates)) == len(candidates):
            return candidates
    common = os.path.commonpath(whole)
    return [os.path.relpath(path, common).replace("_", "__").replace(os.sep, "_") for path in whole]


def print_rows(rows: list[dict], title: str) -> None:
    """Prints one network's rows as a table."""
    table = Table(title=title, pad_edge=False, collapse_padding=True)
    # In a narrow terminal the headings wrap, the names stay whole.
    table.add_column("corruption", no_wrap=True)
    for heading in ("severity", *_COLUMNS):
        table.add_column(heading, justify="right")
    for row in rows:
        # A network that returned NaN has no metrics.
        values = ["-" if row[metric] is None else f"{row[metric]:.5f}" for metric in _COLUMNS.values()]
        table.add_row(row["corruption"], str(row["severity"] or "-"), *values)
    Console().print(table)
