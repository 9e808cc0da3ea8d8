"""`jaxprune doctor`: what this installation has and lacks. Needs nothing but the standard library and JAX."""

import argparse
import sys
import textwrap

from jaxprune.cli import installation


def main(arguments: list[str]) -> int:
    """Runs the command; returns 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        "jaxprune doctor",
        description="Show versions, devices, data, caches and what is missing. Exit code 1 if something is wrong.",
    )
    parser.add_argument("--expect", choices=installation.PLATFORMS, help="say what is wrong if JAX uses another")
    parser.add_argument("--data-dir", help="where prepared data sets lie; by default where TFDS looks")
    parsed = parser.parse_args(arguments)
    findings = installation.examine(expect=parsed.expect, data_dir=parsed.data_dir)
    wrong = sum(finding.is_wrong for finding in findings)
    _show(findings, f"{wrong} to put right" if wrong else "nothing is wrong")
    return int(wrong > 0)


def _show(findings: list[installation.Finding], summary: str) -> None:
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ModuleNotFoundError:
        for finding in findings:
            sys.stdout.write(f"{'!' if finding.is_wrong else ' '} {finding.subject}: {finding.found}\n")
            if finding.advice:
                sys.stdout.write(textwrap.indent(finding.advice, "      ") + "\n")
        sys.stdout.write(summary + "\n")
        return
    table = Table("what", "found", "to do", title="jaxprune doctor")
    for finding in findings:
        cells = map(escape, (finding.subject, finding.found, finding.advice))
        table.add_row(*cells, style="red" if finding.is_wrong else None)
    console = Console()
    console.print(table)
    console.print(summary)
