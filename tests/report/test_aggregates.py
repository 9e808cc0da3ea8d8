"""Tables against means that the generator of the rows knows in closed form."""

import numpy as np
import pytest

from jaxprune.report import aggregates
from tests.report import runs
from tests.report.runs import fake_rows

CORRUPTIONS = ("gaussian_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate")


def line(table, **keys):
    for key, value in keys.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture(scope="module")
def three_seeds():
    return aggregates.results(fake_rows(seeds=(2, 0, 1)))


@pytest.fixture(scope="module")
def one_seed():
    return aggregates.results(fake_rows())


@pytest.mark.parametrize(
    ("method", "sparsity", "stage"),
    [("dense", 0.0, "dense"), ("dense", 0.0, "fine_tuned"), ("weight", 0.7, "pruned"), ("random", 0.9, "fine_tuned")],
)
def test_summary_has_the_true_means_and_deviations(three_seeds, method, sparsity, stage):
    network = line(aggregates.summary(three_seeds), method=method, sparsity=sparsity, stage=stage)
    test_sets = [(name, severity) for name in CORRUPTIONS for severity in range(1, 6)]
    for truth, measure in ((runs.accuracy, "accuracy"), (runs.calibration_error, "ece_equal_width_10")):
        # The generator's seeds 0, 1, 2 are equally spaced: seed 1 is the mean, one step the standard deviation.
        clean = [truth(method, sparsity, stage, seed, "clean", 0) for seed in range(3)]
        corrupted = [
            np.mean([truth(method, sparsity, stage, s, *test_set) for test_set in test_sets]) for s in range(3)
        ]
        assert network[f"clean_{measure}_mean"] == pytest.approx(clean[1], abs=1e-12)
        assert network[f"clean_{measure}_sd"] == pytest.approx(abs(clean[1] - clean[0]), abs=1e-12)
        assert network[f"corrupted_{measure}_mean"] == pytest.approx(corrupted[1], abs=1e-12)
        assert network[f"corrupted_{measure}_sd"] == pytest.approx(abs(corrupted[1] - corrupted[0]), abs=1e-12)
    assert network["clean_ece_equal_mass_10_mean"] == pytest.approx(network["clean_ece_equal_width_10_mean"] - 0.003)
    assert (network["clean_seeds"], network["corrupted_seeds"], network["clean_n"]) == (3, 3, 400)
    assert np.isnan(network["clean_accuracy_low"])


def test_one_seed_has_no_deviation_but_a_wilson_interval(one_seed):
    table = aggregates.summary(one_seed)
    assert table["clean_accuracy_sd"].isna().all()
    assert table["corrupted_accuracy_sd"].isna().all()
    assert (table["clean_accuracy_low"] < table["clean_accuracy_mean"]).all()
    assert (table["clean_accuracy_mean"] < table["clean_accuracy_high"]).all()


def test_by_severity_averages_over_the_corruptions(three_seeds):
    table = aggregates.by_severity(three_seeds)
    found = line(table, method="weight", sparsity=0.5, stage="fine_tuned", severity=4)
    truth = np.mean([runs.accuracy("weight", 0.5, "fine_tuned", 1, name, 4) for name in CORRUPTIONS])
    assert found["accuracy_mean"] == pytest.approx(truth, abs=1e-12)
    assert found["accuracy_sd"] == pytest.approx(0.004, abs=1e-12)
    clean = line(table, method="weight", sparsity=0.5, stage="fine_tuned", severity=0)
    assert clean["accuracy_mean"] == pytest.approx(runs.accuracy("weight", 0.5, "fine_tuned", 1, "clean", 0), abs=1e-12)


def test_by_corruption_averages_over_the_severities(three_seeds):
    found = line(
        aggregates.by_corruption(three_seeds), method="random", sparsity=0.3, stage="pruned", corruption="contrast"
    )
    truth = np.mean([runs.accuracy("random", 0.3, "pruned", 1, "contrast", severity) for severity in range(1, 6)])
    assert found["accuracy_mean"] == pytest.approx(truth, abs=1e-12)


def test_a_mean_with_an_unknown_value_is_unknown():
    rows = fake_rows(seeds=(0, 1))
    for row in rows:
        if (row["method"], row["sparsity"], row["seed"]) == ("random", 0.9, 1) and row["corruption"] == "contrast":
            row["ece_equal_width_10"] = None
    network = line(aggregates.summary(aggregates.results(rows)), method="random", sparsity=0.9, stage="pruned")
    assert np.isnan(network["corrupted_ece_equal_width_10_mean"])
    assert np.isfinite(network["corrupted_accuracy_mean"])
    assert np.isfinite(network["clean_ece_equal_width_10_mean"])


def test_the_order_of_the_rows_does_not_matter():
    rows = fake_rows(seeds=(0, 1))
    assert aggregates.results(rows[::-1]).equals(aggregates.results(rows))


def test_dense_comes_first_and_random_last(one_seed):
    names = list(dict.fromkeys(aggregates.summary(one_seed)["method"]))
    assert names == ["dense", "weight", "random"]
    assert aggregates.methods(one_seed) == ["weight", "random"]
    assert aggregates.stages(one_seed) == ["fine_tuned", "pruned"]


def test_networks_of_different_architectures_are_never_averaged():
    both = aggregates.results([*fake_rows(), *fake_rows(model="resnet20")])
    assert [arm["model"].iloc[0] for arm in aggregates.arms(both)] == ["resnet20", "resnet8"]
    assert len(aggregates.summary(both)) == 2 * len(aggregates.summary(aggregates.results(fake_rows())))


def test_a_network_without_all_test_sets_is_left_out_of_corrupted_means(one_seed):
    rows = fake_rows()
    lost = {"method": "weight", "sparsity": 0.9, "stage": "fine_tuned", "corruption": "pixelate", "severity": 5}
    table = aggregates.results([row for row in rows if any(row[key] != value for key, value in lost.items())])
    gaps = aggregates.missing_test_sets(table)
    assert gaps[["method", "sparsity", "stage", "missing"]].values.tolist() == [["weight", 0.9, "fine_tuned", 1]]
    network = line(aggregates.summary(table), method="weight", sparsity=0.9, stage="fine_tuned")
    whole = line(aggregates.summary(one_seed), method="weight", sparsity=0.9, stage="fine_tuned")
    assert np.isnan(network["corrupted_accuracy_mean"])
    assert network["corrupted_seeds"] == 0
    assert network["clean_accuracy_mean"] == whole["clean_accuracy_mean"]
    assert aggregates.missing_test_sets(one_seed).empty


def test_the_curve_starts_at_the_dense_network_of_its_stage(one_seed):
    table = aggregates.summary(one_seed)
    for stage, dense_stage in (("pruned", "dense"), ("fine_tuned", "fine_tuned")):
        curve = aggregates.curve(table, "weight", stage)
        assert curve["sparsity"].tolist() == [0.0, 0.3, 0.5, 0.7, 0.9]
        truth = runs.accuracy("dense", 0.0, dense_stage, 0, "clean", 0)
        assert curve["clean_accuracy_mean"].iloc[0] == pytest.approx(truth, abs=1e-12)


def test_without_a_fine_tuned_dense_network_the_one_as_trained_is_the_baseline(one_seed):
    table = aggregates.summary(one_seed)
    table = table[(table["method"] != "dense") | (table["stage"] == "dense")]
    assert aggregates.baseline(table, "fine_tuned")["stage"].tolist() == ["dense"]
