"""Names, numbers and captions as a reader sees them; the tables keep fractions, the texts say percent and points."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from jaxprune import names
from jaxprune.report.bootstrap import IntervalEstimate

UNKNOWN = "–"
# A number does not part from its unit at the end of a line.
UNIT_SPACE = "\u00a0"
MINUS = "\u2212"
# What an estimate is given in: a level, a difference of levels, or a relative rise.
PERCENT, POINTS, RISE = "percent", "points", "rise"
LATEX = {
    **{letter: f"\\{letter}" for letter in "%_&#${}"},
    **{UNIT_SPACE: "~", MINUS: "$-$", "±": r"$\pm$", UNKNOWN: "--", "<": "$<$", ">": "$>$"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "“": "``", "”": "''"},
}
METHODS = {
    "dense": "dense",
    "random": "random masks",
    "weight": "weight pruning",
    "weight_per_layer": "weight pruning per layer",
    "weight_erk": "weight pruning at ERK sparsities",
    "lamp": "LAMP pruning",
    "nm_2_4": "2:4 pruning",
    "nm_1_4": "1:4 pruning",
    "block_4_4": "block pruning, 4 x 4",
    "set": "SET",
    "rigl": "RigL",
    "ste": "straight-through pruning",
    "filter_l1": "filter pruning by the L1 norm",
    "filter_l2": "filter pruning by the L2 norm",
    "geometric_median": "filter pruning by the geometric median",
    "slimming": "network slimming",
    "taylor": "channel pruning by Taylor scores",
    "channel_random": "random channels",
}


def number(value: float, *, signed: bool = False) -> str:
    """Returns a fraction as a percentage without its sign `%`, one decimal.

    >>> number(0.9234), number(-0.0141, signed=True), number(float("nan"))
    ('92.3', '−1.4', '–')
    """
    if not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:{'+' if signed else ''}.1f}"
    return re.sub(r"^[+-](?=0\.0$)", "", text).replace("-", MINUS)


def percent(value: float) -> str:
    """Returns a fraction as a percentage with one decimal.

    >>> percent(0.5)
    '50.0\\xa0%'
    """
    return f"{number(value)}{UNIT_SPACE}%"


def points(difference: float) -> str:
    """Returns the signed difference of two fractions in percentage points.

    >>> points(-0.0141)
    '−1.4\\xa0points'
    """
    return f"{number(difference, signed=True)}{UNIT_SPACE}points"


def mean_and_deviation(mean: float, sd: float) -> str:
    """Returns a mean in percent, without the sign, with its standard deviation over seeds where that is known.

    >>> mean_and_deviation(0.9234, 0.004), mean_and_deviation(0.9234, float("nan"))
    ('92.3\\xa0±\\xa00.4', '92.3')
    """
    return number(mean) + (f"{UNIT_SPACE}±{UNIT_SPACE}{number(sd)}" if math.isfinite(sd) else "")


def sparsity(value: float) -> str:
    """Returns a sparsity in percent with the digits it needs.

    >>> sparsity(0.3), sparsity(0.995)
    ('30\\xa0%', '99.5\\xa0%')
    """
    return f"{100 * value:.4g}{UNIT_SPACE}%"


def interval(
    estimate: IntervalEstimate, unit: str = PERCENT, *, label: str = "", unknown: str = "", has_unit: bool = True
) -> str:
    """Returns an estimate with its interval, in its unit; signed but for a level.

    >>> interval(IntervalEstimate(0.5, 0.4, 0.61, 0.5, 0.05, 9, 3, True), label="95 % interval ")
    '50.0\\xa0% (95 % interval 40.0 to 61.0)'
    >>> interval(IntervalEstimate(-0.01, -0.02, 0.001, -0.01, 0.005, 9, 3, True), POINTS)
    '−1.0\\xa0points (−2.0 to +0.1)'
    """
    value, low, high = (_in_unit(each, unit) for each in estimate[:3])
    if has_unit:
        value += f"{UNIT_SPACE}{POINTS if unit == POINTS else '%'}"
    ends = f"{label}{low} to {high}" if estimate.has_interval else unknown
    return f"{value} ({ends})" if ends else value


def _in_unit(value: float, unit: str) -> str:
    if unit != RISE:
        return number(value, signed=unit == POINTS)
    return f"{100 * value:+,.0f}".replace("-", MINUS) if math.isfinite(value) else UNKNOWN


def spaced(name: str) -> str:
    """Returns an identifier with spaces for its underscores."""
    return name.replace("_", " ")


def capitalized(text: str) -> str:
    """Returns the text with a capital first letter, as at the start of a sentence; the rest is left as it is."""
    return text[:1].upper() + text[1:]


def method(name: str) -> str:
    """Returns the name of a pruning method, for example `weight pruning`."""
    return METHODS.get(name, spaced(name))


def stage(name: str) -> str:
    """Returns the name of a stage, for example `after fine-tuning`."""
    return names.stage_title(name)


def variant(method_name: str, stage_name: str, value: float) -> str:
    """Returns the name of a variant in a list of those of one stage; a dense one has its stage.

    >>> variant("weight", "fine_tuned", 0.5), variant("dense", "dense", 0.0)
    ('weight pruning, 50\\xa0%', 'dense as trained')
    """
    if method_name == names.DENSE:
        return f"{names.DENSE} {stage(stage_name)}"
    return f"{method(method_name)}, {sparsity(value)}"


def file_stem(name: str) -> str:
    """Returns a name that is safe as part of a file name and of an HTML id.

    >>> file_stem("my data/v2")
    'my_data_v2'
    """
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


def counted(count: int, noun: str) -> str:
    """Returns the count with its noun.

    >>> counted(1, "seed"), counted(10_000, "image")
    ('1\\xa0seed', '10,000\\xa0images')
    """
    return f"{count:,}{UNIT_SPACE}{noun}{'' if count == 1 else 's'}"


def value_range(values: Iterable[int]) -> str:
    """Returns the one value of counts, or their smallest and largest.

    >>> value_range([400, 400]), value_range([400, 1000])
    ('400', '400 to 1,000')
    """
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def paragraph(*sentences: str) -> str:
    """Returns the sentences that have something to say, as one paragraph."""
    return " ".join(filter(None, sentences))


def measured_on(rows: pd.DataFrame) -> str:
    """Returns what the numbers stand on: data set, architecture, n and seeds."""
    if rows.empty:
        return "No network was measured on all test sets yet."
    data = ", ".join(dict.fromkeys(rows["dataset"]))
    arms = [arm(each) for _, each in rows.groupby("arm", sort=False)]
    seeds = sorted(int(seed) for seed in rows["seed"].unique())
    return (
        f"Measured: {data}, {arms[0] if len(arms) == 1 else counted(len(arms), 'arm')}; "
        f"n{UNIT_SPACE}={UNIT_SPACE}{value_range(rows['n'])} images per test set; "
        f"{counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))})."
    )


def arm(rows: pd.DataFrame) -> str:
    """Returns the name of the rows' one arm, with its architecture where that is another word."""
    name, model = rows["arm"].iloc[0], rows["model"].iloc[0]
    return name if name == model else f"{name} ({model})"


