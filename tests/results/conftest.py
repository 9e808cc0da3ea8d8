from tests.report.conftest import run_folder  # noqa: F401 - a fixture of these tests too
