"""What a study will do, and, from a short trial on this machine, for how long and in how much memory."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from etils import epath

from jaxprune import data, evaluation, models, names, pruning, training
from jaxprune.study import parts
from jaxprune.study.configuration import StudyConfig, TrainConfig, granularity
from jaxprune.study.inputs import initial, key_of, load_data, new_optimizer
from jaxprune.study.network import Network
from jaxprune.study.planning import Plan, Training, Unit, make_plan

# What a trial computes; enough that the second run of it tells the pace of a long one.
_TRIAL_STEPS, _TRIAL_IMAGES = 4, 200
# Programs of a network's forward pass beside its training's: evaluation, recalibration, logits for a temperature.
_FORWARD_PROGRAMS = 2
_TRAINING, _EVALUATION, _COMPILATION = "training", "evaluation", "compilation"
_GIB = 2**30
# The peak is told in KiB on Linux, in bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class ArmPlan(NamedTuple):
    """What all seeds of an arm come to; `left` is the fraction of its parts that the run folder does not hold yet."""

    name: str
    model: str
    methods: tuple[str, ...]
    num_networks: int
    num_trainings: int
    trained_images: int
    num_test_sets: int
    classified_images: int
    num_rows: int
    left: float


class Estimate(NamedTuple):
    """Seconds of one process for what is left, by what it does; bytes of its memory at most; and on which devices."""

    seconds: dict[str, float]
    peak_bytes: int
    device: str


def plan(config: StudyConfig, out=None) -> list[ArmPlan]:
    """Returns what a study consists of, arm by arm. Computes nothing and writes nothing.

    Raises:
      ValueError, FileNotFoundError: the configuration cannot be run.
    """
    whole = make_plan(config)
    train, _, test = load_data(config)
    return [_arm_plan(whole, units, len(train), len(test), out) for units in _arms(whole)]


def estimate(config: StudyConfig, out=None, *, on_progress: Callable[[str, float], None] | None = None) -> Estimate:
    """Returns how long what is left of a study takes on this machine, from a trial of a minute or a few.

    The trial generates every corruption, and trains and evaluates the dense network of every arm, on a few images and
    twice, so that compilation is known apart. Networks that lose channels count as the dense one: an upper bound.
    """
    whole = make_plan(config)
    train, _, test = load_data(config)
    arms = _arms(whole)
    tell = on_progress or (lambda description, fraction: None)
    tell("trying the corruptions", 0.0)
    net = initial(arms[0][0].arm.model, train, config.seeds[0])
    corruption, compilation = _corruption_seconds(whole, net, test)
    seconds = {_TRAINING: 0.0, _EVALUATION: 0.0, _COMPILATION: compilation}
    stored = 0
    for index, units in enumerate(arms, start=1):
        tell(f"trying {units[0].arm.name}", index / (len(arms) + 1))
        net = initial(units[0].arm.model, train, config.seeds[0])
        for what, value in _arm_seconds(whole, units, net, (train, test), corruption, out).items():
            seconds[what] += value
        of_one = sum(leaf.nbytes for leaf in jax.tree.leaves((net.params, net.batch_stats)))
        stored = max(stored, of_one * len(units[0].evaluated))
    tell("tried", 1.0)
    devices = jax.devices()
    return Estimate(seconds, _peak_bytes(devices[0]) + stored, f"{devices[0].platform} x{len(devices)}")


def plan_text(config: StudyConfig, arms: list[ArmPlan], found: Estimate) -> str:
    """Returns a plan and its estimate as text."""
    lines = [f"{config.name}: {len(config.seeds)} seeds, {sum(arm.num_rows for arm in arms):,} rows"]
    for arm in arms:
        there = f"; {1 - arm.left:.0%} of its parts are there" if arm.left < 1 else ""
        lines += [
            f"  {arm.name} ({arm.model}; {', '.join(arm.methods)}): {arm.num_networks} networks{there}",
            f"    {arm.num_trainings} trainings, {arm.trained_images:,} images through training",
            f"    {arm.num_test_sets} test sets, {arm.classified_images:,} images through evaluation, "
            f"{arm.num_rows:,} rows",
        ]
    by_part = ", ".join(f"{what} {duration(value)}" for what, value in found.seconds.items())
    return "\n".join(
        [
            *lines,
            f"about {duration(sum(found.seconds.values()))} for one process on {found.device} ({by_part})",
            f"about {found.peak_bytes / _GIB:.1f} GiB of memory",
        ]
    )


def duration(seconds: float) -> str:
    """Returns a time as a person says it.

    >>> duration(42), duration(754), duration(9000)
    ('42 s', '13 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _arms(whole: Plan) -> list[list[Unit]]:
    """Returns the units of each arm."""
    return [[unit for unit in whole.units if unit.arm == arm] for arm in whole.arms]


def _arm_plan(whole: Plan, units: list[Unit], num_train: int, num_test: int, out) -> ArmPlan:
    trainings = [each for unit in units for each in unit.trainings]
    num_sets = sum(map(len, whole.test_sets.values()))
    num_classifiers = sum(len(unit.evaluated) for unit in units)
    left_trainings, left_names = _left(whole, units, out)
    arm = units[0].arm
    return ArmPlan(
        name=arm.name,
        model=arm.model.name,
        methods=arm.methods,
        num_networks=sum(len(unit.networks) for unit in units),
        num_trainings=sum(each.how.epochs > 0 for each in trainings),
        trained_images=num_train * sum(each.how.epochs for each in trainings),
        num_test_sets=num_sets,
        classified_images=num_classifiers * num_sets * num_test,
        num_rows=num_classifiers * num_sets,
        left=(len(left_trainings) + len(left_names)) / (len(trainings) + len(units) * len(whole.test_sets)),
    )


def _left(whole: Plan, units: list[Unit], out) -> tuple[list[Training], list[str]]:
    """Returns the trainings of some units, and the test sets' names of their rows, that a run folder does not hold."""
    trainings = [each for unit in units for each in unit.trainings]
    rows = [(unit.rows_name(name), name) for unit in units for name in whole.test_sets]
    if out is not None:
        trainings = [each for each in trainings if not parts.checkpoint_path(epath.Path(out), each.name).exists()]
        unfinished = set(parts.unfinished_parts(whole, out))
        rows = [(part, name) for part, name in rows if part in unfinished]
    return trainings, [name for _, name in rows]


def _arm_seconds(whole: Plan, units: list[Unit], net, images, corruption: dict[str, float], out):
    """Returns the seconds of what is left of all seeds of an arm."""
    (train, test), arm = images, units[0].arm
    trainings, test_sets = _left(whole, units, out)
    trainings = [each for each in trainings if each.how.epochs]
    per_image, train_compilation = _training_seconds(arm.pretrain, net, train)
    forward, forward_compilation = _forward_seconds(whole.config, net, test)
    shapes = {_shape(each.network) for each in trainings}
    # Masks that move are part of the program; those that do not, its input.
    programs = {
        (each.name if each.stage == names.STAGE_PRUNED else _shape(each.network), each.how) for each in trainings
    }
    of_one_image = {name: len(units[0].evaluated) * forward + corruption.get(name, 0.0) for name in test_sets}
    return {
        _TRAINING: per_image * len(train) * sum(each.how.epochs for each in trainings),
        _EVALUATION: len(test) * sum(len(whole.test_sets[name]) * of_one_image[name] for name in test_sets),
        _COMPILATION: len(programs) * train_compilation + _FORWARD_PROGRAMS * len(shapes) * forward_compilation,
    }


def _shape(network: Network) -> tuple:
    """Returns what networks that share their compiled programs have in common."""
    if granularity(network.method) != names.GRANULARITY_CHANNELS:
        return (network.is_dense,)
    # One threshold for all layers leaves other widths for every seed; a fraction of each layer, the same.
    is_global = pruning.METHODS[network.method].scope == pruning.GLOBAL
    return network.sparsity, is_global and (network.method, network.seed)


def _training_seconds(how: TrainConfig, net: models.Classifier, train: data.Dataset) -> tuple[float, float]:
    """Returns the seconds per image, and of the compilation."""
    few = train.take(_TRIAL_STEPS * how.batch_size)
    options = {"optimizer": new_optimizer(how, len(train)), "epochs": 1, "key": key_of(0, "trial")}
    options |= {"augment": data.AUGMENTATIONS[how.augment], "precision": how.precision}

    def once():
        jax.block_until_ready(training.fit(net, few, batch_size=how.batch_size, **options).params)

    first, second = _seconds(once), _seconds(once)
    return second / len(few), max(0.0, first - second)


def _forward_seconds(config: StudyConfig, net: models.Classifier, test: data.Dataset) -> tuple[float, float]:
    """Returns the seconds per image of one network, and of the compilation."""
    few = test.take(_TRIAL_IMAGES)

    def once():
        evaluation.evaluate(net, few, corruptions=(), precision=config.evaluation.precision)

    first, second = _seconds(once), _seconds(once)
    return second / len(few), max(0.0, first - second)


def _corruption_seconds(whole: Plan, net: models.Classifier, test: data.Dataset):
    """Returns the seconds per image of each corruption's generation, and of all their compilations."""
    config = whole.config
    if config.evaluation.corrupted is not None or not config.evaluation.corruptions:
        return {}, 0.0
    few, found = test.take(_TRIAL_IMAGES), []
    options = {"key": key_of(0, "trial"), "corruptions": config.evaluation.corruptions}
    options |= {"severities": config.evaluation.severities[-1:], "frost_textures": whole.frost_textures}
    for _ in range(2):
        ends = {"start": time.monotonic()}
        evaluation.evaluate(net, few, **options, on_test_set=lambda name, _, e=ends: e.update({name: time.monotonic()}))
        names, times = list(ends)[1:], list(ends.values())
        found.append({name: end - begin for name, begin, end in zip(names, times, times[1:], strict=False)})
    first, second = found
    forward = second.pop(evaluation.CLEAN)
    compilation = sum(max(0.0, first[name] - second[name]) for name in second)
    return {name: max(0.0, value - forward) / len(few) for name, value in second.items()}, compilation


def _seconds(function: Callable[[], None]) -> float:
    start = time.monotonic()
    function()
    return time.monotonic() - start


def _peak_bytes(device: jax.Device) -> int:
    """Returns the most memory that the device, or for a CPU the process, has held so far."""
    statistics = device.memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"]
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
