"""The table of the fields: what it says is what is written, and what is checked."""

import pathlib
import re

import pytest

from jaxprune.results import schema
from tests.report.runs import fake_rows


@pytest.fixture
def row():
    return fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())[0]


def test_the_page_of_the_fields_is_up_to_date():
    page = pathlib.Path(__file__).parents[2] / "docs" / "rows.md"
    assert page.read_text() == schema.markdown(), "write schema.markdown() into docs/rows.md"


def test_the_page_documents_every_field_once_and_whole():
    table = [line for line in schema.markdown().splitlines() if line.startswith("| `")]
    assert [re.match(r"\| `(\w+)`", line)[1] for line in table] == [field.name for field in schema.FIELDS]
    assert len(schema.BY_NAME) == len(schema.FIELDS)
    assert all(line.count("|") == 6 for line in table)
    assert all(field.meaning.endswith(".") for field in schema.FIELDS)


def test_a_complete_row_passes_and_each_required_field_is_needed(row):
    schema.check(row, strict=True)
    for name in schema.REQUIRED:
        if name == "schema_version":
            continue
        with pytest.raises(ValueError, match=f"the row lacks {name};"):
            schema.check({key: value for key, value in row.items() if key != name})


def test_only_metrics_and_sizes_may_be_null(row):
    for name in schema.REQUIRED:
        if name in (*schema.METRICS, *schema.SIZES):
            schema.check(row | {name: None})
        else:
            with pytest.raises(ValueError, match=name):
                schema.check(row | {name: None})


def test_an_unknown_field_is_read_but_not_written(row):
    schema.check(row | {"acuracy": 0.5})
    with pytest.raises(ValueError, match="unknown field 'acuracy'; did you mean accuracy?"):
        schema.check(row | {"acuracy": 0.5}, strict=True)
