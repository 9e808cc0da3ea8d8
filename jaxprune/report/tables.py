"""From rows to tables: means over test sets, then mean and standard deviation over seeds. Values are fractions."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from jaxprune.report.schema import CLEAN, METRICS

DENSE = "dense"
# The control of each kind of method: the same number of weights or channels, chosen at random.
RANDOM = {"weights": "random", "channels": "channel_random"}
AS_TRAINED, PRUNED, RECALIBRATED, FINE_TUNED = "dense", "pruned", "recalibrated", "fine_tuned"
SCRATCH, TEMPERATURE = "scratch", "temperature"
# Of these stages the first that was measured is the one that the figures and verdicts are about.
_MAIN_STAGES = (FINE_TUNED, RECALIBRATED, PRUNED)

FAMILY = ["dataset", "arm"]
NETWORK = [*FAMILY, "method", "stage", "sparsity"]
TEST_SET = ["corruption", "severity"]
MEASURES = ["accuracy", "ece_equal_width_10", "ece_equal_mass_10", "negative_log_likelihood", "brier_score"]

# The dense network comes first and the random control last, whatever the methods between them are called.
_METHOD_RANK = {DENSE: 0, **dict.fromkeys(RANDOM.values(), 2)}
_STAGE_RANK = {AS_TRAINED: 0, PRUNED: 1, RECALIBRATED: 2, FINE_TUNED: 4, SCRATCH: 5, TEMPERATURE: 6}
_RANKS = {"method": (_METHOD_RANK, 1), "stage": (_STAGE_RANK, 3), "corruption": ({CLEAN: 0}, 1)}


def results(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Returns all rows as one table, sorted by network and test set, so that the order of the file does not matter."""
    # A metric that is null in every row would otherwise be a column of objects.
    table = pd.DataFrame(rows).astype(dict.fromkeys(METRICS, float))
    return in_order(table, [*NETWORK, "seed", *TEST_SET])


def in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Returns the table sorted by `keys`: dense before pruned before random, as trained before fine-tuned."""

    def sortable(column: pd.Series) -> pd.Series:
        if column.name not in _RANKS:
            return column
        rank, other = _RANKS[column.name]
        return column.map(lambda name: f"{rank.get(name, other)} {name}")

    return table.sort_values(list(keys), key=sortable, kind="stable", ignore_index=True)


def families(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the rows of each data set and architecture: networks of different families are never averaged."""
    for _, family in table.groupby(FAMILY, sort=True):
        yield family.reset_index(drop=True)


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Returns the mean and sample standard deviation over seeds of each measure, and the number of `seeds`.

    The test sets that share `keys` and a seed are averaged first. The deviation of one seed is unknown: NaN. So is the
    mean of values of which one is unknown, because the rest would look better than the whole.
    """
    test_sets = table.groupby([*keys, "seed"], sort=False)[MEASURES]
    per_seed = _where_all_known(test_sets.mean(), test_sets)
    seeds = per_seed.groupby(list(keys), sort=False)
    mean = _where_all_known(seeds.mean(), seeds).add_suffix("_mean")
    sd = _where_all_known(seeds.std(ddof=1), seeds).add_suffix("_sd")
    return in_order(mean.join(sd).assign(seeds=seeds.size()).reset_index(), keys)


def _where_all_known(statistic: pd.DataFrame, groups: Any) -> pd.DataFrame:
    return statistic.where(groups.count().eq(groups.size(), axis=0))


def corrupted(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the corrupted rows of the networks that were measured on every test set of their family.

    The mean over a part of the corruptions would not compare with the mean over all of them.
    """
    keys = [*NETWORK, "seed"]
    incomplete = pd.MultiIndex.from_frame(missing_test_sets(table)[keys])
    return table[(table["corruption"] != CLEAN) & ~pd.MultiIndex.from_frame(table[keys]).isin(incomplete)]


