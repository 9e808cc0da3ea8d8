"""Verdicts, tables, figures and one self-contained HTML page, from what a study left behind: no device is needed."""

from collections.abc import Sequence
from typing import Any

from jaxprune.report.writing import write

__all__ = ["compare", "comparison_text", "write"]


def compare(first: Any, second: Any, **options: Any) -> list:
    """Returns the significant and other differences of two checkpoints; see `comparing.compare`."""
    from jaxprune.report import comparing

    return comparing.compare(first, second, **options)


def comparison_text(differences: Sequence[Any]) -> str:
    """Returns the result of `compare` as a table of plain text."""
    from jaxprune.report import comparing

    return comparing.comparison_text(differences)
