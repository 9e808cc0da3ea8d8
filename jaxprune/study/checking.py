"""What a study needs to be possible, asked before anything is computed or written."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from etils import epath

from jaxprune import data, evaluation, models, pruning, randomness
from jaxprune.study.configuration import (
    ArmConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    StudyConfig,
    TrainConfig,
)
from jaxprune.study.inputs import new_optimizer
from jaxprune.training.options import Options, is_count, is_number

_ARM_NAME = r"[\w.-]+"  # part of file names
_COLOURS = "RGB"
_PARTS = {
    "data": DataConfig,
    "model": ModelConfig,
    "pretrain": TrainConfig,
    "finetune": TrainConfig,
    "evaluation": EvaluationConfig,
}
_SEQUENCES = ("methods", "sparsities", "seeds", "arms", "evaluation.corruptions", "evaluation.severities")

# A value of the configuration, by its path; whether one is fine; and how a message says what is.
_Rule = tuple[str, Callable[[Any], bool], str]


def _one_of(known: Iterable[str]) -> tuple[Callable[[Any], bool], str]:
    known = tuple(known)
    return (lambda value: value in known), f"one of {', '.join(known)}"


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_limit(value: Any) -> bool:
    return value is None or is_count(value, least=1)


def _is_seed(value: Any) -> bool:
    return is_count(value) and value <= randomness.LARGEST_SEED


_LIMIT = (_is_limit, "a whole number >= 1, or None for all")
_SEED = (_is_seed, "an integer in [0, 2^32)")
_FLAG = (_is_flag, "True or False")
_OF_A_STUDY: tuple[_Rule, ...] = (
    ("name", _is_name, "a text of printable characters, and not empty"),
    ("data.train_limit", *_LIMIT),
    ("data.test_limit", *_LIMIT),
    ("data.validation_images", is_count, "a number >= 0"),
    ("data.image_size", _is_limit, "a whole number of pixels >= 1, or None"),
    ("recalibration_images", is_count, "a number >= 0"),
    ("temperature", *_FLAG),
    ("scratch", *_FLAG),
    ("controls", *_FLAG),
    ("evaluation.batch_size", lambda value: is_count(value, least=1), "a whole number >= 1"),
    ("evaluation.seed", *_SEED),
    ("evaluation.keep_examples", *_FLAG),
    ("evaluation.precision", *_one_of(models.PRECISIONS)),
)


def check_configuration(config: StudyConfig) -> None:
    """Raises a ValueError or FileNotFoundError if the configuration cannot be run; computes nothing."""
    _check_types(config)
    if config.data.name not in data.DATASETS:
        raise ValueError(f"unknown data set {config.data.name!r}; known: {', '.join(data.DATASETS)}")
    for path, is_fine, allowed in _OF_A_STUDY:
        value = _value(config, path)
        if not is_fine(value):
            raise ValueError(f"{path}={value!r}; give {allowed}")
    if config.temperature and not config.data.validation_images:
        raise ValueError(
            "temperature=True fits on validation images and data.validation_images is 0; give their number, which is "
            "taken out of the training images (a temperature fitted on test images would flatter itself)"
        )
    arms = config.all_arms()
    arm_names = [arm.name for arm in arms]
    if len(set(arm_names)) != len(arms) or not all(
        _is_name(name) and re.fullmatch(_ARM_NAME, name) for name in arm_names
    ):
        listed = ", ".join(map(str, arm_names))
        raise ValueError(f"arms are named {listed}; give each its own name of letters, digits, '_', '.', '-'")
    for arm in arms:
        _check_arm(arm)
    _check_sparsities(config.sparsities)
    if not config.seeds or len(set(config.seeds)) != len(config.seeds) or not all(map(_is_seed, config.seeds)):
        raise ValueError(f"seeds are {config.seeds}; give one or more different integers in [0, 2^32)")
    _check_test_sets(config.evaluation)


def check_channels(arms: Iterable[ArmConfig], dataset: data.Dataset) -> None:
    """Raises a ValueError if a model is normalised with other channels than the images have."""
    channels = dataset.image_shape[-1]
    for arm in arms:
        for name in ("mean", "std"):
            value = getattr(arm.model, name)
            if value is not None and len(value) != channels:
                raise ValueError(
                    f"arm {arm.name!r}: model.{name} has {len(value)} entries, and the images of {dataset.name!r} have "
                    f"{channels} channels; give one per channel"
                )


def _value(config: StudyConfig, path: str) -> Any:
    for field in path.split("."):
        config = getattr(config, field)
    return config


def _check_types(config: StudyConfig) -> None:
    """Raises a ValueError for a part that is no part, and for one value where several are meant."""
    for name, kind in _PARTS.items():
        if not isinstance(getattr(config, name), kind):
            found = type(getattr(config, name)).__name__
            raise ValueError(f"{name} is a {found}; give a study.{kind.__name__}")
    for path in _SEQUENCES:
        if not isinstance(_value(config, path), list | tuple):
            raise ValueError(f"{path}={_value(config, path)!r}; give a tuple, also of one: ({_value(config, path)!r},)")
    for arm in config.arms:
        if not isinstance(arm, ArmConfig) or not isinstance(arm.model, ModelConfig):
            raise ValueError(
                f"arms hold a {type(arm).__name__}; give study.ArmConfig(name, study.ModelConfig(...), ...)"
            )
        if not isinstance(arm.methods, list | tuple):
            raise ValueError(
                f"arm {arm.name!r}: methods={arm.methods!r}; give a tuple, also of one: ({arm.methods!r},)"
            )


def _check_sparsities(sparsities: tuple[float, ...]) -> None:
    for sparsity in sparsities:
        if not is_number(sparsity) or not 0 <= sparsity < 1:
            raise ValueError(f"sparsity {sparsity} is outside [0, 1); give the fraction of weights to remove")
    if len(set(sparsities)) != len(sparsities):
        raise ValueError(f"sparsities are {sparsities}; give each once")


def _check_test_sets(config: EvaluationConfig) -> None:
    for name in ("corruptions", "severities"):
        values = getattr(config, name)
        if len(set(values)) != len(values):
            raise ValueError(f"evaluation.{name} are {values}; give each once")
    if config.corruptions and not config.severities:
        raise ValueError("evaluation.severities is empty; give some of 1..5, or no corruptions for clean images only")
    if config.corrupted is None:
        evaluation.check_corruptions(config.corruptions, config.severities)
    else:
        evaluation.folder_test_sets(config.corrupted, config.corruptions, config.severities)


def _check_arm(arm: ArmConfig) -> None:
    abstract = _check_model(arm)
    for part, train in (("pretrain", arm.pretrain), ("finetune", arm.finetune)):
        _check_train(part, train)
    for method in arm.methods:
        if method not in pruning.METHODS:
            raise ValueError(f"unknown pruning method {method!r}; known: {', '.join(pruning.METHODS)}")
    if len(set(arm.methods)) != len(arm.methods):
        raise ValueError(f"arm {arm.name!r} has the methods {', '.join(arm.methods)}; give each once")
    for method in arm.methods:
        row = pruning.METHODS[method]
        if row.masks_move and not arm.pretrain.epochs:
            raise ValueError(
                f"arm {arm.name!r}: the masks of {method!r} change while the network trains, and pretrain.epochs is 0; "
                "give epochs, or choose another method"
            )
        if row.removes_channels:
            pruning.default_layers(abstract, method)


def _check_model(arm: ArmConfig) -> models.Classifier:
    """Returns a classifier of shapes, if there can be one."""
    model, options = arm.model, arm.model.options()
    if model.checkpoint is not None and not epath.Path(model.checkpoint).exists():
        raise FileNotFoundError(
            f"no checkpoint at {model.checkpoint}; give --study.model.checkpoint the path of a PyTorch file, a "
            f".safetensors file or a folder that jaxprune saved"
        )
    if not is_number(model.initial_scale) or model.initial_scale <= 0:
        raise ValueError(f"arm {arm.name!r}: model.initial_scale={model.initial_scale!r}; give a finite number above 0")
    for name, least in (("mean", -math.inf), ("std", 0)):
        value = getattr(model, name)
        listed = value if isinstance(value, list | tuple) else ()
        if value is not None and not (listed and all(is_number(each) and each > least for each in listed)):
            allowed = "finite numbers above 0" if name == "std" else "finite numbers"
            raise ValueError(f"arm {arm.name!r}: model.{name}={value!r}; give {allowed}, one per channel")
    channels = len(model.mean or model.std or _COLOURS)
    known = {"name": model.name, "num_classes": 2, **options}
    try:
        shapes = models.abstract_state(**known, in_channels=channels)
    except TypeError as error:
        given = ", ".join(options)
        raise ValueError(f"{model.name} does not take all of the options {given}: {error}") from error
    mean, std = model.mean or (0.0,) * channels, model.std or (1.0,) * channels
    return models.assemble(**known, **shapes, mean=mean, std=std)


def _check_train(part: str, train: TrainConfig) -> None:
    if not isinstance(train, TrainConfig):
        raise ValueError(f"{part} is a {type(train).__name__}; give a study.TrainConfig")
    if train.augment not in data.AUGMENTATIONS:
        raise ValueError(f"{part}: unknown augment {train.augment!r}; known: {', '.join(data.AUGMENTATIONS)}")
    if train.precision not in models.PRECISIONS:
        raise ValueError(f"{part}: unknown precision {train.precision!r}; known: {', '.join(models.PRECISIONS)}")
    # The rest is the trainings' to say.
    try:
        Options(batch_size=train.batch_size).check(epochs=train.epochs)
        new_optimizer(train, train.batch_size)
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error
