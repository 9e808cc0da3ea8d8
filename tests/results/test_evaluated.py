"""What `jaxprune evaluate --out` writes, `jaxprune report` reads."""

import json

import jax
import pytest

from jaxprune import checkpoints, cli, data, models, pruning
from tests.report import pages

SHAPE = {"num_classes": 10, "stage_widths": (4, 4, 4), "mean": data.CIFAR10_MEAN, "std": data.CIFAR10_STD}
SETS = ["--dataset", "digits", "--limit", "40", "--corruptions", "contrast", "--severities", "3", "--batch-size", "40"]


def run(*arguments):
    assert cli.main([str(each) for each in arguments]) == 0


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for seed in (0, 1):
        net = models.create("resnet8", key=jax.random.key(seed), **SHAPE)
        checkpoints.save(folder / f"dense{seed}", net)
        masked, masks = pruning.prune(net, method="weight", sparsity=0.5)
        said = {"method": "weight", "sparsity": 0.5, "seed": 0, "source": str(folder / f"dense{seed}")}
        checkpoints.save(folder / f"weight{seed}", masked, masks=masks, metadata=said)
    checkpoints.save(folder / "masked", masked, masks=masks)
    return folder


def rows_of(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_a_report_is_made_of_an_evaluation_and_shows_its_numbers(networks, tmp_path):
    out = tmp_path / "out"
    run("evaluate", networks / "dense0", networks / "weight0", *SETS, "--out", out, "--keep-examples")
    rows = rows_of(out)
    assert [(row["classifier"], row["corruption"]) for row in rows] == [
        *(("dense0", "clean"), ("weight0", "clean"), ("dense0", "contrast"), ("weight0", "contrast"))
    ]
    dense, pruned = rows[:2]
    assert (dense["method"], dense["stage"], dense["granularity"]) == ("dense", "dense", "none")
    assert (pruned["method"], pruned["stage"], pruned["granularity"]) == ("weight", "pruned", "weights")
    assert (dense["arm"], pruned["arm"]) == ("resnet8", "resnet8")
    assert pruned["sparsity"] == 0.5 == pytest.approx(pruned["sparsity_achieved"], abs=0.01)
    assert pruned["num_nonzero"] < dense["num_nonzero"] <= dense["num_parameters"] == pruned["num_parameters"]
    run("report", out)
    page = pages.Page((out / "report.html").read_text())
    networks_table, accuracies, _ = page.tables_with("Method", "Stage", "Sparsity, %")
    methods = {"dense": "dense", "weight": "weight pruning"}
    for row in rows:
        of_network, accuracy = (
            next(line for line in table if line["Method"] == methods[row["method"]])
            for table in (networks_table, accuracies)
        )
        assert accuracy["Clean" if not row["severity"] else "Severity 3"] == f"{100 * row['accuracy']:.1f}"
        assert of_network["Non-zero parameters"] == f"{row['num_nonzero']:,}"
        if not row["severity"]:
            assert of_network["Clean ECE, equal-mass, %"] == f"{100 * row['ece_equal_mass_10']:.1f}"


def test_networks_that_would_be_one_are_told_apart(networks, tmp_path):
    everything = [networks / name for name in ("dense0", "dense1", "weight0", "weight1")]
    run("evaluate", *everything, *SETS[:4], "--corruptions", "--out", tmp_path / "out")
    arms = {row["classifier"]: row["arm"] for row in rows_of(tmp_path / "out")}
    assert arms == {"dense0": "dense0", "weight0": "dense0", "dense1": "dense1", "weight1": "dense1"}
    run("evaluate", networks / "masked", *SETS[:4], "--corruptions", "--out", tmp_path / "alone")
    (row,) = rows_of(tmp_path / "alone")
    assert (row["method"], row["granularity"], row["stage"]) == ("pruned", "weights", "pruned")
    assert row["sparsity"] == row["sparsity_achieved"] == pytest.approx(0.5, abs=0.01)
    run("report", tmp_path / "alone")
