"""`jaxprune compare`: which differences between two models are significant."""

import dataclasses
import sys
import tempfile

from tyro.conf import OmitArgPrefixes, Positional

from jaxprune import evaluation, report
from jaxprune.cli import options
from jaxprune.cli.options import DataOptions, TestSetOptions, TorchOptions
from jaxprune.cli.progress import count_test_sets, progress_bar


@dataclasses.dataclass
class Compare:
    """Which differences between two models are significant, on the same images, clean and corrupted."""

    checkpoints: Positional[tuple[str, str]]
    """Two models: PyTorch .pt files, .safetensors files or folders that jaxprune saved."""
    data: OmitArgPrefixes[DataOptions]
    test_sets: OmitArgPrefixes[TestSetOptions] = dataclasses.field(default_factory=TestSetOptions)
    torch: OmitArgPrefixes[TorchOptions] = dataclasses.field(default_factory=TorchOptions)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    parsed = options.parse(Compare, "compare", arguments)
    selection, num_sets = parsed.test_sets.select((), parsed.data.limit)
    dataset = parsed.data.load()
    first, second = parsed.checkpoints
    both = {"first": parsed.torch.open_for(first, dataset), "second": parsed.torch.open_for(second, dataset)}
    with tempfile.TemporaryDirectory() as folder:
        with progress_bar() as show:
            on_test_set = count_test_sets(show, num_sets)
            evaluation.evaluate(both, dataset, **selection, keep_examples=folder, on_test_set=on_test_set)
        differences = report.compare(f"{folder}/first", f"{folder}/second")
    sys.stdout.write(f"first: {first}\nsecond: {second}\n{report.comparison_text(differences)}\n")
