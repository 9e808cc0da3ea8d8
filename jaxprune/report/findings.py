"""What a run shows: verdicts on the paper's findings, and what happened to each network; both from tested differences.

The findings are those of Mitra, Schwalbe and Klein 2024 (arXiv 2405.20876), numbered as in the study's protocol. A
verdict is "confirmed" if what the finding claims is significant after Holm's correction for the number of its
comparisons, "not confirmed" if it is not, and "not enough data" where no interval can be given, or where one seed
cannot say what another would show.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxprune import names
from jaxprune.report import aggregates, bootstrap, formatting
from jaxprune.report.bootstrap import ABOVE, BELOW, IntervalEstimate
from jaxprune.report.formatting import PERCENT, POINTS, RISE
from jaxprune.report.measurements import ACCURACY, CLEAN_SET, ECE, ArmResults, Quantity, TestSet, Variant
from jaxprune.report.verdicts import STATES, Comparison, Question, Verdict, comparison, corrected, judge

# The paper's, for CIFAR-10.
THRESHOLDS_OF = "cifar10"
CLEAN_ACCURACY, CORRUPTED_ACCURACY = 0.90, 0.55
CALIBRATION_RISE = 4.0
# Ours: what "keeps" means, and how far "moderate compression" reaches.
MARGIN = 0.01
MODERATE_SPARSITY = 0.4
MARGIN_TEXT = f"1{formatting.UNIT_SPACE}point"
# Accuracies are whole numbers of images: a loss of exactly the margin must not fail by the last bit of a float.
ROUNDING = 1e-9

BELOW_DENSE = Question(
    "2",
    "Weight pruning keeps the calibration error below the dense network's",
    "At every tested sparsity the clean ECE of the pruned network is below that of the dense network with the same "
    "fine-tuning (as trained, where that was not measured).",
    needs_all=True,
    needs_seeds=True,
)
CLEAN_LEVEL = Question(
    "3a",
    "Clean accuracy stays above 90 %",
    "The clean accuracy of the dense network and of every pruned one is above 90 % (the paper's threshold, CIFAR-10).",
    needs_all=True,
    needs_seeds=False,
)
CORRUPTED_LEVEL = Question(
    "3b",
    "At high severity, corrupted accuracy falls below 55 %",
    "The accuracy of the dense network and of every pruned one, mean over the corruptions at the highest severity, is "
    "below 55 % (the paper's threshold, CIFAR-10).",
    needs_all=True,
    needs_seeds=False,
)
RISE_SOMEWHERE = Question(
    "4a",
    "Under some corruption the calibration error rises by more than 400 %",
    "For at least one network, corruption and severity, ECE is more than 400 % above the clean ECE of the same network "
    "(more than five times as high).",
    needs_all=False,
    needs_seeds=False,
)
RISE_ON_AVERAGE = Question(
    "4b",
    "At the highest severity the calibration error rises by more than 400 % on average",
    "For at least one network, ECE at the highest severity, mean over the corruptions, is more than 400 % above its "
    "clean ECE.",
    needs_all=False,
    needs_seeds=False,
)
STRUCTURED = Question(
    "5a",
    "Structured pruning keeps calibration up to moderate compression",
    f"At every tested sparsity up to {100 * MODERATE_SPARSITY:g} % the clean ECE of the network with channels removed "
    f"is less than {100 * MARGIN:g} point above that of the dense network with the same fine-tuning (our reading of "
    "“keeps” and “moderate”).",
    needs_all=True,
    needs_seeds=True,
)
UNSTRUCTURED = Question(
    "5b",
    "Calibration and robustness do not exclude each other under unstructured pruning",
    f"At one tested sparsity at least, clean ECE is less than {100 * MARGIN:g} point above the dense network's and the "
    f"accuracy over all corruptions and severities less than {100 * MARGIN:g} point below it (our reading; of the two "
    "the weaker p-value counts).",
    needs_all=False,
    needs_seeds=True,
)
TEMPERATURE = Question(
    "T",
    "A temperature fitted on clean data helps under corruption too",
    "Not in the paper. ECE at the highest severity, mean over the corruptions, is below that of the same network "
    "without the temperature, for every network that has one.",
    needs_all=True,
    needs_seeds=False,
)
QUESTIONS = (
    *(BELOW_DENSE, CLEAN_LEVEL, CORRUPTED_LEVEL, RISE_SOMEWHERE, RISE_ON_AVERAGE),
    *(STRUCTURED, UNSTRUCTURED, TEMPERATURE),
)


def verdicts(arm: ArmResults) -> list[Verdict]:
    """Returns the verdicts on all findings that the arm's methods and test sets bear on, in the paper's order."""
    dense = arm.dense()
    if dense is None:
        return []
    by_weight, by_channel = (arm.pruned(kind) for kind in names.CONTROLS)
    everyone = [dense, *(variant for variants in arm.pruned().values() for variant in variants)]
    out = [_below_dense(arm, dense, method, variants) for method, variants in by_weight.items()]
    out.append(_levels(arm, CLEAN_LEVEL, everyone, (CLEAN_SET,), ABOVE, CLEAN_ACCURACY))
    corruptions, worst = arm.corrupted(), arm.corrupted(arm.worst_severity)
    if corruptions:
        out.append(_levels(arm, CORRUPTED_LEVEL, everyone, worst, BELOW, CORRUPTED_ACCURACY))
        out.append(_rise(arm, RISE_SOMEWHERE, everyone, [(each,) for each in corruptions]))
        out.append(_rise(arm, RISE_ON_AVERAGE, everyone, [worst]))
    for method, variants in by_channel.items():
        moderate = [variant for variant in variants if variant.sparsity <= MODERATE_SPARSITY]
        if moderate:
            comparisons = corrected(_differences(arm, "clean ECE", moderate, dense, BELOW, MARGIN))
            out.append(judge(STRUCTURED, comparisons, subject=formatting.method(method)))
    if corruptions:
        out += [_not_exclusive(arm, dense, method, variants) for method, variants in by_weight.items()]
        out += _temperature(arm, worst)
    return out


def what_happened(arm: ArmResults) -> list[str]:
    """Returns what the run shows of each method, every difference with its interval, the most important first."""
    dense = arm.dense()
    if dense is None:
        out = ["The dense network was not measured, so nothing can be compared with it yet."]
    else:
        out = [_dense_levels(arm, dense)]
        for method, variants in arm.pruned().items():
            out += _kept_accuracy(arm, dense, method, variants)
        out += _severity(arm, dense)
    return [*out, *_caveats(arm, dense)]


def _below_dense(arm: ArmResults, dense: Variant, method: str, variants: Sequence[Variant]) -> Verdict:
    def against(reference: Variant) -> list[Comparison]:
        return corrected(_differences(arm, "clean ECE", variants, reference, BELOW, 0.0))

    note, as_trained = "", arm.dense(names.STAGE_DENSE)
    if as_trained not in (None, dense):
        below = sum(each.holds for each in against(as_trained))
        note = f"Against the dense network as trained, before any fine-tuning, it holds in {below} of {len(variants)}."
    return judge(BELOW_DENSE, against(dense), subject=formatting.method(method), note=note)


def _levels(
    arm: ArmResults,
    question: Question,
    variants: Sequence[Variant],
    test_sets: Sequence[TestSet],
    claim: str,
    threshold: float,
) -> Verdict:
    where = "clean accuracy" if question is CLEAN_LEVEL else f"accuracy at severity {test_sets[0][1]}"
    found = [
        (formatting.variant(*each), where, arm.level(each, test_sets, ACCURACY), claim, threshold) for each in variants
    ]
    notes = []
    if arm.dataset != THRESHOLDS_OF:
        notes.append(f"The threshold is meant for CIFAR-10; these images are {arm.dataset}.")
    if question is CORRUPTED_LEVEL:
        clean = max(arm.level(each, [CLEAN_SET], ACCURACY).value for each in variants)
        if clean < CLEAN_ACCURACY:
            notes.append(
                f"No network reaches more than {formatting.percent(clean)} on clean images, where the paper's exceed "
                f"{formatting.percent(CLEAN_ACCURACY)}: that says less of robustness than there."
            )
    return judge(question, corrected([comparison(*each, unit=PERCENT) for each in found]), note=" ".join(notes))


def _rise(
    arm: ArmResults, question: Question, variants: Sequence[Variant], groups: Sequence[Sequence[TestSet]]
) -> Verdict:
    comparisons = []
    for variant in variants:
        for test_sets in groups:
            (corruption, severity), single = test_sets[0], len(test_sets) == 1
            where = f"{formatting.spaced(corruption)} {severity}" if single else f"severity {severity}"
            quantities = [Quantity(variant, each, ECE) for each in ((CLEAN_SET,), tuple(test_sets))]
            in_logarithms = arm.estimate(_log_rise, quantities)
            name = f"{formatting.variant(*variant)}, {where}"
            found = comparison(
                name, "the rise of ECE over clean", _as_rise(in_logarithms), ABOVE, CALIBRATION_RISE, unit=RISE
            )
            p_value = in_logarithms.p_value(math.log1p(CALIBRATION_RISE), claim=ABOVE)
            comparisons.append(found._replace(p_value=p_value))
    return judge(question, sorted(corrected(comparisons), key=lambda each: -each.estimate.value))


def _not_exclusive(arm: ArmResults, dense: Variant, method: str, variants: Sequence[Variant]) -> Verdict:
    calibration = _differences(arm, "clean ECE", variants, dense, BELOW, MARGIN)
    robustness = _differences(arm, "corrupted accuracy", variants, dense, ABOVE, -MARGIN)
    pairs = list(zip(calibration, robustness, strict=True))
    # Both must hold at one sparsity: the pair has the larger p-value, and Holm counts the pairs.
    joint = bootstrap.holm([float(np.max([each.p_value for each in pair])) for pair in pairs])
    pairs = [tuple(each._replace(p_value=p) for each in pair) for pair, p in zip(pairs, joint, strict=True)]
    kept = [pair for pair in pairs if pair[0].holds]
    shown = kept[-1] if kept else pairs[int(np.nanargmin([*joint, 2.0])) % len(pairs)]
    listed = ", ".join(f"{each.quantity} {each.value}" for each in shown)
    summary = (
        f"Both are kept at {len(kept)} of {len(pairs)} sparsities. {formatting.capitalized(shown[0].label)}: {listed}."
    )
    comparisons = [each for pair in pairs for each in pair]
    return judge(UNSTRUCTURED, comparisons, subject=formatting.method(method), summary=summary, num_claims=len(pairs))


def _temperature(arm: ArmResults, worst: Sequence[TestSet]) -> Iterator[Verdict]:
    rows = arm.rows[arm.rows["stage"] == names.STAGE_TEMPERATURE]
    rows = rows.loc[~rows["method"].isin(aggregates.CONTROLS), list(Variant._fields)].drop_duplicates()
    variants = [Variant(*each) for each in rows.itertuples(index=False)]
    if not variants:
        return

    def against_none(test_sets: Sequence[TestSet]) -> list[Comparison]:
        name, without = "ECE minus that without the temperature", names.STAGE_FINE_TUNED
        pairs = [(each, arm.difference(each, each._replace(stage=without), test_sets, ECE)) for each in variants]
        return corrected([comparison(formatting.variant(*each), name, found, BELOW, 0.0) for each, found in pairs])

    helped = sum(each.holds for each in against_none([CLEAN_SET]))
    note = f"On clean images it is below zero in {helped} of {len(variants)}."
    yield judge(TEMPERATURE, against_none(worst), note=note)


def _differences(
    arm: ArmResults, name: str, variants: Sequence[Variant], dense: Variant, claim: str, null: float
) -> list[Comparison]:
    """Returns what is claimed of a quantity of each variant minus the dense network's, not yet corrected."""
    (test_sets, measure), what = arm.quantities()[name], f"{name} minus the dense network's"
    differences = [arm.difference(each, dense, test_sets, measure) for each in variants]
    labels = [formatting.variant(*each) for each in variants]
    return [comparison(label, what, each, claim, null) for label, each in zip(labels, differences, strict=True)]