def missing_test_sets(table: pd.DataFrame) -> pd.DataFrame:
    """Returns each network and seed that lacks test sets on which others of its family were measured, and how many."""
    test_sets = table[[*FAMILY, *TEST_SET]].drop_duplicates().groupby(FAMILY).size().rename("expected")
    measured = table.groupby([*NETWORK, "seed"], sort=False).size().rename("measured").reset_index()
    measured = measured.merge(test_sets.reset_index(), on=FAMILY)
    measured["missing"] = measured["expected"] - measured["measured"]
    return measured.loc[measured["missing"] > 0, [*NETWORK, "seed", "missing"]].reset_index(drop=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per network: size, clean and corrupted measures over seeds, columns `clean_*`, `corrupted_*`.

    `corrupted_*` averages over all corruptions and severities. `clean_accuracy_low` and `_high` are the Wilson 95 %
    interval, given where there is one seed.
    """
    clean = table[table["corruption"] == CLEAN]
    size = ["sparsity_achieved", "num_parameters", "num_nonzero", "multiply_accumulates"]
    out = table.groupby(NETWORK, sort=False)[["granularity"]].first()
    out = out.join(table.groupby(NETWORK, sort=False)[size].mean())
    for name, part in ((CLEAN, clean), ("corrupted", corrupted(table))):
        measures = over_seeds(part, NETWORK).set_index(NETWORK).assign(n=part.groupby(NETWORK)["n"].max())
        out = out.join(measures.add_prefix(f"{name}_"))
        counts = [f"{name}_seeds", f"{name}_n"]
        out[counts] = out[counts].fillna(0).astype(int)
    interval = clean.groupby(NETWORK, sort=False)[["accuracy_low", "accuracy_high"]].mean().add_prefix("clean_")
    interval = out[[]].join(interval)
    interval[out["clean_seeds"] != 1] = float("nan")
    return in_order(out.join(interval).reset_index(), NETWORK)


def by_severity(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per network and severity, the mean over its corruptions; severity 0 is the clean test set."""
    both = pd.concat([table[table["corruption"] == CLEAN], corrupted(table)])
    return over_seeds(both, [*NETWORK, "severity"])


def by_corruption(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per network and corruption, the mean over its severities; `clean` is one of the names."""
    both = pd.concat([table[table["corruption"] == CLEAN], corrupted(table)])
    return over_seeds(both, [*NETWORK, "corruption"])


def methods(table: pd.DataFrame) -> list[str]:
    """Returns the names of the pruning methods, the random control last, or only `dense` if nothing was pruned."""
    names = list(dict.fromkeys(in_order(table[["method"]].drop_duplicates(), ["method"])["method"]))
    return [name for name in names if name != DENSE] or [DENSE]


def stages(table: pd.DataFrame) -> list[str]:
    """Returns the stages at which pruned networks were measured, the last one first, or those of the dense network."""
    pruned = table[table["method"] != DENSE]
    ordered = in_order((table if pruned.empty else pruned)[["stage"]].drop_duplicates(), ["stage"])
    return list(ordered["stage"])[::-1]


def main_stage(table: pd.DataFrame) -> str:
    """Returns the stage that the figures and verdicts are about: after fine-tuning, where that was measured."""
    measured = stages(table)
    return next((stage for stage in _MAIN_STAGES if stage in measured), measured[0])


def baseline(table: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Returns the dense lines that pruned networks of `stage` are compared with.

    After fine-tuning it is the dense network with the same fine-tuning; otherwise, or without it, the one as trained.
    """
    dense = table[table["method"] == DENSE]
    same_stage = dense[dense["stage"] == stage]
    return dense[dense["stage"] == AS_TRAINED] if same_stage.empty else same_stage


def curve(table: pd.DataFrame, method: str, stage: str) -> pd.DataFrame:
    """Returns the lines of one method by sparsity; the dense baseline is its point at sparsity 0."""
    own = table[(table["method"] == method) & (table["sparsity"] > 0) & (table["stage"] == stage)]
    return pd.concat([baseline(table, stage), own]).sort_values("sparsity", kind="stable", ignore_index=True)
