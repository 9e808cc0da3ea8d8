"""The report as a whole: what is written, that the page needs nothing but itself, and that its words are true."""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import jaxprune
from jaxprune import report
from jaxprune.report import drawing
from tests.report import runs
from tests.report.pages import Page
from tests.report.runs import fake_rows

# With the number of panels each has for two methods and two stages.
FIGURES = {
    "clean": 4,
    "corrupted-accuracy": 2,
    "corrupted-calibration": 2,
    "corruptions-accuracy": 2,
    "corruptions-calibration": 2,
    "trade-off": 8,
}
CORRUPTED = [name for name in FIGURES if name not in ("clean", "trade-off")]
TABLES = ("all_networks", "corrupted_accuracy_by_severity", "corrupted_calibration_error_ece_by_severity")
DATA = {"results.csv", "summary.csv", "verdicts.csv"} | ({"results.parquet"} if find_spec("pyarrow") else set())
SPACE = "\u00a0"
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns the folder of a report with one seed, written once for all tests."""
    folder = runs.write(tmp_path_factory.mktemp("one_seed"), fake_rows())
    assert report.write(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def text(written):
    return (written / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def files_of(folder):
    """The files of a folder; the locks of the study, which are its own, left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parts[0] != ".locks"}


def test_every_file_is_written_and_no_temporary_one_stays(written):
    figures = {f"figures/digits-resnet8-{name}.{kind}" for name in FIGURES for kind in SIGNATURES}
    tables = {f"tables/digits-resnet8-{name}.{kind}" for name in TABLES for kind in ("md", "tex")}
    assert files_of(written) == {"rows.jsonl", "study.json", "report.html"} | DATA | figures | tables
    for name in figures:
        assert (written / name).read_bytes().startswith(SIGNATURES[name[-3:]])


def test_the_tables_are_markdown_and_latex_too(written):
    accuracy = f"{100 * runs.accuracy('weight', 0.5, 'fine_tuned', 0, 'clean', 0):.1f}"
    lines = (written / "tables" / "digits-resnet8-all_networks.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 18
    assert len({line.count("|") for line in table}) == 1
    assert any(f"| {accuracy} |" in line and "after fine-tuning | 50 |" in line for line in table)
    latex = (written / "tables" / "digits-resnet8-all_networks.tex").read_text()
    assert latex.count(r"\\") == 1 + 18
    assert f"& {accuracy} &" in latex
    assert not re.search(r"(?<!\\)%", latex)


def test_the_csv_files_hold_the_rows_and_their_means(written):
    with open(written / "results.csv") as file:
        results = list(csv.DictReader(file))
    rows = fake_rows()
    assert len(results) == len(rows)
    assert sum(float(row["accuracy"]) for row in results) == pytest.approx(sum(row["accuracy"] for row in rows))
    assert list(results[0]) == list(rows[0])
    with open(written / "summary.csv") as file:
        summary = {(row["method"], row["sparsity"], row["stage"]): row for row in csv.DictReader(file)}
    assert len(summary) == 18
    network = summary["weight", "0.5", "fine_tuned"]
    truth = runs.accuracy("weight", 0.5, "fine_tuned", 0, "clean", 0)
    assert float(network["clean_accuracy_mean"]) == pytest.approx(truth, abs=1e-12)
    assert network["clean_accuracy_sd"] == ""


def test_the_page_loads_nothing(page, text):
    inside = [value for value in page.loads if value == "data:," or value.startswith("#")]
    assert page.loads == inside
    assert "//" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert {"iframe", "object", "embed"}.isdisjoint(page.tags)


def test_every_figure_is_embedded_with_a_full_caption(page, text):
    assert page.tags.count("svg") == sum(FIGURES.values())
    captions = {}
    for name in FIGURES:
        figure = re.search(rf'<figure id="digits-resnet8-{name}">(.*?)</figure>', text, flags=re.DOTALL)[1]
        assert figure.count("<svg") == FIGURES[name]
        assert ("<fieldset" in figure) == (name not in CORRUPTED)
        captions[name] = html.unescape(re.search("<figcaption>(.*?)</figcaption>", figure)[1])
        assert f"digits, resnet8; n{SPACE}={SPACE}400 images per test set; 1{SPACE}seed (0)." in captions[name]
    for name in CORRUPTED:
        listed = "brightness, contrast, gaussian blur, gaussian noise, impulse noise, pixelate."
        assert f"6{SPACE}corruptions: {listed}" in captions[name]
    for name in ("clean", "corrupted-calibration", "corruptions-calibration"):
        assert "10 equal-width bins" in captions[name]
    assert f"with 10 equal-mass bins no value here differs by more than 0.3{SPACE}points" in captions["clean"]
    one_seed = "95 % interval over test images. One seed: the variation between seeds is unknown."
    for name in ("clean", "trade-off"):
        assert captions[name].endswith(f"{one_seed} Of the calibration error none can be given.")
    assert captions["corrupted-accuracy"].endswith(one_seed)
    assert "No interval can be given" in captions["corrupted-calibration"]


def test_ids_are_unique_and_every_reference_meets_one(page, text):
    assert len(page.ids) == len(set(page.ids))
    references = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    assert references
    assert references <= set(page.ids)


def test_figures_follow_the_colours_of_the_page(text):
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        assert "var(--ink)" in svg
        assert "note-" not in svg
        assert "#1b1e23" not in svg
        assert "font-family" not in svg
    assert "prefers-color-scheme: dark" in text
    used, defined = set(re.findall(r"var\(--([\w-]+)\)", text)), set(re.findall(r"--([\w-]+):", text))
    assert used <= defined


def test_the_same_rows_in_another_order_give_the_same_bytes(written, run_folder):
    again = run_folder(fake_rows()[::-1], None)
    shutil.copy(written / "study.json", again)
    report.write(again)
    assert files_of(again) == files_of(written)
    for name in files_of(written) - {"rows.jsonl"}:
        assert (again / name).read_bytes() == (written / name).read_bytes(), name


def test_numbers_are_percentages_with_one_decimal(page):
    cells = page.texts["td"]
    assert f"{100 * runs.accuracy('weight', 0.5, 'fine_tuned', 0, 'clean', 0):.1f}" in cells
    assert "50.03" in cells
    assert "78,042" in cells


@pytest.fixture
def few_rows():
    return fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))


