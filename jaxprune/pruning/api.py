"""Updaters by name and by configuration."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import optax

from jaxprune.pruning import algorithms, base_updater, sparsity_distributions, sparsity_schedules, sparsity_types
from jaxprune.pruning._annotations import Updater

ALGORITHM_REGISTRY: dict[str, Any] = {
    "no_prune": base_updater.NoPruning,
    "magnitude": algorithms.MagnitudePruning,
    "random": algorithms.RandomPruning,
    "saliency": algorithms.SaliencyPruning,
    "magnitude_ste": algorithms.SteMagnitudePruning,
    "random_ste": algorithms.SteRandomPruning,
    "global_magnitude": algorithms.GlobalMagnitudePruning,
    "global_saliency": algorithms.GlobalSaliencyPruning,
    "global_lamp": algorithms.LampPruning,
    "static_sparse": algorithms.StaticRandomSparse,
    "rigl": algorithms.RigL,
    "set": algorithms.SET,
}

ALGORITHMS = tuple(ALGORITHM_REGISTRY)  # those of this library; `all_algorithm_names` has the registered ones too

DISTRIBUTIONS = {"uniform": sparsity_distributions.uniform, "erk": sparsity_distributions.erk}

DEFAULT_FINAL_DROP_FRACTION = 0.1  # where the cosine decay of RigL and SET starts


def all_algorithm_names() -> tuple[str, ...]:
    """Returns the names that `create_updater_from_config` knows."""
    return tuple(ALGORITHM_REGISTRY)


def register_algorithm(algorithm_name: str, algorithm: Any) -> None:
    """Adds an updater class under a name; one that starts with `global_` gets `sparsity`, not a distribution."""
    ALGORITHM_REGISTRY[algorithm_name] = algorithm


def create_updater_from_config(sparsity_config: Any) -> Updater:
    """Returns the updater that a configuration describes.

    The configuration is a mapping, an `ml_collections.ConfigDict`, or anything with these attributes:

    - `algorithm`: one of `all_algorithm_names()`; `no_prune` needs nothing else.
    - `sparsity`: the fraction of weights to remove.
    - `dist_type`: "uniform" or "erk"; algorithms named `global_...` have no use for it.
    - `update_start_step`, `update_end_step`, `update_freq`: no start step means that masks never change by themselves,
      start = end that they change once, and else sparsity grows along a cubic polynomial.
    - `drop_fraction`: for "rigl" and "set", decayed to 0 along a cosine until `update_end_step` (0.1 by default).
    - `sparsity_type`: "nm_2,4", "block_4,4", "channel_-1", or one of `sparsity_types`.
    - `filter_fn`, `custom_sparsity_map`: which parameters are pruned, and at which sparsity of their own.

    Every other entry goes to the updater as it is. Raises `ValueError` for what it does not know, with what it knows.

    >>> updater = create_updater_from_config({"algorithm": "magnitude", "dist_type": "erk", "sparsity": 0.8})
    >>> type(updater).__name__, updater.scheduler
    ('MagnitudePruning', NoUpdateSchedule())
    """
    config = _as_dict(sparsity_config)
    name = config.pop("algorithm", None)
    if name == "no_prune":
        return base_updater.NoPruning()
    is_global = str(name).startswith("global_")
    dist_type = config.pop("dist_type", "uniform" if is_global else None)
    if dist_type not in DISTRIBUTIONS:
        raise ValueError(f"dist_type: {dist_type!r} is not supported; use one of {', '.join(DISTRIBUTIONS)}")
    if name not in ALGORITHM_REGISTRY:
        raise ValueError(
            f"Sparsity algorithm {name!r} is not supported; use one of all_algorithm_names(), "
            f"{', '.join(ALGORITHM_REGISTRY)}, or add it with register_algorithm()"
        )
    if "sparsity" not in config:
        raise ValueError("the configuration has no sparsity: give the fraction of weights to remove, such as 0.8")
    chosen = {key: config.pop(key) for key in ("sparsity", "filter_fn", "custom_sparsity_map") if key in config}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    if is_global:
        config |= chosen
    else:
        config["sparsity_distribution_fn"] = partial(DISTRIBUTIONS[dist_type], **chosen)
    if config.get("sparsity_type") is not None:
        config["sparsity_type"] = parse_sparsity_type(config["sparsity_type"])
    start, end, freq = (config.pop(f"update_{key}", None) for key in ("start_step", "end_step", "freq"))
    drop_fraction = config.pop("drop_fraction", DEFAULT_FINAL_DROP_FRACTION)
    if name in ("rigl", "set"):
        if end is None:
            raise ValueError(f"{name} needs an update_end_step: its drop_fraction decays until then")
        config["drop_fraction_fn"] = optax.cosine_decay_schedule(drop_fraction, end)
    config["scheduler"] = _schedule(start, end, freq)
    updater_class = ALGORITHM_REGISTRY[name]
    if dataclasses.is_dataclass(updater_class):
        fields = [field.name for field in dataclasses.fields(updater_class)]
        unknown = [key for key in config if key not in fields]
        if unknown:
            raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(fields)}")
    return updater_class(**config)


def parse_sparsity_type(sparsity_type: Any) -> sparsity_types.SparsityType:
    """Returns the sparsity type that a text such as "nm_2,4" means; instances pass as they are.

    >>> parse_sparsity_type("nm_2,4"), parse_sparsity_type("channel_-1")
    (NByM(n=2, m=4, axis=-1), Channel(axis=-1))
    """
    if sparsity_types.is_sparsity_type(sparsity_type):
        return sparsity_type
    kind, _, numbers = str(sparsity_type).partition("_")
    try:
        values = tuple(int(number) for number in numbers.split(","))
        if kind == "nm":
            n, m = values
            return sparsity_types.NByM(n, m)
        if kind == "block":
            height, width = values
            return sparsity_types.Block((height, width))
        if kind == "channel":
            (axis,) = values
            return sparsity_types.Channel(axis)
    except ValueError:
        pass
    raise ValueError(
        f"Sparsity type {sparsity_type!r} is not supported; write nm_2,4 or block_4,4 or channel_-1, "
        "or give an instance of one of pruning.sparsity_types"
    )


def _schedule(start: int | None, end: int | None, freq: int | None) -> sparsity_schedules.Schedule:
    if start is None:
        return sparsity_schedules.NoUpdateSchedule()
    if end == start:
        return sparsity_schedules.OneShotSchedule(target_step=end)
    if end is None or freq is None:
        raise ValueError(
            f"update_start_step = {start} needs update_end_step and update_freq too, got {end} and {freq}; "
            "for one update give an update_end_step equal to the start step"
        )
    return sparsity_schedules.PolynomialSchedule(update_freq=freq, update_start_step=start, update_end_step=end)


def _as_dict(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping) or hasattr(config, "items"):
        return dict(config.items())
    if dataclasses.is_dataclass(config):
        return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return dict(vars(config))