def _log_rise(means: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(means[..., 1] / means[..., 0])


def _as_rise(in_logarithms: IntervalEstimate) -> IntervalEstimate:
    value, low, high, centre = (float(np.expm1(end)) for end in in_logarithms[:4])
    return in_logarithms._replace(value=value, low=low, high=high, centre=centre)


def _dense_levels(arm: ArmResults, dense: Variant) -> str:
    levels = {name: arm.level(dense, *each) for name, each in arm.quantities().items()}
    known = {name: level for name, level in levels.items() if np.isfinite(level.value)}
    listed = ", ".join(f"{name} {formatting.interval(level)}" for name, level in known.items())
    text = f"The dense network ({formatting.stage(dense.stage)}): {listed}."
    as_trained = arm.dense(names.STAGE_DENSE)
    if as_trained not in (None, dense):
        moved = arm.difference(dense, as_trained, [CLEAN_SET], ACCURACY)
        text += f" The fine-tuning alone moved its clean accuracy by {formatting.interval(moved, POINTS)}."
    return text


def _kept_accuracy(arm: ArmResults, dense: Variant, method: str, variants: Sequence[Variant]) -> Iterator[str]:
    """Yields up to which sparsity a method stays near the dense accuracy, at what cost, and what is shown of that."""
    tested = corrected(_differences(arm, "clean accuracy", variants, dense, ABOVE, -MARGIN))
    known = [(each, variant) for each, variant in zip(tested, variants, strict=True) if np.isfinite(each.excess)]
    if not known:
        return
    kept = list(itertools.takewhile(lambda pair: pair[0].excess >= -ROUNDING, known))
    described, highest = (kept[-1] if kept else known[0])[1], known[-1][1]
    reach = (
        f"stays within {MARGIN_TEXT} of the dense accuracy up to a sparsity of"
        if kept
        else f"is already more than {MARGIN_TEXT} below the dense accuracy at the lowest tested sparsity,"
    )
    states = {state: [] for state in STATES}
    for each, variant in zip(tested, variants, strict=True):
        states[each.state].append(formatting.sparsity(variant.sparsity))
    listed = "; ".join(f"{state} at {', '.join(sparsities)}" for state, sparsities in states.items() if sparsities)
    name, sparsity = formatting.method(method), formatting.sparsity(described.sparsity)
    yield (
        f"{formatting.capitalized(name)} {formatting.stage(arm.stage)} {reach} {sparsity}: "
        f"{_against_dense(arm, described, dense)} A loss of less than {MARGIN_TEXT}, tested at each sparsity: {listed}."
    )
    if highest != described:
        sparsity, text = formatting.sparsity(highest.sparsity), _against_dense(arm, highest, dense)
        yield f"At the highest tested sparsity, {sparsity}, {name} gives {text}"


def _against_dense(arm: ArmResults, variant: Variant, dense: Variant) -> str:
    """Returns each quantity of a variant with its difference from the dense network, then from the random control."""
    parts = []
    for name, (test_sets, measure) in arm.quantities().items():
        change = arm.difference(variant, dense, test_sets, measure)
        if np.isfinite(change.value):
            level = formatting.percent(arm.level(variant, test_sets, measure).value)
            parts.append(f"{name} {level}, {'' if parts else 'against dense '}{formatting.interval(change, POINTS)}")
    control = arm.control(variant)
    kind = formatting.capitalized(formatting.method(control.method))
    gain = arm.difference(variant, control, [CLEAN_SET], ACCURACY)
    against = f"{kind} were not measured at this sparsity."
    if np.isfinite(gain.value):
        level = formatting.percent(arm.level(control, [CLEAN_SET], ACCURACY).value)
        against = f"{kind} of the same sparsity reach {level}, a difference of {formatting.interval(gain, POINTS)}."
    return f"{'; '.join(parts)}. {against}"


def _severity(arm: ArmResults, dense: Variant) -> Iterator[str]:
    worst, parts = arm.corrupted(arm.worst_severity), []
    for name, measure in (("accuracy", ACCURACY), ("ECE", ECE)):
        change = arm.estimate(bootstrap.difference, [Quantity(dense, each, measure) for each in ((CLEAN_SET,), worst)])
        if np.isfinite(change.value):
            level = formatting.percent(arm.level(dense, worst, measure).value)
            parts.append(f"its {name} by {formatting.interval(change, POINTS)} to {level}")
    if parts:
        yield (
            f"From clean images to severity {arm.worst_severity} the dense network changes {' and '.join(parts)}, mean "
            "over the corruptions."
        )


def _caveats(arm: ArmResults, dense: Variant | None) -> Iterator[str]:
    levels = [arm.level(dense, *each) for each in arm.quantities().values()] if dense else []
    known = [each for each in levels if each.has_interval]
    if known:
        yield f"In brackets: 95 % intervals {formatting.interval_sources(known)}."
    if len(arm.seeds) == 1:
        yield "There is one seed: no variation between seeds is known, so no difference here is shown to repeat."
    gaps = aggregates.missing_test_sets(arm.rows)
    if not gaps.empty:
        networks, rows = formatting.counted(len(gaps), "network"), formatting.counted(gaps["missing"].sum(), "row")
        yield (
            f"The run is incomplete: {networks} of {aggregates.num_networks(arm.rows)} not measured on all test sets "
            f"({rows} missing), left out of every corrupted mean."
        )
