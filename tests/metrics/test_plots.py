"""Figures draw what they are given, on the axes they are given."""

import subprocess
import sys

import numpy as np
import pytest

from jaxprune import metrics
from jaxprune.metrics import plots

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def ax():
    return figure.Figure().add_subplot()


def test_the_reliability_diagram_shows_occupied_bins(oracles, ax):
    case = oracles.problem(60)
    diagram = metrics.reliability_diagram(case.probs, case.labels, num_bins=8)
    occupied = np.asarray(diagram.count) > 0
    assert 1 < occupied.sum() < 8
    assert plots.reliability_diagram(diagram, ax=ax, label="dense") is ax
    points = ax.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xdata(), diagram.confidence[occupied])
    np.testing.assert_allclose(points.get_ydata(), diagram.accuracy[occupied])
    heights = np.array([bar.get_height() for bar in ax.patches])
    np.testing.assert_allclose(heights / heights.sum(), diagram.count[occupied] / 60, rtol=1e-6)
    (bands,) = ax.containers[0].lines[2]
    low, high = metrics.wilson_interval(diagram.accuracy * diagram.count, diagram.count)
    drawn = np.array([segment[:, 1] for segment in bands.get_segments()])
    np.testing.assert_allclose(drawn, np.stack([low, high], axis=1)[occupied], atol=1e-6)
    assert ax.get_legend().texts[0].get_text() == "dense"


def test_two_models_share_axes_and_one_diagonal(oracles, ax):
    for seed in (60, 62):
        case = oracles.problem(seed)
        plots.reliability_diagram(metrics.reliability_diagram(case.probs, case.labels), ax=ax, label=str(seed))
    assert sum(line.get_gid() == "diagonal" for line in ax.lines) == 1


def test_calibration_by_severity(ax):
    errors = {"dense": np.array([0.02, 0.03, 0.05]), "pruned": [0.02, 0.04, 0.08]}
    bands = {"pruned": ([0.01, 0.03, 0.07], [0.03, 0.05, 0.09])}
    assert plots.calibration_by_severity(errors, ax=ax, intervals=bands) is ax
    assert [line.get_label() for line in ax.lines] == ["dense", "pruned"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), errors["pruned"])
    assert len(ax.collections) == 1
    with pytest.raises(ValueError, match=r"intervals name \['other'\], which errors do not have"):
        plots.calibration_by_severity(errors, ax=ax, intervals={"other": bands["pruned"]})


def test_the_risk_coverage_curve(oracles, ax):
    case = oracles.problem(60)
    curve = metrics.risk_coverage(case.probs, case.labels)
    assert plots.risk_coverage({"dense": curve}, ax=ax) is ax
    np.testing.assert_allclose(ax.lines[0].get_ydata(), curve.risk)
    assert abs(curve.risk[-1] - (1 - metrics.accuracy(case.probs, case.labels))) < 1e-6


def test_axes_are_made_when_none_are_given(oracles, tmp_path):
    case = oracles.problem(60)
    ax = plots.reliability_diagram(metrics.reliability_diagram(case.probs, case.labels))
    ax.figure.savefig(tmp_path / "diagram.png")
    assert (tmp_path / "diagram.png").stat().st_size > 1000


def test_metrics_do_without_matplotlib():
    code = "import sys; from jaxprune import metrics; assert 'matplotlib' not in sys.modules; metrics.accuracy"
    subprocess.run([sys.executable, "-c", code], check=True)
