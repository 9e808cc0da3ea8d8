"""What happened, in sentences made from the rows: every statement carries its numbers, none is a verdict."""

import pandas as pd

from jaxprune.report import tables, words

# "Stays with the dense network": a clean accuracy at most this much below it.
MARGIN = 0.01
# Accuracies are whole numbers of images: a loss of exactly the margin must not fail by the last bit of a float.
ROUNDING = 1e-9
MARGIN_WORDS = f"1{words.UNIT_SPACE}point"


def sentences(family: pd.DataFrame) -> list[str]:
    """Returns the headline of one data set and architecture, the most important sentence first."""
    table = tables.summary(family)
    stage = tables.main_stage(family)
    dense = tables.baseline(table, stage)
    if dense.empty:
        return ["The dense network was not measured, so nothing can be compared with it yet.", *_caveats(family, None)]
    dense = dense.iloc[0]
    out = [_dense(table, dense)]
    for method in tables.methods(table):
        if method not in (tables.DENSE, *tables.RANDOM.values()):
            out += _method(table, dense, method, stage)
    out += _severity(family, stage)
    return out + _caveats(family, dense)


def _dense(table: pd.DataFrame, dense: pd.Series) -> str:
    text = (
        f"The dense network ({words.stage(dense['stage'])}) classifies {_clean(dense)} of the clean test images "
        f"correctly{_interval(dense)}, with a calibration error (ECE) of {_value(dense, 'clean_ece_equal_width_10')}"
    )
    if pd.notna(dense["corrupted_accuracy_mean"]):
        text += (
            f"; over all corruptions and severities it reaches {_value(dense, 'corrupted_accuracy')}, ECE "
            f"{_value(dense, 'corrupted_ece_equal_width_10')}"
        )
    text += "."
    trained = table[(table["method"] == tables.DENSE) & (table["stage"] == tables.AS_TRAINED)]
    if dense["stage"] != tables.AS_TRAINED and not trained.empty:
        moved = dense["clean_accuracy_mean"] - trained["clean_accuracy_mean"].iloc[0]
        text += f" The fine-tuning alone moved its clean accuracy by {words.points(moved)}."
    return text


def _method(table: pd.DataFrame, dense: pd.Series, method: str, stage: str) -> list[str]:
    line = tables.curve(table, method, stage)
    pruned = line[(line["sparsity"] > 0) & line["clean_accuracy_mean"].notna()]
    if pruned.empty:
        return []
    name = words.method(method)
    subject = f"{words.as_start(name)} {words.stage(stage)}"
    loss = dense["clean_accuracy_mean"] - pruned["clean_accuracy_mean"]
    within = (loss <= MARGIN + ROUNDING).cummin()
    out = []
    if within.any():
        best = pruned[within].iloc[-1]
        every = "the only tested sparsity" if len(pruned) == 1 else "every tested sparsity up to this one does"
        every = "" if within.sum() == 1 and len(pruned) > 1 else f" ({every})"
        out.append(
            f"{subject} stays within {MARGIN_WORDS} of the dense accuracy up to a sparsity of "
            f"{words.sparsity(best['sparsity'])}{every}: {_network(best, dense)}.{_control(table, best, stage)}"
        )
    else:
        best = pruned.iloc[0]
        out.append(
            f"{subject} is already more than {MARGIN_WORDS} below the dense accuracy at the lowest tested sparsity, "
            f"{words.sparsity(best['sparsity'])}: {_network(best, dense)}.{_control(table, best, stage)}"
        )
    last = pruned.iloc[-1]
    if last["sparsity"] != best["sparsity"]:
        out.append(
            f"At the highest tested sparsity, {words.sparsity(last['sparsity'])}, {name} gives "
            f"{_network(last, dense)}.{_control(table, last, stage)}"
        )
    return out


