"""Two checkpoints: a difference that is there is found, none is not, and what cannot be compared is refused."""

import numpy as np
import pytest
from scipy import stats

from jaxprune import report
from jaxprune.report import comparing
from tests.report import simulation

SETS = ("clean-0", "fog-3", "contrast-5")


@pytest.fixture
def pair():
    """Returns a function that gives two networks' outputs on three test sets."""

    def outputs_of(first, second, n=3000):
        images = simulation.Images(n)
        return tuple({name: images.outputs(gap) for name in SETS} for gap in (first, second))

    return outputs_of


def test_a_difference_is_found_in_every_measure_and_has_its_sign(pair):
    found = report.compare(*pair(0.02, 0.15), num_resamples=400)
    assert len(found) == (len(SETS) + 1) * len(comparing.MEASURES)
    assert all(each.is_significant for each in found)
    for each in found:
        assert each.low < each.difference < each.high
        assert each.difference == pytest.approx(each.second - each.first, abs=1e-12)
        assert (each.difference < 0) == (each.measure == "accuracy")
        if each.measure in ("accuracy", "ece_equal_width_10"):
            assert abs(each.difference) == pytest.approx(0.13, abs=0.03)
    assert found[-1].test_set == "mean over corruptions"
    assert found[-1].high - found[-1].low < found[3].high - found[3].low


def test_equal_checkpoints_do_not_differ(pair):
    same, _ = pair(0.1, 0.1)
    found = report.compare(same, same, num_resamples=50)
    assert {(each.difference, each.low, each.high, each.p_value) for each in found} == {(0, 0, 0, 1)}


def test_networks_that_differ_by_chance_rarely_differ_significantly():
    claims = []
    for seed in range(40):
        images = simulation.Images(500, seed)
        both = ({"clean-0": images.outputs(0.08)} for _ in range(2))
        claims.append(any(each.is_significant for each in report.compare(*both, num_resamples=200, seed=seed)))
    assert np.mean(claims) <= 0.125  # Holm bounds it by 5 %; the standard deviation of 40 is 3.4 points


def test_accuracy_has_the_p_value_of_mcnemars_exact_test(pair):
    first, second = pair(0.10, 0.12, 400)
    one = ({"clean-0": each["clean-0"]} for each in (first, second))
    found = {each.measure: each for each in report.compare(*one, num_resamples=400)}
    right = first["clean-0"].correct, second["clean-0"].correct
    lost, gained = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    exact = stats.binomtest(lost, lost + gained).pvalue
    assert exact * (1 - 1e-9) <= found["accuracy"].p_value <= 4 * exact


def test_folders_and_files_are_read_and_only_shared_test_sets_compared(pair, tmp_path):
    first, second = pair(0.02, 0.15)
    for name, found in first.items():
        simulation.save(tmp_path / "a" / f"{name}.npz", found)
    simulation.save(tmp_path / "b" / "fog-3.npz", second["fog-3"])
    found = report.compare(tmp_path / "a", tmp_path / "b", num_resamples=50)
    assert {each.test_set for each in found} == {"fog-3"}
    single = report.compare(tmp_path / "a" / "fog-3.npz", str(tmp_path / "b" / "fog-3.npz"), num_resamples=50)
    assert single == found


def test_the_table_has_a_line_each_and_stars(pair):
    text = report.comparison_text(report.compare(*pair(0.02, 0.15), num_resamples=50)).splitlines()
    assert text[0].split() == [
        "test",
        "set",
        "measure",
        "first",
        "second",
        "difference",
        "95",
        "%",
        "interval",
        "p",
        "(Holm)",
    ]
    assert len(text) == 1 + 16 + 1
    assert all(line.endswith("*") for line in text[1:-1])
    assert text[-1] == "* 16 of 16 differ after Holm's correction; n = 3000, paired."


def test_a_loss_that_overflowed_is_unknown_and_the_rest_is_not(pair):
    first, second = pair(0.02, 0.15)
    losses = first["clean-0"].negative_log_likelihood.copy()
    losses[3] = np.inf
    first["clean-0"] = first["clean-0"]._replace(negative_log_likelihood=losses)
    found = {(each.test_set, each.measure): each for each in report.compare(first, second, num_resamples=50)}
    unknown = found["clean-0", "negative_log_likelihood"]
    assert np.isnan(unknown.p_value)
    assert not unknown.is_significant
    assert found["clean-0", "brier_score"].is_significant
    assert "unknown" in report.comparison_text(list(found.values()))


def test_what_cannot_be_compared_is_refused(pair, tmp_path):
    first, second = pair(0.1, 0.1, 50)
    with pytest.raises(ValueError, match="no test set is in both: one has clean-0, the other fog-3; evaluate both"):
        report.compare({"clean-0": first["clean-0"]}, {"fog-3": second["fog-3"]})
    other = {"fog-3": second["fog-3"]._replace(labels=second["fog-3"].labels[::-1])}
    with pytest.raises(ValueError, match="labels of test set fog-3 differ"):
        report.compare(first, other)
    with pytest.raises(ValueError, match="a dict of outputs is empty"):
        report.compare(first, {})
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz files"):
        report.compare(first, tmp_path)
    with pytest.raises(FileNotFoundError, match="no examples at"):
        report.compare(first, tmp_path / "nowhere.npz")
