"""What a study is made of: frozen dataclasses, checked before anything is computed."""

import dataclasses
import hashlib
import json
import re
from typing import NamedTuple

from etils import epath

from jaxprune import corruptions, data, evaluation, models, pruning, training

SCHEMA_VERSION = 2
DENSE = "dense"
STAGE_DENSE, STAGE_PRUNED, STAGE_RECALIBRATED, STAGE_FINE_TUNED = "dense", "pruned", "recalibrated", "fine_tuned"
# What a method removes: nothing, single weights (masked), or whole channels (physically).
GRANULARITY_NONE, GRANULARITY_WEIGHTS, GRANULARITY_CHANNELS = "none", "weights", "channels"

# Where files lie says nothing about the result, so of these fields only whether they are set enters the hash.
_LOCATIONS = ("data_dir", "checkpoint")
_ARM_NAME = r"[\w.-]+"  # part of file names


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images. A limit of None takes all."""

    name: str = "digits"
    data_dir: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network; `checkpoint` imports a PyTorch file, `mean` and `std` default to the data set's.

    The fields after `std` are options of some architectures (see `models.create`); None leaves an architecture's
    default, and an option that it does not have is refused.
    """

    name: str = "resnet8"
    checkpoint: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    shortcut: str | None = None
    stage_widths: tuple[int, ...] | None = None
    head: str | None = None
    conv_bias: bool | None = None
    stem: str | None = None

    def options(self) -> dict:
        """Returns the module's own options, as `models.create` takes them."""
        fields = ("shortcut", "stage_widths", "head", "conv_bias", "stem")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train or fine-tune; see `training.sgd` and `data.AUGMENTATIONS`."""

    epochs: int = 160
    learning_rate: float = training.LEARNING_RATE
    momentum: float = training.MOMENTUM
    weight_decay: float = training.WEIGHT_DECAY
    batch_size: int = training.BATCH_SIZE
    schedule: str = "step"
    augment: str = "crop_and_flip"
    scale_penalty: float = 0.0


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Which test sets; the corruptions' pixels follow from `seed` alone and are the same for all networks.

    `frost_textures` is "procedural", "imagecorruptions" (the files of that package, if installed) or a directory.
    `keep_examples` writes what every network said of every image into the run folder (about 9 bytes each, compressed):
    the report's paired comparisons, reliability diagrams and exemplars need it.
    """

    corruptions: tuple[str, ...] = tuple(name for name in corruptions.COMMON_CORRUPTIONS)
    severities: tuple[int, ...] = evaluation.SEVERITIES
    batch_size: int = evaluation.BATCH_SIZE
    seed: int = 0
    frost_textures: str = "procedural"
    keep_examples: bool = True


