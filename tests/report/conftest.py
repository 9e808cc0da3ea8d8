import pytest

from tests.report import runs


@pytest.fixture
def run_folder(tmp_path):
    """Returns a function that writes rows and a study's record into a new folder and returns it."""

    def write(rows, config=runs.CONFIG, *, name="run"):
        return runs.write(tmp_path / name, rows, config)

    return write
