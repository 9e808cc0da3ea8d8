"""What a study is told: frozen dataclasses, and the hash that names their content."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

from jaxprune import corruptions, evaluation, models, names, pruning, training

# Where files lie says nothing about the result, so of these fields only whether they are set enters the hash.
_LOCATIONS = ("data_dir", "checkpoint", "corrupted")
# What run folders of earlier releases, and so `config_hash`, call a field.
_FORMER_NAMES = {"precision": "compute_dtype"}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images. A limit of None takes all.

    `validation_images` are taken out of the training images, the same share of every class; temperatures are fitted on
    them, and nothing else is. `image_size` is for image folders: pixels per side.
    """

    name: str = "digits"
    data_dir: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    validation_images: int = 0
    image_size: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network.

    `checkpoint` imports trained weights: a PyTorch file, a `.safetensors` file or a folder that jaxprune saved. `mean`
    and `std` default to the data set's. `initial_scale` is what BatchNorm's scales begin with, 0.5 for network
    slimming. The fields after it are options of some architectures (see `models.create`); None leaves an
    architecture's default, and an option that it does not have is refused.
    """

    name: str = "resnet8"
    checkpoint: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    initial_scale: float = 1.0
    shortcut: str | None = None
    stage_widths: tuple[int, ...] | None = None
    head: str | None = None
    conv_bias: bool | None = None
    stem: str | None = None

    def options(self) -> dict:
        """Returns the module's own options, as `models.create` takes them."""
        fields = ("shortcut", "stage_widths", "head", "conv_bias", "stem")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}


def _rename(config: "TrainConfig | EvaluationConfig", compute_dtype: str | None) -> None:
    """Sets the precision that is given by its former name."""
    if compute_dtype is not None:
        object.__setattr__(config, "precision", models.renamed(None, compute_dtype))


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train or fine-tune; see `training.sgd` and `data.AUGMENTATIONS`.

    `precision` is that of the forward and backward passes, "float32" or "bfloat16"; `compute_dtype` its former name.
    """

    epochs: int = 160
    learning_rate: float = training.LEARNING_RATE
    momentum: float = training.MOMENTUM
    weight_decay: float = training.WEIGHT_DECAY
    batch_size: int = training.BATCH_SIZE
    schedule: str = "step"
    augment: str = "crop_and_flip"
    scale_penalty: float = 0.0
    precision: str = "float32"
    compute_dtype: dataclasses.InitVar[str | None] = None

    def __post_init__(self, compute_dtype: str | None):
        _rename(self, compute_dtype)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Which test sets; the corruptions' pixels follow from `seed` alone and are the same for all networks.

    `corrupted` is a folder in CIFAR-10-C's layout whose images are read instead of generated; `corruptions` and
    `severities` select of it. `precision` is that of the forward passes, "float32" or "bfloat16"; `compute_dtype`
    its former name. `frost_textures` is "procedural", "imagecorruptions" (the files of that package, if installed) or
    a directory. `keep_examples` writes what every network said of every image into the run folder (about 9 bytes each,
    compressed): the report's paired comparisons, reliability diagrams and exemplars need it.
    """

    corruptions: tuple[str, ...] = tuple(name for name in corruptions.COMMON_CORRUPTIONS)
    severities: tuple[int, ...] = evaluation.SEVERITIES
    batch_size: int = evaluation.BATCH_SIZE
    seed: int = 0
    frost_textures: str = "procedural"
    keep_examples: bool = True
    corrupted: str | None = None
    precision: str = "float32"
    compute_dtype: dataclasses.InitVar[str | None] = None

    def __post_init__(self, compute_dtype: str | None):
        _rename(self, compute_dtype)


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
    and their sparsity is the fraction of the channels of the layers that they choose. A method with one sparsity of its
    own, such as "nm_2_4", has that one, whatever `sparsities` are, and its control has it too. Sparsity 0 stands for
    the dense network, which is always evaluated as trained and after the same fine-tuning as the pruned ones. A pruned
    network is evaluated as pruned, with BatchNorm recalibrated on `recalibration_images` training images (0 leaves that
    out), and after fine-tuning; with `temperature` also with a temperature fitted on validation images, and with
    `scratch` as the same small network trained from other initial weights with the dense network's budget (Liu et al.
    2019).

    With `controls`, every arm is also pruned at random, weights or channels as its methods do: what any method should
    beat. Random channels are drawn from the layers that the arm's first method of that kind prunes.

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
    temperature: bool = False
    scratch: bool = False
    controls: bool = True
    evaluation: EvaluationConfig = EvaluationConfig()
    arms: tuple[ArmConfig, ...] = ()

    def all_arms(self) -> tuple[ArmConfig, ...]:
        """Returns the arms with training and controls filled in; a study of one architecture is one arm of its name."""
        arms = self.arms or (ArmConfig(self.model.name, self.model, self.methods),)
        return tuple(
            dataclasses.replace(
                arm,
                methods=_with_controls(arm.methods) if self.controls else _canonical(arm.methods),
                pretrain=arm.pretrain or self.pretrain,
                finetune=arm.finetune or self.finetune,
            )
            for arm in arms
        )


def _canonical(methods: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(pruning.canonical_name, methods))


def _with_controls(methods: tuple[str, ...]) -> tuple[str, ...]:
    methods = _canonical(methods)
    known = [method for method in methods if method in pruning.METHODS]  # the others are refused by `check`
    return tuple(dict.fromkeys((*methods, *(names.CONTROLS[granularity(method)] for method in known))))


def granularity(method: str) -> str:
    """Returns what a method removes, as the rows name it."""
    return names.GRANULARITY_NONE if method == names.DENSE else pruning.METHODS[method].granularity


def config_dict(config: StudyConfig) -> dict:
    """Returns a configuration as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: StudyConfig) -> str:
    """Returns twelve hexadecimal digits that change with whatever may change the rows, file locations excepted."""

    def hashed(field, value):
        return _FORMER_NAMES.get(field, field), value is not None if field in _LOCATIONS else value

    content = json.dumps(_map_fields(config_dict(config), hashed), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def with_present_names(content):
    """Returns a configuration, as JSON of any release holds it, with the names that its fields have now."""
    present = {former: name for name, former in _FORMER_NAMES.items()}
    return _map_fields(content, lambda field, value: (present.get(field, field), value))


def _map_fields(content, change: Callable[[str, Any], tuple[str, Any]]):
    """Returns JSON with `change(field, value)` in place of every field and value of its dictionaries."""
    if isinstance(content, list):
        return [_map_fields(item, change) for item in content]
    if not isinstance(content, dict):
        return content
    return dict(change(field, _map_fields(value, change)) for field, value in content.items())
