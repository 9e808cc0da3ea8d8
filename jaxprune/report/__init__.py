"""Tables, figures and one self-contained HTML page, from the rows of a study alone: no device is needed."""

from jaxprune.report.writing import write

__all__ = ["write"]
