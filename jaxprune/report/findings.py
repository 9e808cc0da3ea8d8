"""Does this run confirm what the paper found? A verdict per finding and method: its definition, numbers and intervals.

The findings are those of Mitra, Schwalbe and Klein 2024 (arXiv 2405.20876), numbered as in the study's protocol. A
verdict is "confirmed" if what the finding claims is significant after Holm's correction for the number of its
comparisons, "not confirmed" if it is not, and "not enough data" where no interval can be given, or where one seed
cannot say what another would show.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxprune.report import resampling, tables, words
from jaxprune.report.evidence import ACCURACY, CLEAN_SET, ECE, Evidence, Network, Term, TestSet
from jaxprune.report.resampling import Estimate
from jaxprune.report.verdicts import (
    ABOVE,
    BELOW,
    PERCENT,
    RISE,
    Comparison,
    Question,
    Verdict,
    compare,
    corrected,
    interval,
    judge,
)

# The paper's, for CIFAR-10.
THRESHOLDS_OF = "cifar10"
CLEAN_ACCURACY, CORRUPTED_ACCURACY = 0.90, 0.55
CALIBRATION_RISE = 4.0
# Ours: what "keeps" means, and how far "moderate compression" reaches.
MARGIN = 0.01
MODERATE_SPARSITY = 0.4

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


def verdicts(evidence: Evidence) -> list[Verdict]:
    """Returns the verdicts on all findings that the arm's methods and test sets bear on, in the paper's order."""
    dense = evidence.dense()
    if dense is None:
        return []
    by_weight, by_channel = (evidence.networks(granularity=kind) for kind in ("weights", "channels"))
    pruned = [network for methods in (by_weight, by_channel) for each in methods.values() for network in each]
    everyone = [dense, *pruned]
    out = [_below_dense(evidence, dense, method, networks) for method, networks in by_weight.items()]
    out.append(_levels(evidence, CLEAN_LEVEL, everyone, (CLEAN_SET,), ABOVE, CLEAN_ACCURACY))
    corrupted, worst = evidence.corrupted(), evidence.corrupted(evidence.worst_severity)
    if corrupted:
        out.append(_levels(evidence, CORRUPTED_LEVEL, everyone, worst, BELOW, CORRUPTED_ACCURACY))
        out.append(_rise(evidence, RISE_SOMEWHERE, everyone, [(each,) for each in corrupted]))
        out.append(_rise(evidence, RISE_ON_AVERAGE, everyone, [worst]))
    for method, networks in by_channel.items():
        moderate = [network for network in networks if network.sparsity <= MODERATE_SPARSITY]
        if moderate:
            out.append(_keeps_calibration(evidence, dense, method, moderate))
    if corrupted:
        out += [_not_exclusive(evidence, dense, method, networks) for method, networks in by_weight.items()]
        out += _temperature(evidence, worst)
    return out


def _below_dense(evidence: Evidence, dense: Network, method: str, networks: Sequence[Network]) -> Verdict:
    def against(reference: Network) -> list[Comparison]:
        return corrected([_calibration(evidence, network, reference, 0.0) for network in networks])

    note, as_trained = "", evidence.dense(tables.AS_TRAINED)
    if as_trained not in (None, dense):
        below = sum(each.holds for each in against(as_trained))
        note = f"Against the dense network as trained, before any fine-tuning, it holds in {below} of {len(networks)}."
    return judge(BELOW_DENSE, against(dense), subject=words.method(method), note=note)


def _levels(
    evidence: Evidence,
    question: Question,
    networks: Sequence[Network],
    test_sets: Sequence[TestSet],
    claim: str,
    threshold: float,
) -> Verdict:
    where = "clean accuracy" if question is CLEAN_LEVEL else f"accuracy at severity {test_sets[0][1]}"
    found = [(label(each), where, evidence.level(each, test_sets, ACCURACY), claim, threshold) for each in networks]
    dataset = evidence.family["dataset"].iloc[0]
    notes = [] if dataset == THRESHOLDS_OF else [f"The threshold is meant for CIFAR-10; these images are {dataset}."]
    if question is CORRUPTED_LEVEL:
        clean = max(evidence.level(each, [CLEAN_SET], ACCURACY).value for each in networks)
        if clean < CLEAN_ACCURACY:
            notes.append(
                f"No network reaches more than {words.percent(clean)} on clean images, where the paper's exceed "
                f"{words.percent(CLEAN_ACCURACY)}: that says less of robustness than there."
            )
    return judge(question, corrected([compare(*each, unit=PERCENT) for each in found]), note=" ".join(notes))


def _rise(
    evidence: Evidence, question: Question, networks: Sequence[Network], groups: Sequence[Sequence[TestSet]]
) -> Verdict:
    comparisons = []
    for network in networks:
        for test_sets in groups:
            (corruption, severity), single = test_sets[0], len(test_sets) == 1
            where = f"{words.plain(corruption)} {severity}" if single else f"severity {severity}"
            terms = [Term(network, (CLEAN_SET,), ECE), Term(network, tuple(test_sets), ECE)]
            in_logarithms = evidence.estimate(_log_rise, terms)
            name = f"{label(network)}, {where}"
            comparison = compare(
                name, "the rise of ECE over clean", _as_rise(in_logarithms), ABOVE, CALIBRATION_RISE, unit=RISE
            )
            p_value = in_logarithms.p_value(math.log1p(CALIBRATION_RISE), claim=ABOVE)
            comparisons.append(comparison._replace(p_value=p_value))
    return judge(question, sorted(corrected(comparisons), key=lambda each: -each.estimate.value))


def _keeps_calibration(evidence: Evidence, dense: Network, method: str, networks: Sequence[Network]) -> Verdict:
    comparisons = corrected([_calibration(evidence, network, dense, MARGIN) for network in networks])
    return judge(STRUCTURED, comparisons, subject=words.method(method))


def _not_exclusive(evidence: Evidence, dense: Network, method: str, networks: Sequence[Network]) -> Verdict:
    pairs = []
    for network in networks:
        robustness = evidence.difference(network, dense, evidence.corrupted(), ACCURACY)
        name = "corrupted accuracy minus the dense network's"
        pairs.append(
            (
                _calibration(evidence, network, dense, MARGIN),
                compare(label(network), name, robustness, ABOVE, -MARGIN),
            )
        )
    # Both must hold at one sparsity: the pair has the larger p-value, and Holm counts the pairs.
    joint = resampling.holm([float(np.max([each.p_value for each in pair])) for pair in pairs])
    comparisons = [each._replace(p_value=p) for pair, p in zip(pairs, joint, strict=True) for each in pair]
    pairs = list(zip(comparisons[::2], comparisons[1::2], strict=True))
    kept = [pair for pair in pairs if pair[0].holds]
    calibration, robustness = kept[-1] if kept else pairs[int(np.nanargmin([*joint, 2.0])) % len(pairs)]
    summary = (
        f"Both are kept at {len(kept)} of {len(pairs)} sparsities. {words.as_start(calibration.label)}: "
        f"{calibration.quantity} {interval(calibration)}, {robustness.quantity} {interval(robustness)}."
    )
    return judge(UNSTRUCTURED, comparisons, subject=words.method(method), summary=summary)


def _temperature(evidence: Evidence, worst: Sequence[TestSet]) -> Iterator[Verdict]:
    rows = evidence.family[evidence.family["stage"] == tables.TEMPERATURE]
    rows = rows[~rows["method"].isin(tables.RANDOM.values())]
    networks = [Network(*each) for each in rows[list(Network._fields)].drop_duplicates().itertuples(index=False)]
    if not networks:
        return

    def against_none(test_sets: Sequence[TestSet]) -> list[Comparison]:
        name = "ECE minus that without the temperature"
        found = [
            (
                label(each),
                name,
                evidence.difference(each, each._replace(stage=tables.FINE_TUNED), test_sets, ECE),
                BELOW,
                0.0,
            )
            for each in networks
        ]
        return corrected([compare(*each) for each in found])

    clean = against_none([CLEAN_SET])
    helped = sum(each.holds for each in clean)
    note = f"On clean images it is below zero in {helped} of {len(networks)}."
    yield judge(TEMPERATURE, against_none(worst), note=note)


def label(network: Network) -> str:
    """Returns the name of a network in a comparison."""
    if network.method == tables.DENSE:
        return f"dense {words.stage(network.stage)}"
    return f"{words.method(network.method)}, {words.sparsity(network.sparsity)}"


def _calibration(evidence: Evidence, network: Network, dense: Network, limit: float) -> Comparison:
    difference = evidence.difference(network, dense, [CLEAN_SET], ECE)
    return compare(label(network), "clean ECE minus the dense network's", difference, BELOW, limit)


def _log_rise(means: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(means[..., 1] / means[..., 0])


def _as_rise(in_logarithms: Estimate) -> Estimate:
    value, low, high, centre = (float(np.expm1(end)) for end in in_logarithms[:4])
    return in_logarithms._replace(value=value, low=low, high=high, centre=centre)
