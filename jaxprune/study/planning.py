"""The plan of a study: its networks, trainings and test sets, listed once, and what each of them leaves behind."""

import collections
import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from jaxprune import corruptions, names, pruning
from jaxprune.study.checking import check_configuration
from jaxprune.study.configuration import ArmConfig, StudyConfig, TrainConfig, config_hash
from jaxprune.study.network import Network
from jaxprune.study.stages import STAGES


class Training(NamedTuple):
    """One training of the plan.

    Attributes:
      name: of the checkpoint folder that it makes.
      network: what is trained.
      stage: what it leads to: `dense`, before anything is removed; `pruned`, of masks that move; `fine_tuned`; or
        `scratch`.
      how: epochs, learning rate and so on.
    """

    name: str
    network: Network
    stage: str
    how: TrainConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One seed of an arm: a part of the study that shares no network with the others.

    Attributes:
      networks: the dense one first, then every method at every sparsity above 0.
      evaluated: every network and stage at which it is evaluated, in the order of the rows.
      trainings: in the order of the stages, so that each finds what it begins with; the dense network's is first.
    """

    seed: int
    arm: ArmConfig
    networks: tuple[Network, ...]
    evaluated: tuple[tuple[Network, str], ...]
    trainings: tuple[Training, ...]

    def rows_name(self, test_set: str) -> str:
        """Returns the name of the file with the rows of one corruption, or of the clean images."""
        return f"seed{self.seed}-{self.arm.name}-{test_set}.jsonl"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A whole study.

    Attributes:
      config: what it follows from.
      config_hash: of that configuration; part of every row.
      arms: with their trainings and controls filled in.
      units: every seed of every arm, in the order of the rows.
      test_sets: the severities of each, by name: the clean images', which is 0, and the corruptions'.
    """

    config: StudyConfig
    config_hash: str
    arms: tuple[ArmConfig, ...]
    units: tuple[Unit, ...]
    test_sets: dict[str, tuple[int, ...]]

    @functools.cached_property
    def frost_textures(self) -> corruptions.FrostTextures | None:
        """What frost is cropped from, read once; None where there is no frost."""
        config = self.config.evaluation
        needed = config.corrupted is None and "frost" in config.corruptions
        return corruptions.FrostTextures.from_name(config.frost_textures) if needed else None


def make_plan(config: StudyConfig) -> Plan:
    """Returns the plan of a study that can be run; computes nothing.

    Raises:
      ValueError, FileNotFoundError: it cannot be run.
    """
    check_configuration(config)
    plan = list_plan(config)
    _refuse_shared_names(plan)
    _ = plan.frost_textures  # refused here if there are none
    return plan


def check(config: StudyConfig) -> None:
    """Raises a ValueError or FileNotFoundError if the configuration cannot be run; computes nothing."""
    make_plan(config)


def list_plan(config: StudyConfig) -> Plan:
    """Returns the plan of a configuration that was checked before."""
    arms = config.all_arms()
    severities = tuple(config.evaluation.severities)
    return Plan(
        config=config,
        config_hash=config_hash(config),
        arms=arms,
        units=tuple(_unit(config, arm, seed) for seed in config.seeds for arm in arms),
        test_sets={names.CLEAN: (names.CLEAN_SEVERITY,)} | dict.fromkeys(config.evaluation.corruptions, severities),
    )


def networks(config: StudyConfig, arm: ArmConfig, seed: int) -> list[Network]:
    """Returns an arm's networks of one seed: the dense one first, then every method at every sparsity above 0."""
    pruned = [Network(seed, arm.name, method, s) for method in arm.methods for s in _sparsities(config, arm, method)]
    return [Network(seed, arm.name, names.DENSE, 0.0), *pruned]


def _unit(config: StudyConfig, arm: ArmConfig, seed: int) -> Unit:
    planned = networks(config, arm, seed)
    return Unit(
        seed=seed,
        arm=arm,
        networks=tuple(planned),
        evaluated=tuple((network, stage) for network in planned for stage in _stages(config, arm, network)),
        trainings=tuple(_trainings(config, arm, planned)),
    )


def _trainings(config: StudyConfig, arm: ArmConfig, planned: list[Network]) -> Iterator[Training]:
    dense, *pruned = planned
    yield Training(f"seed{dense.seed}-{arm.name}-trained", dense, names.STAGE_DENSE, arm.pretrain)
    for network in pruned:
        if network.masks_move:
            yield Training(f"{network.label}-trained", network, names.STAGE_PRUNED, arm.pretrain)
    for network in planned:
        yield Training(network.label, network, names.STAGE_FINE_TUNED, arm.finetune)
    if config.scratch:
        for network in pruned:
            yield Training(f"{network.label}-scratch", network, names.STAGE_SCRATCH, arm.pretrain)


def _stages(config: StudyConfig, arm: ArmConfig, network: Network) -> list[str]:
    """Returns the stages at which a network is evaluated, in the order of the rows."""
    return [name for name, stage in STAGES.items() if stage.is_wanted(config, arm, network)]


def _sparsities(config: StudyConfig, arm: ArmConfig, method: str) -> tuple[float, ...]:
    """Returns the sparsities of a method: those of the study, its own, and for a control those of what it controls."""
    row = pruning.METHODS[method]
    if row.sparsity is not None:
        return (row.sparsity,)
    found = [sparsity for sparsity in config.sparsities if sparsity > 0]
    if method in names.CONTROLS.values():
        others = (pruning.METHODS[each] for each in arm.methods)
        found += [each.sparsity for each in others if each.granularity == row.granularity and each.sparsity is not None]
    return tuple(dict.fromkeys(found))


def _refuse_shared_names(plan: Plan) -> None:
    """Raises a ValueError if two parts of a plan would be kept under one name."""
    parts = [(training.name, training.network) for unit in plan.units for training in unit.trainings]
    parts += [(unit.rows_name(name), unit.networks[0]) for unit in plan.units for name in plan.test_sets]
    shared = [name for name, count in collections.Counter(name for name, _ in parts).items() if count > 1]
    if shared:
        first = [network for name, network in parts if name == shared[0]]
        both = " and ".join(f"{each.method} at sparsity {each.sparsity!r} of arm {each.arm!r}" for each in first[:2])
        raise ValueError(
            f"{both} would both be kept as {shared[0]}; give sparsities that differ in the first six digits, or other "
            f"names of arms"
        )