def _network(network: pd.Series, dense: pd.Series) -> str:
    def moved(measure: str) -> str:
        return words.points(network[f"{measure}_mean"] - dense[f"{measure}_mean"])

    def against_dense(name: str, measure: str) -> str:
        return f"{name} {_value(network, measure)} ({moved(measure)})"

    accuracy, ece = "clean_accuracy", "clean_ece_equal_width_10"
    out = [f"clean accuracy {_clean(network)} ({moved(accuracy)} against dense)", against_dense("ECE", ece)]
    if pd.notna(network["corrupted_accuracy_mean"]):
        out.append(against_dense("corrupted accuracy", "corrupted_accuracy"))
        out.append(against_dense("corrupted ECE", "corrupted_ece_equal_width_10"))
    return ", ".join(out)


def _control(table: pd.DataFrame, network: pd.Series, stage: str) -> str:
    control = tables.RANDOM[network["granularity"]]
    random = table[(table["method"] == control) & (table["stage"] == stage)]
    random = random[random["sparsity"] == network["sparsity"]]
    kind = words.as_start(words.method(control))
    if random.empty:
        return f" {kind} were not measured at this sparsity."
    gain = words.points(network["clean_accuracy_mean"] - random["clean_accuracy_mean"].iloc[0])
    return f" {kind} of the same sparsity reach {_clean(random.iloc[0])}, a difference of {gain}."


def _severity(family: pd.DataFrame, stage: str) -> list[str]:
    table = tables.baseline(tables.by_severity(family), stage).set_index("severity")
    if 0 not in table.index or len(table) < 2:
        return []
    worst = table.index.max()

    def from_to(measure: str) -> str:
        return f"from {_value(table.loc[0], measure)} to {_value(table.loc[worst], measure)}"

    return [
        f"From clean images to severity {worst}, the dense accuracy goes {from_to('accuracy')} and its ECE "
        f"{from_to('ece_equal_width_10')}, mean over the corruptions."
    ]


def _caveats(family: pd.DataFrame, dense: pd.Series | None) -> list[str]:
    out = []
    seeds = words.seeds_per_network(family)
    if seeds.max() == 1:
        out.append("There is one seed: no variation between seeds is known, so no difference here is shown to repeat.")
    else:
        out.append(
            f"Values after ± are standard deviations over {words.span(seeds)} seeds; differences were not tested for "
            "significance."
        )
    if dense is not None:
        out += _resolution(family, dense["stage"])
    gaps = tables.missing_test_sets(family)
    if not gaps.empty:
        out.append(
            f"The run is incomplete: {words.counted(len(gaps), 'network')} of {_networks(family)} not measured on all "
            f"test sets ({words.counted(gaps['missing'].sum(), 'row')} missing), left out of every corrupted mean."
        )
    return out


def _resolution(family: pd.DataFrame, stage: str) -> list[str]:
    dense = family[(family["method"] == tables.DENSE) & (family["stage"] == stage)]
    clean = dense[dense["corruption"] == tables.CLEAN]
    half = (clean["accuracy_high"] - clean["accuracy_low"]).mean() / 2
    if not half > MARGIN:
        return []
    return [
        f"The 95 % Wilson interval of the dense accuracy on {words.span(clean['n'])} images reaches about "
        f"{words.number(half)}{words.UNIT_SPACE}points to either side, more than the margin of {MARGIN_WORDS}: which "
        "sparsities truly stay within the margin is not settled by this run."
    ]


def _networks(family: pd.DataFrame) -> int:
    return len(family[[*tables.NETWORK, "seed"]].drop_duplicates())


def _value(network: pd.Series, measure: str) -> str:
    return words.measured(network[f"{measure}_mean"], network[f"{measure}_sd"])


def _clean(network: pd.Series) -> str:
    return _value(network, "clean_accuracy")


def _interval(network: pd.Series) -> str:
    low, high = network["clean_accuracy_low"], network["clean_accuracy_high"]
    return f" (95 % Wilson interval {words.number(low)} to {words.percent(high)})" if pd.notna(low) else ""
