"""The page of a full run in a browser: several arms with outputs and images, no error, nothing asked of the network."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from etils import epath

from jaxprune import report, study
from jaxprune.results import images, rows
from jaxprune.study import images as study_images
from tests.report import runs, simulation
from tests.report.pages import Page
from tests.report.runs import fake_rows

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    """Writes a report with two arms, outputs and images, once."""
    folder = tmp_path_factory.mktemp("full")
    wanted = []
    for arm, granularity, methods in (
        ("wide-weight", "weights", ("weight",)),
        ("narrow-slim", "channels", ("weight",)),
    ):
        options = {"methods": methods, "seeds": (0, 1), "sparsities": (0.3, 0.7), "corruptions": ("contrast",)}
        for row in fake_rows(**options):
            if row["severity"] in (0, 1, 5) and row["stage"] != "pruned":
                pruned = {"method": "slimming", "granularity": granularity} if granularity == "channels" else {}
                wanted.append(row | {"arm": arm} | (pruned if row["method"] != "dense" else {}))
    simulation.write_run(
        folder, wanted, lambda row: 0.05 + 0.04 * row["severity"] + 0.05 * row["sparsity"], config=runs.CONFIG
    )
    measured = rows.read(epath.Path(folder))
    places, sets = study_images.exemplars(measured, folder), study_images.gallery_sets(measured)
    rng = np.random.default_rng(0)
    pixels = {place: rng.integers(0, 256, (8, 8, 3), np.uint8) for place in places[: images.MAX_EXEMPLARS]}
    gallery = {(place, name): pixels[place] for place in places[:4] for name in sets}
    images.write(folder, pixels, gallery, [f"kind {index}" for index in range(10)])
    report.write(folder)
    return folder


def test_the_full_page_shows_all_its_parts(full_run):
    text = (full_run / "report.html").read_text()
    for arm in ("wide-weight", "narrow-slim"):
        for name in ("clean", "corrupted-accuracy", "corruptions-calibration", "trade-off", "reliability", "classes"):
            assert f'<figure id="digits-{arm.replace("-", "_")}-{name}">' in text
            assert (full_run / "figures" / f"digits-{arm.replace('-', '_')}-{name}.pdf").exists()
    assert text.index('id="verdicts"') < text.index('id="together"') < text.index("What happened")
    assert [name for name in ("2", "3a", "3b", "4a", "4b", "5a", "5b") if f'id="finding-{name}"' not in text] == []
    assert text.count('src="data:image/png;base64,') > 30
    assert "kind 3" in text
    assert len(re.findall(r"<figcaption>[^<]*(?:interval|bars)[^<]*</figcaption>", text)) >= 14
    without = [
        caption
        for caption in re.findall(r"<figure id=.*?<figcaption>(.*?)</figcaption>", text, re.DOTALL)
        if "seeds" not in caption
    ]
    assert without == []


def test_the_verdicts_are_a_table_too(full_run):
    lines = (full_run / "verdicts.csv").read_text().splitlines()
    assert lines[0].startswith("arm,finding,subject,outcome,comparison")
    assert {line.split(",")[0] for line in lines[1:]} == {"wide-weight", "narrow-slim"}


def test_two_runs_side_by_side_show_what_differs(full_run, tmp_path):
    folders = []
    for name, epochs, gap in (("first", 5, 0.05), ("second", 6, 0.20)):
        training = dataclasses.replace(runs.CONFIG.pretrain, epochs=epochs)
        arms = (study.ArmConfig("wide-weight", study.ModelConfig(), ("weight",), pretrain=training),)
        config = dataclasses.replace(runs.CONFIG, arms=arms)
        options = {"methods": ("weight",), "sparsities": (0.3,), "corruptions": ()}
        wanted = [row for row in fake_rows(**options, arm="wide-weight", config=config) if row["stage"] != "pruned"]
        folders.append(simulation.write_run(tmp_path / name, wanted, lambda row, gap=gap: gap, config=config))
    path = report.write(folders)
    assert path == folders[0] / "comparison" / "report.html"
    text = path.read_text()
    ((*different,),) = Page(text).tables_with("Field", "first", "second")
    assert different == [{"Field": "arms.wide-weight.pretrain.epochs", "first": "5", "second": "6"}]
    side = (path.parent / "tables" / "all-side_by_side_digits_wide_weight.md").read_text().replace("\u00a0", " ")
    line = next(line for line in side.splitlines() if "| 30 | clean accuracy |" in line)
    change = float(line.split("|")[-2].split("(")[0].replace("\u2212", "-"))
    assert change == pytest.approx(-15, abs=6)
    assert "the 1 test set that all have" in side
    with open(path.parent / "results.csv") as file:
        assert [line.split(",")[0] for line in file][:: len(wanted)] == ["run", "first", "second"]
    with pytest.raises(ValueError, match="given twice"):
        report.write([folders[0], folders[0]])
    with pytest.raises(ValueError, match="no run folder was given"):
        report.write([])


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser found; install one of {', '.join(BROWSERS)}")
    return found


def open_page(browser, page, tmp_path):
    """Returns the page after its script has run, what it loaded, and the lines of the browser's console."""
    # The page's own policy lets nothing be loaded; what is tried nonetheless is an error on the console.
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    asked = f"<script>addEventListener('load', () => {{ document.title = JSON.stringify({loaded}); }});</script>"
    opened = tmp_path / "opened.html"
    opened.write_text(page.replace("</body>", f"{asked}</body>"))
    command = (browser, *QUIET, "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom")
    done = subprocess.run([*command, f"file://{opened}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    return done.stdout, loaded, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_a_browser_runs_the_page_without_error_or_request(browser, full_run, tmp_path):
    page, loaded, console = open_page(browser, (full_run / "report.html").read_text(), tmp_path)
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert console == []
    # The script ran: one choice is shown, the others are hidden, and texts of points have become labels.
    figure = re.search(r'<figure id="digits-wide_weight-trade-off">.*?</figure>', page, re.DOTALL)[0]
    hidden = {"hidden" in tag for tag in re.findall(r'<div data-choice="1"[^>]*>', figure)}
    shown = {"hidden" in tag for tag in re.findall(r'<div data-choice="0"[^>]*>', figure)}
    assert (hidden, shown) == ({True}, {False})
    assert 'class="tip"' in figure
    assert "<title>" not in figure


def test_the_browser_would_have_seen_an_error_and_a_request(browser, tmp_path):
    _, loaded, console = open_page(browser, "<body><script>nothing()</script></body>", tmp_path)
    assert "nothing is not defined" in console[0]
    address = "http://127.0.0.1:9/image.png"
    _, loaded, _ = open_page(browser, f"<body><img src='{address}'></body>", tmp_path)
    assert loaded == [address]