def corruptions(rows: pd.DataFrame) -> str:
    """Returns the names of the corruptions present."""
    found = sorted(spaced(name) for name in rows["corruption"].unique())
    return f"{counted(len(found), 'corruption')}: {', '.join(found)}." if found else ""


def binning(clean: pd.DataFrame) -> str:
    """Returns which bins the calibration error uses, and how far the other binning is from it."""
    gap = (clean["ece_equal_width_10"] - clean["ece_equal_mass_10"]).abs().max()
    return (
        "The calibration error uses 10 equal-width bins; with 10 equal-mass bins no value here differs by more than "
        f"{number(gap)}{UNIT_SPACE}points."
    )


def deviations(num_seeds: int) -> str:
    """Returns what stands after ± in a table."""
    if num_seeds > 1:
        return "Values after ± are standard deviations over seeds."
    return "One seed: no deviation is known."


def interval_note(marks: str, estimates: Mapping[str, Sequence[IntervalEstimate]]) -> str:
    """Returns what the bars or bands of a figure mean, for the estimates of each measure that it shows."""
    known = {name: [each for each in found if each.has_interval] for name, found in estimates.items()}
    unknown = [name for name, found in estimates.items() if found and not known[name]]
    everything = [each for found in known.values() for each in found]
    if not everything:
        return (
            "No interval can be given: that takes the outputs per image, or three seeds or more; the variation between "
            "seeds is unknown."
        )
    one_seed = max(each.num_seeds for each in everything) == 1
    return paragraph(
        f"{marks}: 95 % interval {interval_sources(everything)}.",
        "One seed: the variation between seeds is unknown." if one_seed else "",
        f"Of the {' and the '.join(unknown)} none can be given." if unknown else "",
    )


def interval_sources(known: Sequence[IntervalEstimate]) -> str:
    """Returns what was drawn again or left out for intervals: images, seeds or both."""
    has_images = [each.has_images for each in known]
    if not any(has_images):
        return "over seeds, the images fixed"
    if not all(has_images):
        return "over test images and seeds (over seeds alone where the outputs per image were not kept)"
    return "over test images" + (" and seeds" if max(each.num_seeds for each in known) > 1 else "")


def p_value(value: float) -> str:
    """Returns a p-value with two digits.

    >>> p_value(0.0312), p_value(2e-7), p_value(float("nan"))
    ('0.031', '< 0.001', '–')
    """
    if not math.isfinite(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def latex(text: str) -> str:
    r"""Returns a text as LaTeX prints it.

    >>> print(latex("50\xa0% of a_b"))
    50~\% of a\_b
    """
    return "".join(LATEX.get(letter, letter) for letter in text)


def amount(value: float) -> str:
    """Returns a large number in short.

    >>> amount(12_300_000), amount(78_000), amount(0)
    ('12.3 M', '78 k', '0')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
