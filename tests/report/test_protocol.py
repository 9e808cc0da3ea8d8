"""What a page says of the published protocol is what the rows say was done, whatever the configuration looks like."""

import dataclasses
import json

import pytest

from jaxprune import report, study
from jaxprune.report import aggregates, protocol
from tests.report.pages import Page
from tests.report.runs import CONFIG, fake_rows

PAPER = dataclasses.replace(
    CONFIG, pretrain=study.TrainConfig(epochs=160), finetune=study.TrainConfig(epochs=40, schedule="constant")
)
TRAINING, FINE_TUNING = "Epochs of training", "Epochs of fine-tuning"
STATES = {True: "met", False: "differs", None: "unknown"}


def arm(name, pretrain=None, finetune=None, checkpoint=None):
    """An arm with its own epochs, or those of the study."""
    trainings = {
        part: None if epochs is None else study.TrainConfig(epochs=epochs)
        for part, epochs in (("pretrain", pretrain), ("finetune", finetune))
    }
    return study.ArmConfig(name, study.ModelConfig(checkpoint=checkpoint), ("weight",), **trainings)


def rows_of(name, config, **options):
    small = {"methods": ("weight",), "sparsities": (0.5,), "corruptions": ()}
    return fake_rows(arm=name, config=config, **(small | options))


def items_of(rows, record=None):
    """Returns what is said of one arm: what was done, and whether that is the protocol's."""
    (of_arm,) = aggregates.arms(aggregates.results(rows))
    found = protocol.protocol_items(of_arm, record or {})
    return {item.name: (item.here.replace("\u00a0", " "), STATES[item.is_met]) for item in found}


def test_arms_have_their_own_epochs_on_the_page_and_not_those_of_the_study_above_them(run_folder):
    config = dataclasses.replace(PAPER, arms=(arm("a-short", 3, 2), arm("b-half", 3)))
    rows = [row for each in config.arms for row in rows_of(each.name, config) if row["stage"] != "pruned"]
    found = Page(report.write(run_folder(rows, config)).read_text()).protocols()
    assert [each[TRAINING] for each in found] == [("3", "differs"), ("3", "differs")]
    assert [each[FINE_TUNING] for each in found] == [("2", "differs"), ("40", "met")]


def test_every_deviation_is_named():
    assert items_of(fake_rows(methods=("weight",))) == {
        "Data set": ("digits", "differs"),
        TRAINING: ("20", "differs"),
        FINE_TUNING: ("5", "differs"),
        "Seeds": ("1", "differs"),
        "Test images": ("400", "differs"),
        "Corruptions": ("6 (1 of them not in the protocol)", "differs"),
        "Severities": ("5", "met"),
        "Sparsities": ("30 %, 50 %, 70 %, 90 %", "differs"),
    }


def test_rows_without_a_study_still_say_their_epochs():
    found = items_of(rows_of("resnet8", PAPER))
    assert (found[TRAINING], found[FINE_TUNING]) == (("160", "met"), ("40", "met"))


@pytest.mark.parametrize("config", [CONFIG, PAPER], ids=["short", "paper"])
def test_what_older_rows_do_not_say_is_not_guessed(run_folder, config):
    rows = rows_of("resnet8", config)
    for row in rows:
        del row["pretrain_epochs"], row["finetune_epochs"]
    record = json.loads((run_folder(rows, config) / "study.json").read_text())
    found = items_of(rows, record)
    assert found[TRAINING] == found[FINE_TUNING] == ("not recorded", "unknown")


def test_a_folder_that_says_it_of_some_rows_only_is_not_taken_for_whole():
    rows = rows_of("resnet8", PAPER)
    del rows[0]["pretrain_epochs"]
    found = items_of(rows)
    assert found[TRAINING] == ("160 (not recorded in 1 row)", "unknown")
    assert found[FINE_TUNING] == ("40", "met")


def test_networks_before_fine_tuning_do_not_count_as_fine_tuned():
    found = items_of([row for row in rows_of("resnet8", PAPER) if row["stage"] != "fine_tuned"])
    assert found[TRAINING] == ("160", "met")
    assert found[FINE_TUNING] == ("none: no fine-tuned network was measured", "differs")


def test_an_imported_network_was_not_trained_for_zero_epochs_and_another_arm_was(run_folder, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"only its hash is asked for here")
    config = dataclasses.replace(
        PAPER, arms=(arm("a-imported", 0, 1, str(weights)), arm("b-untrained", 0, 1), arm("c-on", 3, 1, str(weights)))
    )
    record = json.loads((run_folder([], config) / "study.json").read_text())
    found = [items_of(rows_of(each.name, config), record)[TRAINING] for each in config.arms]
    assert found == [("none here: an imported checkpoint", "unknown"), ("0", "differs"), ("3", "differs")]


def test_every_method_must_have_the_sparsities_and_the_severities_are_those_of_the_protocol():
    tenths = [round(0.1 * tenth, 1) for tenth in range(1, 8)]
    rows = rows_of("resnet8", PAPER, sparsities=tenths, methods=("weight", "random"))
    listed = ", ".join(f"{tenth}0 %" for tenth in range(1, 8))
    assert items_of(rows)["Sparsities"] == (listed, "met")
    part = [row for row in rows if row["method"] != "random" or row["sparsity"] != 0.3]
    assert items_of(part)["Sparsities"] == (f"{listed} (not of every method)", "differs")
    strong = [rows[0] | {"corruption": "fog", "severity": severity} for severity in (1, 2, 3, 4, 6)]
    assert items_of([*rows, *strong])["Severities"] == ("5", "differs")


def test_the_device_and_the_precision_are_those_of_the_rows(run_folder):
    rows = [row for row in rows_of("resnet8", CONFIG) if row["stage"] != "pruned"]
    for index, row in enumerate(rows):
        row.update(precision="bfloat16", device="tpu x4 (TPU v5 lite)" if index else "gpu x1 (H100)")
    page = Page(report.write(run_folder(rows)).read_text())
    for text in ("bfloat16", "tpu x4 (TPU v5 lite)", "gpu x1 (H100)"):
        assert text in page.texts["li"]
        assert any(text in each for each in page.texts["dd"])
    assert "float32" not in page.texts["li"]
