"""What a page says of the published protocol is what the rows say was done, whatever the configuration looks like."""

import dataclasses

import pytest

from jaxprune import report, study
from tests.report import runs
from tests.report.pages import Page
from tests.report.runs import CONFIG, fake_rows

PAPER = dataclasses.replace(
    CONFIG, pretrain=study.TrainConfig(epochs=160), finetune=study.TrainConfig(epochs=40, schedule="constant")
)
TRAINING, FINE_TUNING = "Epochs of training", "Epochs of fine-tuning"


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


def protocols(folder):
    return Page(report.write(folder).read_text()).protocols()


def test_every_deviation_is_named(run_folder):
    (found,) = protocols(run_folder(fake_rows(methods=("weight",))))
    assert found == {
        "Data set": ("digits", "differs"),
        TRAINING: ("20", "differs"),
        FINE_TUNING: ("5", "differs"),
        "Seeds": ("1", "differs"),
        "Test images": ("400", "differs"),
        "Corruptions": ("6 (1 of them not in the protocol)", "differs"),
        "Severities": ("5", "met"),
        "Sparsities": ("30 %, 50 %, 70 %, 90 %", "differs"),
    }


def test_arms_have_their_own_epochs_and_not_those_of_the_study_above_them(run_folder):
    config = dataclasses.replace(PAPER, arms=(arm("a-short", 3, 2), arm("b-as-the-study"), arm("c-half", 3)))
    rows = [row for each in config.arms for row in rows_of(each.name, config)]
    found = protocols(run_folder(rows, config))
    assert [each[TRAINING] for each in found] == [("3", "differs"), ("160", "met"), ("3", "differs")]
    assert [each[FINE_TUNING] for each in found] == [("2", "differs"), ("40", "met"), ("40", "met")]


def test_rows_without_a_study_still_say_their_epochs(run_folder):
    (found,) = protocols(run_folder(rows_of("resnet8", PAPER), None))
    assert (found[TRAINING], found[FINE_TUNING]) == (("160", "met"), ("40", "met"))


@pytest.mark.parametrize("config", [CONFIG, PAPER], ids=["short", "paper"])
def test_what_older_rows_do_not_say_is_not_guessed(run_folder, config):
    rows = rows_of("resnet8", config)
    for row in rows:
        del row["pretrain_epochs"], row["finetune_epochs"]
    (found,) = protocols(run_folder(rows, config))
    assert found[TRAINING] == found[FINE_TUNING] == ("not recorded", "unknown")


def test_a_folder_that_says_it_of_some_rows_only_is_not_taken_for_whole(run_folder):
    rows = rows_of("resnet8", PAPER)
    del rows[0]["pretrain_epochs"]
    (found,) = protocols(run_folder(rows, PAPER))
    assert found[TRAINING] == ("160 (not recorded in 1 row)", "unknown")
    assert found[FINE_TUNING] == ("40", "met")


def test_networks_before_fine_tuning_do_not_count_as_fine_tuned(run_folder):
    rows = [row for row in rows_of("resnet8", PAPER) if row["stage"] != "fine_tuned"]
    (found,) = protocols(run_folder(rows, PAPER))
    assert found[TRAINING] == ("160", "met")
    assert found[FINE_TUNING] == ("none: no fine-tuned network was measured", "differs")


def test_an_imported_network_was_not_trained_for_zero_epochs_and_another_arm_was(run_folder, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"only its hash is asked for here")
    config = dataclasses.replace(
        PAPER, arms=(arm("a-imported", 0, 1, str(weights)), arm("b-untrained", 0, 1), arm("c-on", 3, 1, str(weights)))
    )
    rows = [row for each in config.arms for row in rows_of(each.name, config)]
    found = [each[TRAINING] for each in protocols(run_folder(rows, config))]
    assert found == [("none here: an imported checkpoint", "unknown"), ("0", "differs"), ("3", "differs")]


def test_the_device_and_the_precision_are_those_of_the_rows(run_folder):
    rows = rows_of("resnet8", CONFIG)
    for index, row in enumerate(rows):
        row.update(precision="bfloat16", device="tpu x4 (TPU v5 lite)" if index else "gpu x1 (H100)")
    page = Page(report.write(run_folder(rows)).read_text())
    for text in ("bfloat16", "tpu x4 (TPU v5 lite)", "gpu x1 (H100)"):
        assert text in page.texts["li"]
        assert any(text in each for each in page.texts["dd"])
    assert "float32" not in page.texts["li"]


def test_the_fixture_is_what_a_study_writes(run_folder):
    folder = run_folder(fake_rows())
    assert runs.CONFIG.name in (folder / "study.json").read_text()
    (found,) = Page(report.write(folder).read_text()).tables_with("Method", "Stage", "Sparsity, %")[:1]
    assert len(found) == 18


def test_every_method_must_have_the_sparsities_and_the_severities_are_those_of_the_protocol(run_folder):
    tenths = [round(0.1 * tenth, 1) for tenth in range(1, 8)]
    full = {"sparsities": tenths, "methods": ("weight", "random"), "corruptions": ()}
    rows = rows_of("a-full", PAPER, **full)
    rows += [row for row in rows_of("b-part", PAPER, **full) if row["method"] == "weight" or row["sparsity"] != 0.3]
    (clean,) = (row for row in rows_of("c-strong", PAPER) if row["method"] == "weight" and row["stage"] == "fine_tuned")
    strong = [clean | {"corruption": "fog", "severity": severity} for severity in (1, 2, 3, 4, 6)]
    full, part, other = protocols(run_folder([*rows, *rows_of("c-strong", PAPER), *strong], PAPER))
    listed = ", ".join(f"{tenth}0 %" for tenth in range(1, 8))
    assert full["Sparsities"] == (listed, "met")
    assert part["Sparsities"] == (f"{listed} (not of every method)", "differs")
    assert other["Severities"] == ("5", "differs")
