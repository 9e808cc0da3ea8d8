"""Verdicts on runs whose truth is known: an effect is found, none is not, and too little data is called that."""

import re

import numpy as np
import pytest
from etils import epath

from jaxprune import report
from jaxprune.report import aggregates, findings, verdicts
from jaxprune.report.measurements import CLEAN_SET, ECE, ArmResults, Variant
from jaxprune.report.verdicts import CONFIRMED, NOT_CONFIRMED, NOT_ENOUGH
from jaxprune.results import outputs, rows, schema
from tests.report import runs, simulation
from tests.report.runs import fake_rows

CORRUPTION_GAP = 0.35


@pytest.fixture
def judged(tmp_path):
    """Returns a function that writes a run with the given gaps and returns its verdicts by finding."""

    def judge(gap_of, *, seeds=(0, 1, 2), keep=True, granularity="weights", n=1500, stages=("dense", "fine_tuned")):
        folder = epath.Path(tmp_path / "run")
        folder.mkdir(exist_ok=True)
        method = "weight" if granularity == "weights" else "slimming"
        wanted = [
            row | {"method": method, "granularity": granularity} if row["method"] != "dense" else row
            for row in fake_rows(methods=("weight",), seeds=seeds, sparsities=(0.3, 0.4), corruptions=("contrast",))
            if row["stage"] in stages and row["severity"] in (0, 1, 5)
        ]
        simulation.write_run(folder, wanted, gap_of, n=n, keep=keep)
        (of_arm,) = aggregates.arms(aggregates.results(rows.read(folder)))
        return {
            each.question.finding: each for each in findings.verdicts(ArmResults(of_arm, folder, num_resamples=400))
        }

    return judge


def gaps(*, dense, pruned, corrupted=CORRUPTION_GAP, sd=0.003):
    """Returns the gap of each row: by method, seed and whether the images are corrupted."""

    def gap_of(row):
        gap = dense if row["method"] == "dense" else pruned
        return gap + sd * (row["seed"] - 1) + (corrupted * row["severity"] / 5)

    return gap_of


def check_sentences(found):
    """Every verdict says its numbers with intervals, or that data are lacking."""
    for each in found.values():
        assert each.comparisons
        assert "95 % interval" in each.sentence or (each.outcome == NOT_ENOUGH and "no interval" in each.sentence)
        assert (
            re.search(r"\d seeds?; intervals over", each.sentence.replace("\u00a0", " ")) or each.outcome == NOT_ENOUGH
        )


def test_effects_that_are_there_are_confirmed(judged):
    found = judged(gaps(dense=0.10, pruned=0.03))
    check_sentences(found)
    assert {name: each.outcome for name, each in found.items()} == {
        "2": CONFIRMED,
        "3a": NOT_CONFIRMED,  # the true clean accuracy is at most 77 %
        "3b": CONFIRMED,  # and 42 % at severity 5
        "4a": CONFIRMED,  # from 3 % to 38 %: more than eleven times as much
        "4b": CONFIRMED,
        "5b": CONFIRMED,
    }
    below = found["2"]
    assert (below.subject, len(below.comparisons)) == ("weight pruning", 2)
    for each in below.comparisons:
        assert each.estimate.low < -0.07 < each.estimate.high < 0
    assert "is below 0 points in all 2 comparisons" in below.sentence.replace("\u00a0", " ")
    assert "Contradicted in 3" in found["3a"].sentence


def test_effects_that_are_not_there_are_not(judged):
    found = judged(gaps(dense=0.10, pruned=0.10, corrupted=0.2))
    check_sentences(found)
    outcomes = {name: each.outcome for name, each in found.items()}
    assert outcomes["2"] == outcomes["4a"] == outcomes["4b"] == NOT_CONFIRMED
    assert {each.state for each in found["2"].comparisons} == {verdicts.NOT_SETTLED}
    assert {each.state for each in found["4b"].comparisons} == {verdicts.CONTRADICTED}