@dataclasses.dataclass(frozen=True)
class ArmConfig:
    """One architecture of a study with several, the methods that prune it, and its own training where it differs."""

    name: str
    model: ModelConfig
    methods: tuple[str, ...]
    pretrain: TrainConfig | None = None
    finetune: TrainConfig | None = None


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A whole study. `finetune` defaults to the protocol of Mitra et al. 2024; so does everything else by choice.

    `methods` are keys of `pruning.METHODS`; those that remove channels are fine-tuned and evaluated physically smaller,
    and their sparsity is the fraction of the channels of the layers that they choose. Sparsity 0 stands for the dense
    network, which is always evaluated as trained and after the same fine-tuning as the pruned ones. A pruned network is
    evaluated as pruned, with BatchNorm recalibrated on `recalibration_images` training images (0 leaves that out), and
    after fine-tuning.

    A study of several architectures lists them as `arms`, each with its own methods; `model` and `methods` then count
    for nothing, and `pretrain` and `finetune` are what an arm without its own uses.
    """

    name: str = "study"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: TrainConfig = TrainConfig()
    finetune: TrainConfig = TrainConfig(epochs=40, learning_rate=0.001, schedule="constant")
    methods: tuple[str, ...] = ("weight", "random")
    sparsities: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    seeds: tuple[int, ...] = (0, 1, 2)
    recalibration_images: int = 1000
    evaluation: EvaluationConfig = EvaluationConfig()
    arms: tuple[ArmConfig, ...] = ()

    def all_arms(self) -> tuple[ArmConfig, ...]:
        """Returns the arms with their training filled in; a study of one architecture is one arm of its name."""
        arms = self.arms or (ArmConfig(self.model.name, self.model, self.methods),)
        return tuple(
            dataclasses.replace(arm, pretrain=arm.pretrain or self.pretrain, finetune=arm.finetune or self.finetune)
            for arm in arms
        )


class Network(NamedTuple):
    """One network of the plan, before fine-tuning."""

    seed: int
    arm: str
    method: str
    sparsity: float

    @property
    def label(self) -> str:
        """The name of its checkpoint folder."""
        return f"seed{self.seed}-{self.arm}-{self.method}-{self.sparsity:g}"


def check(config: StudyConfig) -> None:
    """Raises a ValueError or FileNotFoundError if the configuration cannot be run; computes nothing."""
    if config.data.name not in data.DATASETS:
        raise ValueError(f"unknown data set {config.data.name!r}; known: {', '.join(data.DATASETS)}")
    arms = config.all_arms()
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names) or not all(re.fullmatch(_ARM_NAME, name) for name in names):
        raise ValueError(f"arms are named {', '.join(names)}; give each its own name of letters, digits, '_', '.', '-'")
    for arm in arms:
        _check_arm(arm)
    for sparsity in config.sparsities:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity {sparsity} is outside [0, 1); give the fraction of weights to remove")
    if config.recalibration_images < 0:
        raise ValueError(f"recalibration_images={config.recalibration_images}; give a number >= 0")
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ValueError(f"seeds are {config.seeds}; give one or more different integers")
    evaluation.check_corruptions(config.evaluation.corruptions, config.evaluation.severities)
    frost_textures(config.evaluation)


def _check_arm(arm: ArmConfig) -> None:
    try:
        models.abstract_state(arm.model.name, num_classes=2, **arm.model.options())
    except TypeError as error:
        given = ", ".join(arm.model.options())
        raise ValueError(f"{arm.model.name} does not take all of the options {given}: {error}") from error
    if arm.model.checkpoint is not None and not epath.Path(arm.model.checkpoint).exists():
        raise FileNotFoundError(
            f"no checkpoint at {arm.model.checkpoint}; give --study.model.checkpoint the path of a PyTorch file"
        )
    for part, train in (("pretrain", arm.pretrain), ("finetune", arm.finetune)):
        _check_train(part, train)
    for method in arm.methods:
        if method not in pruning.METHODS:
            raise ValueError(f"unknown pruning method {method!r}; known: {', '.join(pruning.METHODS)}")


def frost_textures(config: EvaluationConfig) -> corruptions.FrostTextures | None:
    """Returns what frost is cropped from, None where there is no frost: growing textures takes a second."""
    return corruptions.FrostTextures.from_name(config.frost_textures) if "frost" in config.corruptions else None


def _check_train(part: str, train: TrainConfig) -> None:
    if train.epochs < 0 or train.batch_size < 1 or train.learning_rate <= 0 or train.scale_penalty < 0:
        raise ValueError(
            f"{part}: epochs={train.epochs}, batch_size={train.batch_size}, learning_rate={train.learning_rate}, "
            f"scale_penalty={train.scale_penalty}; epochs and scale_penalty must be >= 0, batch_size >= 1, "
            f"learning_rate > 0"
        )
    if train.schedule not in training.SCHEDULES:
        raise ValueError(f"{part}: unknown schedule {train.schedule!r}; known: {', '.join(training.SCHEDULES)}")
    if train.augment not in data.AUGMENTATIONS:
        raise ValueError(f"{part}: unknown augment {train.augment!r}; known: {', '.join(data.AUGMENTATIONS)}")


def networks(config: StudyConfig, arm: ArmConfig, seed: int) -> list[Network]:
    """Returns an arm's networks of one seed: the dense one first, then every method at every sparsity above 0."""
    pruned = [Network(seed, arm.name, method, s) for method in arm.methods for s in config.sparsities if s > 0]
    return [Network(seed, arm.name, DENSE, 0.0), *pruned]


def granularity(method: str) -> str:
    """Returns what a method removes, as the rows name it."""
    if method == DENSE:
        return GRANULARITY_NONE
    return GRANULARITY_CHANNELS if method in pruning.STRUCTURED_METHODS else GRANULARITY_WEIGHTS


def config_dict(config: StudyConfig) -> dict:
    """Returns a configuration as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: StudyConfig) -> str:
    """Returns twelve hexadecimal digits that change with whatever may change the rows, file locations excepted."""
    content = json.dumps(_without_locations(config_dict(config)), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _without_locations(content):
    if isinstance(content, list):
        return [_without_locations(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        field: value is not None if field in _LOCATIONS else _without_locations(value)
        for field, value in content.items()
    }
