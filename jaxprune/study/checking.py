"""What a study needs to be possible, asked before anything is computed or written."""

import re

from etils import epath

from jaxprune import corruptions, data, evaluation, models, pruning, training
from jaxprune.study.configuration import ArmConfig, EvaluationConfig, StudyConfig, TrainConfig

_ARM_NAME = r"[\w.-]+"  # part of file names


def check(config: StudyConfig) -> None:
    """Raises a ValueError or FileNotFoundError if the configuration cannot be run; computes nothing."""
    _check_data(config)
    arms = config.all_arms()
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names) or not all(re.fullmatch(_ARM_NAME, name) for name in names):
        raise ValueError(f"arms are named {', '.join(names)}; give each its own name of letters, digits, '_', '.', '-'")
    for arm in arms:
        _check_arm(arm)
    for sparsity in config.sparsities:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity {sparsity} is outside [0, 1); give the fraction of weights to remove")
    if len(set(config.sparsities)) != len(config.sparsities):
        raise ValueError(f"sparsities are {config.sparsities}; give each once")
    if config.recalibration_images < 0:
        raise ValueError(f"recalibration_images={config.recalibration_images}; give a number >= 0")
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ValueError(f"seeds are {config.seeds}; give one or more different integers")
    for seed in (*config.seeds, config.evaluation.seed):
        models.seed_key(seed)
    _check_evaluation(config.evaluation)


def frost_textures(config: EvaluationConfig) -> corruptions.FrostTextures | None:
    """Returns what frost is cropped from, None where there is no frost: growing textures takes a second."""
    needed = config.corrupted is None and "frost" in config.corruptions
    return corruptions.FrostTextures.from_name(config.frost_textures) if needed else None


def _check_data(config: StudyConfig) -> None:
    if config.data.name not in data.DATASETS:
        raise ValueError(f"unknown data set {config.data.name!r}; known: {', '.join(data.DATASETS)}")
    if config.data.validation_images < 0:
        raise ValueError(f"data.validation_images={config.data.validation_images}; give a number >= 0")
    if config.temperature and not config.data.validation_images:
        raise ValueError(
            "temperature=True fits on validation images and data.validation_images is 0; give their number, which is "
            "taken out of the training images (a temperature fitted on test images would flatter itself)"
        )


def _check_evaluation(config: EvaluationConfig) -> None:
    if config.corrupted is None:
        evaluation.check_corruptions(config.corruptions, config.severities)
    else:
        evaluation.folder_test_sets(config.corrupted, config.corruptions, config.severities)
    if config.compute_dtype not in models.PRECISIONS:
        known = ", ".join(models.PRECISIONS)
        raise ValueError(f"evaluation: unknown compute_dtype {config.compute_dtype!r}; known: {known}")
    frost_textures(config)


def _check_arm(arm: ArmConfig) -> None:
    options = arm.model.options()
    try:
        shapes = models.abstract_state(arm.model.name, num_classes=2, **options)
    except TypeError as error:
        given = ", ".join(options)
        raise ValueError(f"{arm.model.name} does not take all of the options {given}: {error}") from error
    if arm.model.checkpoint is not None and not epath.Path(arm.model.checkpoint).exists():
        raise FileNotFoundError(
            f"no checkpoint at {arm.model.checkpoint}; give --study.model.checkpoint the path of a PyTorch file, a "
            f".safetensors file or a folder that jaxprune saved"
        )
    for part, train in (("pretrain", arm.pretrain), ("finetune", arm.finetune)):
        _check_train(part, train)
    for method in arm.methods:
        if method not in pruning.METHODS:
            raise ValueError(f"unknown pruning method {method!r}; known: {', '.join(pruning.METHODS)}")
    if len(set(arm.methods)) != len(arm.methods):
        raise ValueError(f"arm {arm.name!r} has the methods {', '.join(arm.methods)}; give each once")
    abstract = models.assemble(arm.model.name, num_classes=2, **shapes, mean=(0.0,) * 3, std=(1.0,) * 3, **options)
    for method in arm.methods:
        row = pruning.METHODS[method]
        if row.masks_move:
            raise ValueError(
                f"arm {arm.name!r}: the masks of {method!r} change while the network trains, and a study prunes what "
                "is trained already; choose another method"
            )
        if row.removes_channels:
            pruning.default_layers(abstract, method)


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
    if train.compute_dtype not in models.PRECISIONS:
        known = ", ".join(models.PRECISIONS)
        raise ValueError(f"{part}: unknown compute_dtype {train.compute_dtype!r}; known: {known}")