def test_the_contrary_is_called_contradicted(judged):
    below = judged(gaps(dense=0.02, pruned=0.12))["2"]
    assert below.outcome == NOT_CONFIRMED
    assert {each.state for each in below.comparisons} == {verdicts.CONTRADICTED}


def test_one_seed_is_not_enough_for_a_claim_about_a_method(judged):
    found = judged(gaps(dense=0.10, pruned=0.03), seeds=(0,))
    check_sentences(found)
    assert {name for name, each in found.items() if each.outcome == NOT_ENOUGH} == {"2", "5b"}
    assert "There is one seed" in found["2"].sentence
    assert "intervals over test images" in found["3b"].sentence


def test_rows_alone_judge_accuracy_and_with_three_seeds_the_rest(judged):
    several = judged(gaps(dense=0.10, pruned=0.03, sd=0.001), keep=False, n=4000)
    assert several["2"].outcome == CONFIRMED
    assert "intervals over seeds, the images fixed" in several["2"].sentence
    one = judged(gaps(dense=0.10, pruned=0.03), keep=False, seeds=(0,))
    check_sentences(one)
    outcomes = {name: each.outcome for name, each in one.items()}
    assert outcomes == {
        "2": NOT_ENOUGH,
        "3a": NOT_CONFIRMED,
        "3b": CONFIRMED,
        "4a": NOT_ENOUGH,
        "4b": NOT_ENOUGH,
        "5b": NOT_ENOUGH,
    }


@pytest.mark.parametrize(("pruned", "outcome"), [(0.10, CONFIRMED), (0.18, NOT_CONFIRMED)])
def test_channels_keep_calibration_within_the_margin_or_not(judged, monkeypatch, pruned, outcome):
    monkeypatch.setattr(findings, "MARGIN", 0.03)  # one point takes more images than a test should have
    found = judged(gaps(dense=0.10, pruned=pruned, sd=0.001), granularity="channels", n=4000)
    assert set(found) == {"3a", "3b", "4a", "4b", "5a"}
    assert (found["5a"].subject, found["5a"].outcome) == ("network slimming", outcome)


def test_a_temperature_that_helps_clean_images_alone_is_seen(tmp_path):
    folder = epath.Path(tmp_path)
    kept = [
        row
        for row in fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))
        if row["severity"] in (0, 5)
    ]
    fitted = [row | {"stage": "temperature"} for row in kept if row["stage"] == "fine_tuned"]

    def gap_of(row):
        if row["stage"] == "temperature":
            return 0.25 if row["severity"] else 0.01
        return 0.15 if row["severity"] else 0.10

    simulation.write_run(folder, [*kept, *fitted], gap_of, n=2000)
    (of_arm,) = aggregates.arms(aggregates.results(rows.read(folder)))
    found = next(
        each for each in findings.verdicts(ArmResults(of_arm, folder)) if each.question is findings.TEMPERATURE
    )
    assert found.outcome == NOT_CONFIRMED
    assert {each.state for each in found.comparisons} == {verdicts.CONTRADICTED}
    assert found.sentence.endswith("On clean images it is below zero in 2 of 2.")


def test_without_a_dense_network_there_is_no_verdict():
    pruned = [row for row in fake_rows() if row["method"] != "dense"]
    (of_arm,) = aggregates.arms(aggregates.results(pruned))
    assert findings.verdicts(ArmResults(of_arm)) == []


def test_every_question_defines_what_confirmed_means():
    names = [question.finding for question in findings.QUESTIONS]
    assert len(set(names)) == len(names)
    assert all(question.claim and question.definition.endswith(".") for question in findings.QUESTIONS)


@pytest.fixture
def small_run(tmp_path):
    wanted = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=())
    simulation.write_run(tmp_path, wanted, gaps(dense=0.1, pruned=0.1), n=100)
    return tmp_path, wanted


