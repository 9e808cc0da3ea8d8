"""From comparisons to a verdict and its sentence; what has no interval is never confirmed."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxprune.report import resampling, words
from jaxprune.report.resampling import Estimate

CONFIRMED, NOT_CONFIRMED, NOT_ENOUGH = "confirmed", "not confirmed", "not enough data"
STATES = HOLDS, CONTRADICTED, NOT_SETTLED, NO_INTERVAL = "holds", "contradicted", "not settled", "no interval"
BELOW, ABOVE = "below", "above"
POINTS, PERCENT, RISE = "points", "percent", "rise"
SIGNIFICANCE = 1 - resampling.LEVEL
ONE_POINT = 0.01
# A claim about a method is one about networks of other seeds too.
MIN_SEEDS = 2


class Question(NamedTuple):
    """What a finding claims, and whether all of its comparisons must hold or one, and more than one seed be there."""

    finding: str
    claim: str
    definition: str
    needs_all: bool
    needs_seeds: bool


class Comparison(NamedTuple):
    """One estimate, the value that the claim puts it `below` or `above`, and Holm's p-value of that."""

    label: str
    quantity: str
    unit: str
    estimate: Estimate
    claim: str
    null: float
    p_value: float

    @property
    def holds(self) -> bool:
        """Whether the claim is significant."""
        return self.p_value <= SIGNIFICANCE

    @property
    def is_contradicted(self) -> bool:
        """Whether the whole interval lies on the other side."""
        low, high = self.estimate.low, self.estimate.high
        return low > self.null if self.claim == BELOW else high < self.null

    @property
    def state(self) -> str:
        """What the comparison says of the claim, in words."""
        if not self.estimate.has_interval:
            return NO_INTERVAL
        return HOLDS if self.holds else CONTRADICTED if self.is_contradicted else NOT_SETTLED


class Verdict(NamedTuple):
    """The answer to a question for one arm and, where the finding is about a method, one method."""

    question: Question
    subject: str
    outcome: str
    sentence: str
    comparisons: tuple[Comparison, ...]


def compare(
    label: str, quantity: str, estimate: Estimate, claim: str, null: float, *, unit: str = POINTS
) -> Comparison:
    """Returns one comparison, its p-value not yet corrected."""
    return Comparison(label, quantity, unit, estimate, claim, null, estimate.p_value(null, claim=claim))


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Returns the comparisons with the p-values that Holm's method gives for their number."""
    adjusted = resampling.holm([each.p_value for each in comparisons])
    return [each._replace(p_value=p) for each, p in zip(comparisons, adjusted, strict=True)]


def judge(
    question: Question, comparisons: Sequence[Comparison], *, subject: str = "", summary: str = "", note: str = ""
) -> Verdict:
    """Returns the verdict of corrected comparisons; `summary` replaces what is said of them, `note` is added to it."""
    outcome = _outcome(question, comparisons)
    sentences = [_obstacle(comparisons, outcome), summary or _summary(question, comparisons), _basis(comparisons), note]
    return Verdict(question, subject, outcome, words.caption(*sentences), tuple(comparisons))


def interval(comparison: Comparison) -> str:
    """Returns the value with its interval, in the comparison's unit."""
    value, low, high, *_ = comparison.estimate
    shown = words.number if comparison.unit != RISE else _whole
    signed = comparison.unit != PERCENT
    unit = "points" if comparison.unit == POINTS else "%"
    if not comparison.estimate.has_interval:
        return f"{shown(value, signed=signed)}{words.UNIT_SPACE}{unit} (no interval)"
    ends = f"{shown(low, signed=signed)} to {shown(high, signed=signed)}"
    return f"{shown(value, signed=signed)}{words.UNIT_SPACE}{unit} (95 % interval {ends})"


