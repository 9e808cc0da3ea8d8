"""From estimates to statements: what is claimed of each, whether that holds, and the sentence that says so.

Every sentence of the report that states a difference is made here, from comparisons whose p-values are corrected for
their number. What has no interval is never confirmed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxprune import metrics
from jaxprune.report import formatting
from jaxprune.report.bootstrap import ABOVE, BELOW, SIGNIFICANCE, IntervalEstimate
from jaxprune.report.formatting import POINTS

CONFIRMED, NOT_CONFIRMED, NOT_ENOUGH = "confirmed", "not confirmed", "not enough data"
STATES = HOLDS, CONTRADICTED, NOT_SETTLED, NO_INTERVAL = "holds", "contradicted", "not settled", "no interval"
# How a sentence begins that names a comparison of each state but the first.
_OPENINGS = {CONTRADICTED: "Contradicted", NOT_SETTLED: "Not settled", NO_INTERVAL: "Unknown"}
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
    """One estimate, the value that the claim puts it `BELOW` or `ABOVE`, and Holm's p-value of that."""

    label: str
    quantity: str
    estimate: IntervalEstimate
    claim: str
    null: float
    unit: str
    p_value: float

    @property
    def holds(self) -> bool:
        """Whether the claim is significant."""
        return self.p_value <= SIGNIFICANCE

    @property
    def state(self) -> str:
        """What the comparison says of the claim; it is contradicted where the interval lies on the other side."""
        low, high = self.estimate.low, self.estimate.high
        if not self.estimate.has_interval:
            return NO_INTERVAL
        if self.holds:
            return HOLDS
        return CONTRADICTED if (low > self.null if self.claim == BELOW else high < self.null) else NOT_SETTLED

    @property
    def excess(self) -> float:
        """How far the value lies on the claim's side."""
        return (self.estimate.value - self.null) * (1 if self.claim == ABOVE else -1)

    @property
    def value(self) -> str:
        """The value with its interval."""
        return formatting.interval(self.estimate, self.unit, label="95 % interval ", unknown="no interval")

    @property
    def statement(self) -> str:
        """What was compared, with its value and interval."""
        return f"{self.label}, {self.value}"

    @property
    def threshold(self) -> str:
        """The claim, for example `below 0 points`."""
        unit = "%" if self.unit != POINTS else "point" if abs(self.null) == ONE_POINT else "points"
        sign = "+" if self.unit == POINTS and self.null else ""
        number = f"{100 * self.null:{sign}g}".replace("-", formatting.MINUS)
        return f"{self.claim} {number}{formatting.UNIT_SPACE}{unit}"


class Verdict(NamedTuple):
    """The answer to a question for one arm and, where the finding is about a method, one method."""

    question: Question
    subject: str
    outcome: str
    sentence: str
    comparisons: tuple[Comparison, ...]


def comparison(
    label: str, quantity: str, estimate: IntervalEstimate, claim: str, null: float, *, unit: str = POINTS
) -> Comparison:
    """Returns one comparison, its p-value not yet corrected."""
    return Comparison(label, quantity, estimate, claim, null, unit, estimate.p_value(null, claim=claim))


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Returns the comparisons with the p-values that Holm's method gives for their number."""
    adjusted = metrics.adjust_p_values([each.p_value for each in comparisons]).tolist()
    return [each._replace(p_value=p) for each, p in zip(comparisons, adjusted, strict=True)]


def judge(
    question: Question,
    comparisons: Sequence[Comparison],
    *,
    subject: str = "",
    summary: str = "",
    note: str = "",
    num_claims: int | None = None,
) -> Verdict:
    """Returns the verdict of corrected comparisons.

    `summary` replaces what is said of them, and `note` is added to it; `num_claims` is what they were corrected for
    where several of them make one claim.
    """
    outcome = _outcome(question, comparisons)
    sentence = formatting.paragraph(
        _obstacle(comparisons) if outcome == NOT_ENOUGH else "",
        summary or summarize(comparisons, needs_all=question.needs_all),
        _basis(comparisons, num_claims),
        note,
    )
    return Verdict(question, subject, outcome, sentence, tuple(comparisons))


def summarize(comparisons: Sequence[Comparison], *, needs_all: bool = True) -> str:
    """Returns in how many of the corrected comparisons the claim holds, and those that are nearest to deciding it."""
    by_state = {state: [each for each in comparisons if each.state == state] for state in STATES}
    total, holding = len(comparisons), by_state.pop(HOLDS)
    share = f"all {total}" if len(holding) == total > 1 else f"{len(holding)} of {total}"
    quantity, threshold = formatting.capitalized(comparisons[0].quantity), comparisons[0].threshold
    out = [f"{quantity} is {threshold} in {share} {'comparison' if total == 1 else 'comparisons'}."]
    if not needs_all:
        clearest = min(
            comparisons, key=lambda each: (each.state == NO_INTERVAL, np.nan_to_num(each.p_value), -each.excess)
        )
        p_value = f", p {formatting.p_value(clearest.p_value)}" if clearest.estimate.has_interval else ""
        return f"{out[0]} Clearest: {clearest.statement}{p_value}."
    if holding:
        out.append(f"Closest to the limit: {min(holding, key=lambda each: each.excess).statement}.")
    for state, found in by_state.items():
        if found:
            example = ", for one" if len(found) > 1 else ""
            worst = min(found, key=lambda each: each.excess)
            out.append(f"{_OPENINGS[state]} in {len(found)}{example}: {worst.statement}.")
    return " ".join(out)


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


def _obstacle(comparisons: Sequence[Comparison]) -> str:
    """Returns what the data lack for a verdict."""
    missing = sum(not each.estimate.has_interval for each in comparisons)
    if missing:
        total = formatting.counted(len(comparisons), "comparison")
        return f"{missing} of {total} allow no interval: that takes the outputs per image, or three seeds or more."
    return "There is one seed, and what another one would show is not known: the intervals are over images alone."


def _basis(comparisons: Sequence[Comparison], num_claims: int | None) -> str:
    known = [each.estimate for each in comparisons if each.estimate.has_interval]
    if not known:
        return ""
    seeds = formatting.value_range([each.num_seeds for each in known])
    claims = f"{len(known)} comparisons" if num_claims is None else f"{num_claims} claims"
    correction = f", Holm over {claims}" if (num_claims or len(known)) > 1 else ""
    sources = formatting.interval_sources(known)
    return f"({seeds}{formatting.UNIT_SPACE}seed{'' if seeds == '1' else 's'}; intervals {sources}{correction}.)"