def test_levels_of_controls_too_have_an_interval_and_it_ends_at_zero(tmp_path):
    wanted = fake_rows(methods=("random",), sparsities=(0.5,), corruptions=(), seeds=(0, 1))
    simulation.write_run(tmp_path, wanted, lambda row: 0.12 * row["seed"], n=300)
    (of_arm,) = aggregates.arms(aggregates.results(rows.read(tmp_path)))
    arm = ArmResults(of_arm, tmp_path, num_resamples=100)
    control = Variant("random", "fine_tuned", 0.5)
    error = arm.level(control, [CLEAN_SET], ECE)
    assert error.low == 0.0 < error.value < error.high < 1.0


def test_outputs_of_another_run_are_refused(small_run):
    folder, wanted = small_run
    path = outputs.path_of(folder, wanted[0])
    other = simulation.Images(100).outputs(0.5)
    simulation.save(path, other)
    with pytest.raises(ValueError, match=r"clean-0\.npz has \d+ correct of 100 images, its row .* different runs"):
        report.write(folder)


def test_outputs_on_other_images_are_refused(small_run):
    folder, wanted = small_run
    path = outputs.path_of(folder, wanted[-1])
    found = outputs.read(path)
    shuffled = outputs.Outputs(*(array[::-1] for array in found))
    simulation.save(path, shuffled)
    with pytest.raises(ValueError, match="other labels .* cannot be compared pair by pair"):
        report.write(folder)


@pytest.mark.parametrize("what", ["damaged", "incomplete", "shapes"])
def test_a_file_that_holds_no_outputs_is_named(small_run, what):
    folder, wanted = small_run
    path = outputs.path_of(folder, wanted[0])
    content = dict(np.load(path))
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "incomplete":
        del content["confidence"]
    else:
        content["confidence"] = content["confidence"][:3]
    if what != "damaged":
        with path.open("wb") as file:
            np.savez(file, **content)
    message = {
        "damaged": "is damaged",
        "incomplete": "holds .*; this release reads",
        "shapes": r"is damaged \(confidence",
    }[what]
    with pytest.raises(ValueError, match=rf"clean-0\.npz {message}"):
        outputs.read(path)


def test_outputs_are_those_that_an_evaluation_keeps(tmp_path):
    from jaxprune import evaluation
    from jaxprune.evaluation.examples import save_examples

    row = fake_rows(methods=("weight",), sparsities=(0.5,), corruptions=("contrast",))[-1]
    found = simulation.Images(30).outputs(0.1)
    about = {"corruption": row["corruption"], "severity": row["severity"], "dataset": "digits", "precision": "float32"}
    kept = evaluation.Examples(classifier=outputs.network_name(row), **about, **found._asdict())
    path = save_examples(tmp_path / outputs.FOLDER, kept, dtype="float32")
    assert path == outputs.path_of(tmp_path, row)
    for mine, theirs in zip(outputs.read(path), found, strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(mine.dtype))


def test_a_network_that_diverged_is_left_out_of_what_needs_its_outputs(small_run):
    folder, wanted = small_run
    diverged = next(row for row in wanted if row["method"] == "weight" and row["stage"] == "fine_tuned")
    path = outputs.path_of(folder, diverged)
    found = outputs.read(path)
    simulation.save(path, found._replace(confidence=np.full_like(found.confidence, np.nan)))
    written = rows.read(epath.Path(folder))
    for row in written:
        if outputs.network_name(row) == outputs.network_name(diverged):
            row.update(dict.fromkeys(schema.METRICS) | {"num_correct": None, "finite": False})
    runs.write(folder, written, None)
    (of_arm,) = aggregates.arms(aggregates.results(rows.read(epath.Path(folder))))
    found = {each.question.finding: each for each in findings.verdicts(ArmResults(of_arm, folder, num_resamples=50))}
    assert found["2"].outcome == NOT_ENOUGH
    assert "allow no interval" in found["2"].sentence


def sentences_of(rows):
    (of_arm,) = aggregates.arms(aggregates.results(rows))
    return [text.replace("\u00a0", " ") for text in findings.what_happened(ArmResults(of_arm))]