@pytest.fixture
def clean_rows():
    return fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())


def test_without_a_study_the_page_says_what_is_not_recorded(run_folder, clean_rows):
    page = Page(report.write(run_folder(clean_rows, None)).read_text())
    assert page.texts["title"][0] == "digits: pruning, calibration and robustness"
    assert "not recorded" in page.texts["dd"]


def test_a_study_is_not_trusted_as_html(run_folder, clean_rows):
    evil = "</pre><script>alert(1)</script>"
    for row in clean_rows:
        row["model"] = evil
        row["method"] = row["method"].replace("weight", f"{evil} $x_{{$")
    folder = run_folder(clean_rows, None)
    record = {"study": evil, "config": {"name": evil}, "versions": {evil: evil}, "device": evil, "seconds": "?"}
    (folder / "study.json").write_text(json.dumps(record))
    text = report.write(folder).read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("keep", ["clean", "dense", "before fine-tuning", "no dense"])
def test_an_unfinished_run_has_a_report_too(run_folder, few_rows, keep):
    wanted = {
        "clean": lambda row: row["corruption"] == "clean",
        "dense": lambda row: row["method"] == "dense",
        "before fine-tuning": lambda row: row["stage"] != "fine_tuned",
        "no dense": lambda row: row["method"] != "dense",
    }[keep]
    page = Page(report.write(run_folder([row for row in few_rows if wanted(row)])).read_text())
    stages, severities = 1 if keep == "before fine-tuning" else 2, 0 if keep == "clean" else len(CORRUPTED)
    assert page.tags.count("svg") == 2 * stages + severities + (4 if keep == "clean" else 8)
    unknown = any(sentence.startswith("The dense network was not measured") for sentence in page.texts["li"])
    assert unknown == (keep == "no dense")


def test_metrics_of_a_diverged_network_may_be_null(run_folder, few_rows):
    for row in few_rows:
        if row["method"] == "weight":
            row["negative_log_likelihood"] = None
            row["ece_equal_width_10"] = float("nan")
    page = Page(report.write(run_folder(few_rows)).read_text())
    assert "–" in page.texts["td"]


def test_sizes_far_apart_have_an_axis_that_can_be_read(run_folder, few_rows):
    for row in few_rows:
        row["num_nonzero"] = row["num_nonzero"] // (10 if row["method"] == "weight" else 1)
    text = report.write(run_folder(few_rows)).read_text()
    figure = re.search(r'<figure id="digits-resnet8-trade-off">(.*?)</figure>', text, flags=re.DOTALL)[1]
    drawn = [Page(svg).texts["text"] for svg in re.findall(r"<svg.*?</svg>", figure, flags=re.DOTALL)]
    of_parameters = [texts for texts in drawn if "Non-zero parameters" in texts]
    assert of_parameters
    for texts in of_parameters:
        assert [text for text in texts if text.endswith(" k")] == ["5 k", "10 k", "20 k", "50 k"]
    assert "mathdefault" not in figure


def test_two_architectures_have_a_section_and_figures_each(run_folder, clean_rows):
    other = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=(), model="resnet20")
    path = report.write(run_folder([*clean_rows, *other]))
    figures = {figure.stem for figure in (path.parent / "figures").iterdir()}
    arms = {f"digits-{arm}-{name}" for arm in ("resnet8", "resnet20") for name in ("clean", "trade-off")}
    assert figures == {"all-trade-off"} | arms
    page = Page(path.read_text())
    assert len(page.ids) == len(set(page.ids))
    assert {"together", "section-digits-resnet8", "section-digits-resnet20"} <= set(page.ids)
    assert page.tags.count("article") == 2  # findings 2 and 3a: the others need corrupted images or channels


def test_a_report_starts_no_jax_and_its_import_is_light(written):
    code = f"""
import sys
from jaxprune import report
heavy = [name for name in ("jax", "matplotlib", "pandas", "jinja2") if name in sys.modules]
assert not heavy, f"imported {{heavy}}"
report.write({str(written)!r})
assert "jax" not in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    root = str(next(iter(jaxprune.__path__))).removesuffix("jaxprune")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_library_is_named_with_its_cure(run_folder, clean_rows, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("jaxprune.report.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(report, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs jinja2.*pip install 'jaxprune\[study\]'"):
        report.write(run_folder(clean_rows))


def test_the_words_that_mislead_are_not_used(text):
    assert not re.search(r"\b(mce|ratios?)\b", text, flags=re.IGNORECASE)


def test_a_heat_map_text_stands_out_from_its_cell():
    for reverse in (False, True):
        colour_map = drawing.heat_map(reverse=reverse)
        for value in np.linspace(0, 1, 41):
            background = colour_map(value)
            contrast = [drawing.contrast(background, colour) for colour in ((0, 0, 0), (1, 1, 1))]
            chosen = {"#000000": contrast[0], "#ffffff": contrast[1]}[drawing.readable_on(background)]
            assert chosen == max(contrast)
            assert chosen >= 4.5
