"""From rows to tables of data: means over test sets, then mean and standard deviation over seeds; all are fractions."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from jaxprune import names
from jaxprune.results import schema

CONTROLS = tuple(names.CONTROLS.values())

ARM = ["dataset", "arm"]
VARIANT = [*ARM, "method", "stage", "sparsity"]
NETWORK = [*VARIANT, "seed"]
TEST_SET = ["corruption", "severity"]
MEASURES = [names.ACCURACY, names.CALIBRATION_ERROR, "ece_equal_mass_10", names.LOG_LOSS, names.BRIER_SCORE]
SIZES = ["sparsity_achieved", "num_parameters", "num_nonzero", "multiply_accumulates"]

# The dense network comes first and the random controls last, whatever the methods between them are called.
_METHOD_RANKS = {names.DENSE: 0, **dict.fromkeys(CONTROLS, 2)}
_STAGE_RANKS = {stage: rank for rank, stage in enumerate(names.STAGES)}


def results(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Returns all rows as one table, sorted by network and test set, so that the order of the file does not matter."""
    # A metric that is null in every row would otherwise be a column of objects.
    table = pd.DataFrame(rows)
    unknown = [name for name in schema.SIZES if table[name].isna().any()]
    table = table.astype(dict.fromkeys((*schema.METRICS, *unknown), float))
    return in_order(table, [*NETWORK, *TEST_SET])


def in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Returns the table sorted by `keys`: dense before pruned before random, clean first, stages as they follow."""
    ranks = {
        "method": lambda name: _METHOD_RANKS.get(name, 1),
        "stage": lambda name: _STAGE_RANKS.get(names.stage_steps(name)[0], len(_STAGE_RANKS)),
        "corruption": lambda name: int(name != names.CLEAN),
    }

    def sortable(column: pd.Series) -> pd.Series:
        rank = ranks.get(column.name)
        return column if rank is None else column.map(lambda name: f"{rank(name)} {name}")

    return table.sort_values(list(keys), key=sortable, kind="stable", ignore_index=True)


def arms(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the rows of each arm on each data set: networks of different arms are never averaged."""
    for _, rows in table.groupby(ARM, sort=True):
        yield rows.reset_index(drop=True)


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Returns the mean and sample standard deviation over seeds of each measure, and the number of `seeds`.

    The test sets that share `keys` and a seed are averaged first. The deviation of one seed is unknown: NaN. So is the
    mean of values of which one is unknown, because the known ones alone would look better.
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
    """Returns the corrupted rows of the networks that were measured on every test set of their arm.

    The mean over a part of the corruptions would not compare with the mean over all of them.
    """
    incomplete = pd.MultiIndex.from_frame(missing_test_sets(table)[NETWORK])
    is_complete = ~pd.MultiIndex.from_frame(table[NETWORK]).isin(incomplete)
    return table[(table["corruption"] != names.CLEAN) & is_complete]


def missing_test_sets(table: pd.DataFrame) -> pd.DataFrame:
    """Returns each network that lacks test sets on which others of its arm were measured, and how many."""
    test_sets = table[[*ARM, *TEST_SET]].drop_duplicates().groupby(ARM).size().rename("expected")
    measured = table.groupby(NETWORK, sort=False).size().rename("measured").reset_index()
    measured = measured.merge(test_sets.reset_index(), on=ARM)
    measured["missing"] = measured["expected"] - measured["measured"]
    return measured.loc[measured["missing"] > 0, [*NETWORK, "missing"]].reset_index(drop=True)


def num_networks(table: pd.DataFrame) -> int:
    """Returns the number of networks, each seed a network of its own."""
    return len(table[NETWORK].drop_duplicates())


def seeds_per_variant(table: pd.DataFrame) -> pd.Series:
    """Returns the number of seeds of each variant."""
    return table.groupby(VARIANT)["seed"].nunique()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per variant: size, clean and corrupted measures over seeds, columns `clean_*`, `corrupted_*`.

    `corrupted_*` averages over all corruptions and severities. `clean_accuracy_low` and `_high` are the Wilson 95 %
    interval, given where there is one seed.
    """
    clean = table[table["corruption"] == names.CLEAN]
    out = table.groupby(VARIANT, sort=False)[["granularity"]].first()
    out = out.join(table.groupby(VARIANT, sort=False)[SIZES].mean())
    for name, part in ((names.CLEAN, clean), ("corrupted", corrupted(table))):
        measures = over_seeds(part, VARIANT).set_index(VARIANT).assign(n=part.groupby(VARIANT)["n"].max())
        out = out.join(measures.add_prefix(f"{name}_"))
        counts = [f"{name}_seeds", f"{name}_n"]
        out[counts] = out[counts].fillna(0).astype(int)
    interval = clean.groupby(VARIANT, sort=False)[["accuracy_low", "accuracy_high"]].mean().add_prefix("clean_")
    interval = out[[]].join(interval)
    interval[out["clean_seeds"] != 1] = float("nan")
    return in_order(out.join(interval).reset_index(), VARIANT)


def by_severity(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per variant and severity, the mean over its corruptions; severity 0 is the clean test set."""
    return _clean_and_corrupted(table, "severity")


def by_corruption(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one line per variant and corruption, the mean over its severities; `clean` is one of the names."""
    return _clean_and_corrupted(table, "corruption")


def _clean_and_corrupted(table: pd.DataFrame, key: str) -> pd.DataFrame:
    both = pd.concat([table[table["corruption"] == names.CLEAN], corrupted(table)])
    return over_seeds(both, [*VARIANT, key])


def methods(table: pd.DataFrame) -> list[str]:
    """Returns the names of the pruning methods, the random control last, or only `dense` if nothing was pruned."""
    found = in_order(table[["method"]].drop_duplicates(), ["method"])["method"]
    return [name for name in found if name != names.DENSE] or [names.DENSE]


def stages(table: pd.DataFrame) -> list[str]:
    """Returns the stages at which pruned networks were measured, the last one first, or those of the dense network."""
    pruned = table[table["method"] != names.DENSE]
    ordered = in_order((table if pruned.empty else pruned)[["stage"]].drop_duplicates(), ["stage"])
    return list(ordered["stage"])[::-1]


def main_stage(table: pd.DataFrame) -> str:
    """Returns the stage that the figures and verdicts are about: after fine-tuning, where that was measured."""
    measured = stages(table)
    return next((stage for stage in names.MAIN_STAGES if stage in measured), measured[0])


def baseline(table: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Returns the dense lines that pruned networks of `stage` are compared with.

    After fine-tuning it is the dense network with the same fine-tuning; otherwise, or without it, the one as trained.
    """
    dense = table[table["method"] == names.DENSE]
    same_stage = dense[dense["stage"] == stage]
    return dense[dense["stage"] == names.STAGE_DENSE] if same_stage.empty else same_stage


def curve(table: pd.DataFrame, method: str, stage: str) -> pd.DataFrame:
    """Returns the lines of one method by sparsity; the dense baseline is its point at sparsity 0."""
    pruned = table[(table["method"] == method) & (table["sparsity"] > 0) & (table["stage"] == stage)]
    return pd.concat([baseline(table, stage), pruned]).sort_values("sparsity", kind="stable", ignore_index=True)