def threshold(comparison: Comparison) -> str:
    """Returns the claim of a comparison, for example `below 0 points`."""
    unit = "point" if abs(comparison.null) == ONE_POINT else "points"
    unit = unit if comparison.unit == POINTS else "%"
    text = (
        f"{100 * comparison.null:+g}" if comparison.unit == POINTS and comparison.null else f"{100 * comparison.null:g}"
    )
    return f"{comparison.claim} {text.replace('-', words.MINUS)}{words.UNIT_SPACE}{unit}"


def _outcome(question: Question, comparisons: Sequence[Comparison]) -> str:
    known = [each for each in comparisons if each.estimate.has_interval]
    if not known or (question.needs_all and len(known) < len(comparisons)):
        return NOT_ENOUGH
    if question.needs_seeds and min(each.estimate.num_seeds for each in known) < MIN_SEEDS:
        return NOT_ENOUGH
    holding = [each.holds for each in comparisons]
    if all(holding) if question.needs_all else any(holding):
        return CONFIRMED
    return NOT_CONFIRMED if len(known) == len(comparisons) else NOT_ENOUGH


def _obstacle(comparisons: Sequence[Comparison], outcome: str) -> str:
    """Returns what the data lack for a verdict."""
    if outcome != NOT_ENOUGH:
        return ""
    missing = sum(not each.estimate.has_interval for each in comparisons)
    if missing:
        total = words.counted(len(comparisons), "comparison")
        return f"{missing} of {total} allow no interval: that takes the outputs per image, or three seeds or more."
    return "There is one seed, and what another one would show is not known: the intervals are over images alone."


def _summary(question: Question, comparisons: Sequence[Comparison]) -> str:
    of = {state: [each for each in comparisons if each.state == state] for state in STATES}
    first, total, holding = comparisons[0], len(comparisons), len(of[HOLDS])
    share = f"all {total}" if holding == total > 1 else f"{holding} of {total}"
    noun = "comparison" if total == 1 else "comparisons"
    out = [f"{words.as_start(first.quantity)} is {threshold(first)} in {share} {noun}."]
    if not question.needs_all:
        known = [each for each in comparisons if each.estimate.has_interval] or comparisons
        best = min(known, key=lambda each: (each.p_value if each.estimate.has_interval else 1.0, -_excess(each)))
        p_value = f", p {words.p_value(best.p_value)}" if best.estimate.has_interval else ""
        return f"{out[0]} Clearest: {named(best)}{p_value}."
    if of[HOLDS]:
        out.append(f"Closest to the limit: {named(min(of[HOLDS], key=_excess))}.")
    for state, opening in ((CONTRADICTED, "Contradicted"), (NOT_SETTLED, "Not settled"), (NO_INTERVAL, "Unknown")):
        if of[state]:
            count = len(of[state])
            out.append(f"{opening} in {count}{', for one' if count > 1 else ''}: {named(min(of[state], key=_excess))}.")
    return " ".join(out)


def named(comparison: Comparison) -> str:
    """Returns a comparison's label, value and interval."""
    return f"{comparison.label}, {interval(comparison)}"


def _excess(comparison: Comparison) -> float:
    """Returns how far the value lies on the claim's side."""
    return (comparison.estimate.value - comparison.null) * (1 if comparison.claim == ABOVE else -1)


def _basis(comparisons: Sequence[Comparison]) -> str:
    known = [each.estimate for each in comparisons if each.estimate.has_interval]
    if not known:
        return ""
    fewest, most = min(each.num_seeds for each in known), max(each.num_seeds for each in known)
    seeds = words.counted(fewest, "seed") if fewest == most else f"{fewest} to {words.counted(most, 'seed')}"
    images = all(each.has_images for each in known)
    over = (
        "over images and seeds"
        if images and fewest > 1
        else "over images"
        if images
        else "over seeds, the images fixed"
    )
    correction = f", Holm over {len(known)} comparisons" if len(known) > 1 else ""
    return f"({words.as_start(seeds)}; intervals {over}{correction}.)"


def _whole(value: float, *, signed: bool = False) -> str:
    return f"{100 * value:{'+' if signed else ''},.0f}".replace("-", words.MINUS)
