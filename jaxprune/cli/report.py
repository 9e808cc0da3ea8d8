"""`jaxprune report`: tables, figures and one page from the rows of runs."""

import dataclasses
import sys

from tyro.conf import Positional

from jaxprune import report
from jaxprune.cli import options


@dataclasses.dataclass
class Report:
    """Write tables, figures and report.html from the rows of one run, or of several side by side."""

    runs: Positional[tuple[str, ...]]
    """Run folders, which hold rows.jsonl; several are compared in DIR/comparison of the first."""


def main(arguments: list[str]) -> None:
    """Runs the command."""
    runs = options.parse(Report, "report", arguments).runs
    write_report(runs[0] if len(runs) == 1 else runs)


def write_report(runs) -> None:
    """Writes the report of one run folder, or of several, and says where it lies."""
    sys.stdout.write(f"report: {report.write(runs)}\n")