def test_what_happened_names_the_last_sparsity_within_a_point_and_what_is_shown_of_it():
    # The generator loses 0.05 * sparsity^2 after fine-tuning: 0.45 points at 30 %, 1.25 points at 50 %.
    def clean(method, sparsity):
        return 100 * runs.accuracy(method, sparsity, "fine_tuned", 0, "clean", 0)

    dense, near, control, last = clean("dense", 0.0), clean("weight", 0.3), clean("random", 0.3), clean("weight", 0.9)
    sentences = sentences_of(fake_rows())
    best = next(text for text in sentences if "stays within" in text)
    start = "Weight pruning after fine-tuning stays within 1 point of the dense accuracy up to a sparsity of 30 %:"
    assert best.startswith(f"{start} clean accuracy {near:.1f} %, against dense {points(near - dense)} (")
    assert (
        f"Random masks of the same sparsity reach {control:.1f} %, a difference of {points(near - control)} (" in best
    )
    # The difference of two accuracies of 400 images is known to about three points.
    assert best.endswith("less than 1 point, tested at each sparsity: not settled at 30 %, 50 %, 70 %, 90 %.")
    highest = next(text for text in sentences if text.startswith("At the highest tested sparsity, 90 %"))
    assert f"clean accuracy {last:.1f} %, against dense {points(last - dense)} (" in highest
    assert (
        "There is one seed: no variation between seeds is known, so no difference here is shown to repeat." in sentences
    )


def points(value):
    return f"{value:+.1f} points".replace("-", "−")


def test_what_happened_says_when_no_sparsity_stays_within_a_point():
    text = " ".join(sentences_of(fake_rows(sparsities=(0.7, 0.9))))
    assert "is already more than 1 point below the dense accuracy at the lowest tested sparsity, 70 %" in text
    assert "stays within" not in text


def test_what_happened_tests_what_it_says():
    # Seeds 0, 1, 2 differ by the same amount in all networks, so their differences have no variance over seeds.
    few, many = (" ".join(sentences_of(fake_rows(seeds=(0, 1, 2), n=n))) for n in (400, 100_000))
    assert "tested at each sparsity: not settled at 30 %, 50 %, 70 %, 90 %." in few
    assert "tested at each sparsity: holds at 30 %; contradicted at 50 %, 70 %, 90 %." in many
    assert "In brackets: 95 % intervals over test images and seeds (over seeds alone where" in many
    assert "one seed" not in many


def test_every_difference_of_what_happened_has_an_interval(simulated):
    for text in simulated:
        for found in re.findall(r"[+−][\d.]+ points( \([+−]?[\d.]+ to [+−]?[\d.]+\))?", text):
            assert found, text


@pytest.fixture
def simulated(tmp_path):
    folder = epath.Path(tmp_path)
    wanted = fake_rows(seeds=(0, 1), sparsities=(0.3, 0.7), corruptions=("contrast",))
    simulation.write_run(folder, wanted, gaps(dense=0.05, pruned=0.12), n=300)
    (of_arm,) = aggregates.arms(aggregates.results(rows.read(folder)))
    found = findings.what_happened(ArmResults(of_arm, folder, num_resamples=100))
    return [text.replace("\u00a0", " ") for text in found]


def test_what_happened_is_what_the_verdicts_are_made_of(simulated, tmp_path):
    (of_arm,) = aggregates.arms(aggregates.results(rows.read(epath.Path(tmp_path))))
    found = findings.verdicts(ArmResults(of_arm, tmp_path, num_resamples=100))
    below = next(each for each in found if each.question.finding == "2").comparisons[-1]
    assert below.label == "weight pruning, 70\u00a0%"
    change = below.value.replace("95 % interval ", "").replace("\u00a0", " ")
    assert any(change in text for text in simulated)


def test_what_happened_counts_what_is_missing():
    text = " ".join(sentences_of(fake_rows()[:-1]))
    assert "1 network of 18 not measured on all test sets (1 row missing)" in text
    assert "incomplete" not in " ".join(sentences_of(fake_rows()))


def test_without_a_random_control_it_says_so():
    text = " ".join(sentences_of(fake_rows(methods=("weight",))))
    assert "Random masks were not measured at this sparsity." in text
