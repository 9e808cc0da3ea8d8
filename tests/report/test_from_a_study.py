"""From a study that is really run to the numbers on the page of its report."""

import json

import pytest

from jaxprune import report, study
from tests.report.pages import Page

# What the arm does differs from what stands above it, as it may in any study of several architectures.
PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 3, 2
CONFIG = study.StudyConfig(
    name="tiny",
    data=study.DataConfig(name="digits", train_limit=64, test_limit=40),
    arms=(
        study.ArmConfig(
            "narrow",
            study.ModelConfig(stage_widths=(4, 6, 8)),
            ("weight",),
            pretrain=study.TrainConfig(epochs=PRETRAIN_EPOCHS, batch_size=32, schedule="constant", augment="none"),
            finetune=study.TrainConfig(epochs=FINETUNE_EPOCHS, batch_size=32, schedule="constant", augment="none"),
        ),
    ),
    sparsities=(0.0, 0.5),
    seeds=(0,),
    recalibration_images=0,
    controls=False,
    evaluation=study.EvaluationConfig(corruptions=("contrast",), severities=(1, 5), batch_size=40),
)
METHODS = {"dense": "dense", "weight": "weight pruning"}
STAGES = {"dense": "as trained", "pruned": "before fine-tuning", "fine_tuned": "after fine-tuning"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the run, its rows and the page of its report."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    rows = [json.loads(line) for line in study.run(CONFIG, out, command="test").read_text().splitlines()]
    return out, rows, Page(report.write(out).read_text())


def test_the_epochs_are_those_that_were_trained(finished):
    out, _, page = finished
    (protocol,) = page.protocols()
    assert protocol["Epochs of training"] == (str(PRETRAIN_EPOCHS), "differs")
    assert protocol["Epochs of fine-tuning"] == (str(FINETUNE_EPOCHS), "differs")
    assert protocol["Test images"][0] == "40"
    # The trainings keep a record of every epoch.
    taken = {
        folder.name: sum(len(path.read_text().splitlines()) for path in folder.glob("*.jsonl"))
        for folder in (out / "training").iterdir()
    }
    assert taken["seed0-narrow-trained"] == PRETRAIN_EPOCHS
    assert taken["seed0-narrow-weight-0.5"] == FINETUNE_EPOCHS


def test_the_tables_of_the_page_hold_the_rows(finished):
    _, rows, page = finished
    ((*networks,), (*accuracies,), (*errors,)) = page.tables_with("Method", "Stage", "Sparsity, %")
    assert len(networks) == len(accuracies) == len(errors) == 4
    for row in rows:
        keys = (METHODS[row["method"]], STAGES[row["stage"]], f"{100 * row['sparsity']:g}")
        network, accuracy, error = (
            next(line for line in table if tuple(line[name] for name in ("Method", "Stage", "Sparsity, %")) == keys)
            for table in (networks, accuracies, errors)
        )
        heading = f"Severity {row['severity']}" if row["severity"] else "Clean"
        assert accuracy[heading] == percent(row["accuracy"])
        assert error[heading] == percent(row["ece_equal_width_10"])
        if heading == "Clean":
            assert network["Clean accuracy, %"] == percent(row["accuracy"])
            assert network["Clean ECE, equal-mass, %"] == percent(row["ece_equal_mass_10"])
            assert network["Non-zero parameters"] == f"{row['num_nonzero']:,}"
            assert network["95 % interval"] == f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}"
    corrupted = [row["accuracy"] for row in rows if row["method"] == "weight" and row["stage"] == "fine_tuned"][1:]
    assert networks[-1]["Corrupted accuracy, %"] == percent(sum(corrupted) / len(corrupted))


def test_the_page_names_what_computed_it(finished):
    _, rows, page = finished
    assert {rows[0]["device"], rows[0]["precision"], "4 networks", "1 seed"} <= {
        text.replace("\u00a0", " ") for text in page.texts["li"]
    }


def percent(value):
    return f"{100 * value:.1f}"
