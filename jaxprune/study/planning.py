"""What a study will do, and, from a short trial on this machine, for how long and in how much memory."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from etils import epath

from jaxprune import data, evaluation, models, pruning, training
from jaxprune.study import parts
from jaxprune.study.candidates import initial, key_of
from jaxprune.study.checking import check, frost_textures
from jaxprune.study.configuration import (
    DENSE,
    GRANULARITY_CHANNELS,
    ArmConfig,
    Network,
    StudyConfig,
    TrainConfig,
    granularity,
    networks,
    num_evaluated,
    test_set_names,
)
from jaxprune.study.running import load_data, optimizer

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
    check(config)
    train, _, test = load_data(config)
    return [_arm_plan(config, arm, len(train), len(test), out) for arm in config.all_arms()]


def estimate(config: StudyConfig, out=None, *, on_progress: Callable[[str, float], None] | None = None) -> Estimate:
    """Returns how long what is left of a study takes on this machine, from a trial of a minute or a few.

    The trial generates every corruption, and trains and evaluates the dense network of every arm, on a few images and
    twice, so that compilation is known apart. Networks that lose channels count as the dense one: an upper bound.
    """
    check(config)
    train, _, test = load_data(config)
    arms = config.all_arms()
    tell = on_progress or (lambda description, fraction: None)
    tell("trying the corruptions", 0.0)
    net = initial(arms[0].model, train, config.seeds[0])
    corruption, compilation = _corruption_seconds(config, net, test)
    seconds = {_TRAINING: 0.0, _EVALUATION: 0.0, _COMPILATION: compilation}
    stored = 0
    for index, arm in enumerate(arms, start=1):
        tell(f"trying {arm.name}", index / (len(arms) + 1))
        net = initial(arm.model, train, config.seeds[0])
        for what, value in _arm_seconds(config, arm, net, (train, test), corruption, out).items():
            seconds[what] += value
        of_one = sum(leaf.nbytes for leaf in jax.tree.leaves((net.params, net.batch_stats)))
        stored = max(stored, of_one * num_evaluated(config, arm, 0))
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


def _arm_plan(config: StudyConfig, arm: ArmConfig, num_train: int, num_test: int, out) -> ArmPlan:
    units = [(seed, arm) for seed in config.seeds]
    trainings = [each for unit in units for each in parts.trainings(config, unit).values()]
    num_sets = sum(parts.num_severities(config, name) for name in test_set_names(config))
    num_classifiers = len(units) * num_evaluated(config, arm, 0)
    left_trainings, left_names = _left(config, units, out)
    return ArmPlan(
        name=arm.name,
        model=arm.model.name,
        methods=arm.methods,
        num_networks=len(units) * len(networks(config, arm, 0)),
        num_trainings=sum(each.how.epochs > 0 for each in trainings),
        trained_images=num_train * sum(each.how.epochs for each in trainings),
        num_test_sets=num_sets,
        classified_images=num_classifiers * num_sets * num_test,
        num_rows=num_classifiers * num_sets,
        left=(len(left_trainings) + len(left_names)) / (len(trainings) + len(units) * len(test_set_names(config))),
    )


def _left(config: StudyConfig, units: list[parts.Unit], out) -> tuple[list[parts.Training], list[str]]:
    """Returns the trainings and the rows' names of some units that a run folder does not hold."""
    trainings = [item for unit in units for item in parts.trainings(config, unit).items()]
    names = [(unit, name) for unit in units for name in test_set_names(config)]
    if out is not None:
        out = epath.Path(out)
        trainings = [(name, each) for name, each in trainings if not parts.checkpoint_path(out, name).exists()]
        unfinished = set(parts.unfinished(config, out))
        names = [part for part in names if parts.rows_path(out, *part).name in unfinished]
    return [each for _, each in trainings], [name for _, name in names]


def _arm_seconds(config: StudyConfig, arm: ArmConfig, net, images, corruption: dict[str, float], out):
    """Returns the seconds of what is left of all seeds of an arm."""
    train, test = images
    trainings, names = _left(config, [(seed, arm) for seed in config.seeds], out)
    trainings = [each for each in trainings if each.how.epochs]
    per_image, train_compilation = _training_seconds(arm.pretrain, net, train)
    forward, forward_compilation = _forward_seconds(config, net, test)
    shapes = {_shape(each.network) for each in trainings}
    programs = {(_shape(each.network), each.how) for each in trainings}
    of_one_image = {name: num_evaluated(config, arm, 0) * forward + corruption.get(name, 0.0) for name in set(names)}
    return {
        _TRAINING: per_image * len(train) * sum(each.how.epochs for each in trainings),
        _EVALUATION: len(test) * sum(parts.num_severities(config, name) * of_one_image[name] for name in names),
        _COMPILATION: len(programs) * train_compilation + _FORWARD_PROGRAMS * len(shapes) * forward_compilation,
    }


def _shape(network: Network) -> tuple:
    """Returns what networks that share their compiled programs have in common."""
    if granularity(network.method) != GRANULARITY_CHANNELS:
        return (network.method == DENSE,)
    # One threshold for all layers leaves other widths for every seed; a fraction of each layer, the same.
    is_global = pruning.METHODS[network.method].scope == pruning.GLOBAL
    return network.sparsity, is_global and (network.method, network.seed)


def _training_seconds(how: TrainConfig, net: models.Classifier, train: data.Dataset) -> tuple[float, float]:
    """Returns the seconds per image, and of the compilation."""
    few = train.take(_TRIAL_STEPS * how.batch_size)
    options = {"optimizer": optimizer(how, len(train)), "epochs": 1, "key": key_of(0, "trial")}
    options |= {"augment": data.AUGMENTATIONS[how.augment], "precision": how.compute_dtype}

    def once():
        jax.block_until_ready(training.fit(net, few, batch_size=how.batch_size, **options).params)

    first, second = _seconds(once), _seconds(once)
    return second / len(few), max(0.0, first - second)


def _forward_seconds(config: StudyConfig, net: models.Classifier, test: data.Dataset) -> tuple[float, float]:
    """Returns the seconds per image of one network, and of the compilation."""
    few = test.take(_TRIAL_IMAGES)

    def once():
        evaluation.evaluate(net, few, corruptions=(), precision=config.evaluation.compute_dtype)

    first, second = _seconds(once), _seconds(once)
    return second / len(few), max(0.0, first - second)


def _corruption_seconds(config: StudyConfig, net: models.Classifier, test: data.Dataset):
    """Returns the seconds per image of each corruption's generation, and of all their compilations."""
    if config.evaluation.corrupted is not None or not config.evaluation.corruptions:
        return {}, 0.0
    few, found = test.take(_TRIAL_IMAGES), []
    options = {"key": key_of(0, "trial"), "corruptions": config.evaluation.corruptions}
    options |= {"severities": config.evaluation.severities[-1:], "frost_textures": frost_textures(config.evaluation)}
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
