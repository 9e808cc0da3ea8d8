"""Names that several rooms share, each in one place: corruptions, presets, methods without pruning, stages, columns."""

# Corruptions: the file stems of CIFAR-10-C, in the order of Hendrycks & Dietterich 2019, Table 1.
CORRUPTION_CATEGORIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
COMMON_CORRUPTIONS = tuple(name for names in CORRUPTION_CATEGORIES.values() for name in names)
# The benchmark's four further ones, with their categories; they are not part of its means.
EXTRA_CORRUPTIONS = {"speckle_noise": "noise", "gaussian_blur": "blur", "spatter": "weather", "saturate": "digital"}
CLEAN = "clean"
CLEAN_SEVERITY = 0
SEVERITIES = (1, 2, 3, 4, 5)
# Whose constants a corruption uses, from the smallest images to the largest.
PRESETS = ("cifar", "tiny_imagenet", "imagenet")

# What a method of `pruning.METHODS` removes: nothing, single weights (masked), or whole channels (physically).
GRANULARITY_NONE, GRANULARITY_WEIGHTS, GRANULARITY_CHANNELS = GRANULARITIES = ("none", "weights", "channels")
# The network that nothing was removed from, where a method is named.
DENSE = "dense"
# The control of each kind of method: the same number of weights or channels, chosen at random.
CONTROLS = {GRANULARITY_WEIGHTS: "random", GRANULARITY_CHANNELS: "channel_random"}

# What has been done to a network when it is evaluated, in the order in which tables show it, and as people read it.
STAGE_DENSE, STAGE_PRUNED, STAGE_RECALIBRATED = "dense", "pruned", "recalibrated"
STAGE_FINE_TUNED, STAGE_SCRATCH, STAGE_TEMPERATURE = "fine_tuned", "scratch", "temperature"
STAGES = {
    STAGE_DENSE: "as trained",
    STAGE_PRUNED: "before fine-tuning",
    STAGE_RECALIBRATED: "with BatchNorm recalibrated",
    STAGE_FINE_TUNED: "after fine-tuning",
    STAGE_SCRATCH: "trained from scratch",
    STAGE_TEMPERATURE: "fine-tuned, with a temperature",
}
# Of these stages the first that pruned networks were measured at is the one that figures and verdicts are about.
MAIN_STAGES = (STAGE_FINE_TUNED, STAGE_RECALIBRATED, STAGE_PRUNED)
# How a step reads that follows others, where that is not how it reads alone.
_LATER_STEPS = {STAGE_TEMPERATURE: "with a temperature"}
# Joins the steps of a stage that is made of several, such as "fine_tuned+temperature".
STAGE_SEPARATOR = "+"


def stage_steps(stage: str) -> tuple[str, ...]:
    """Returns the steps of a stage in the order in which they were taken.

    >>> stage_steps("fine_tuned"), stage_steps("fine_tuned+temperature")
    (('fine_tuned',), ('fine_tuned', 'temperature'))
    """
    return tuple(stage.split(STAGE_SEPARATOR))


def stage_title(stage: str) -> str:
    """Returns a stage as people read it; a step without an entry in `STAGES` by its own name.

    >>> stage_title("fine_tuned"), stage_title("fine_tuned+temperature")
    ('after fine-tuning', 'after fine-tuning, with a temperature')
    """
    first, *later = stage_steps(stage)
    titles = [STAGES.get(first, first), *(_LATER_STEPS.get(step) or STAGES.get(step, step) for step in later)]
    return ", ".join(title.replace("_", " ") for title in titles)


def check_stage(stage: str) -> None:
    """Raises a ValueError unless a stage begins with a step of `STAGES`, and goes on with names, none of them twice."""
    first, *later = stage_steps(stage)
    is_fine = first in STAGES and all(step.isidentifier() and step != STAGE_DENSE for step in later)
    if not is_fine or len({first, *later}) <= len(later):
        raise ValueError(
            f"stage is {stage!r}; it must be one of {', '.join(STAGES)}, or one of them and more steps joined by "
            f"{STAGE_SEPARATOR!r} as in {STAGE_FINE_TUNED}{STAGE_SEPARATOR}{STAGE_TEMPERATURE}"
        )


# Columns of a row that several rooms name; `results.schema.FIELDS` says what each of them all means.
ACCURACY, CALIBRATION_ERROR = "accuracy", "ece_equal_width_10"
LOG_LOSS, BRIER_SCORE = "negative_log_likelihood", "brier_score"
# What names one measurement; two rows that agree in all of it would be counted twice.
IDENTITY = ("dataset", "arm", "method", "sparsity", "stage", "seed", "corruption", "severity")
