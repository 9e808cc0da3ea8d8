"""The table of stages: when a network of a study is evaluated at one, and what is evaluated then.

A stage that needs a training of its own has that in `planning`; the others are made from what trainings left.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxprune import metrics, models, names, training
from jaxprune.checkpoints import Checkpoint
from jaxprune.data import Dataset
from jaxprune.study.configuration import ArmConfig, StudyConfig
from jaxprune.study.inputs import spread
from jaxprune.study.network import Network


class Making(NamedTuple):
    """What a stage of a network is made from.

    Attributes:
      config: of the study.
      start: the network before fine-tuning.
      trained: returns what the network's training that leads to a stage left.
      train: the training images.
      validation: those taken out of them; None if the study takes none.
    """

    config: StudyConfig
    start: models.Classifier
    trained: Callable[[str], Checkpoint]
    train: Dataset
    validation: Dataset | None


class Stage(NamedTuple):
    """A row of `STAGES`.

    Attributes:
      is_wanted: whether a study evaluates a network of an arm at it.
      make: returns what is evaluated.
      is_fine_tuned: whether the epochs of fine-tuning are behind it.
    """

    is_wanted: Callable[[StudyConfig, ArmConfig, Network], bool]
    make: Callable[[Making], models.Classifier]
    is_fine_tuned: bool = False


def _recalibrated(making: Making) -> models.Classifier:
    images = spread(making.train, making.config.recalibration_images)
    return training.recalibrate_batch_norm(making.start, images, precision=making.config.evaluation.precision)


def _with_temperature(making: Making) -> models.Classifier:
    fine_tuned, validation = making.trained(names.STAGE_FINE_TUNED).classifier, making.validation
    logits = fine_tuned.logits(validation.images, precision=making.config.evaluation.precision)
    return fine_tuned.replace(temperature=metrics.fit_temperature(logits, validation.labels, split=validation.split))


# In the order of the rows.
STAGES = {
    names.STAGE_DENSE: Stage(
        is_wanted=lambda config, arm, network: network.is_dense,
        make=lambda making: making.start,
    ),
    names.STAGE_PRUNED: Stage(
        is_wanted=lambda config, arm, network: not network.is_dense,
        make=lambda making: making.start,
    ),
    names.STAGE_RECALIBRATED: Stage(
        is_wanted=lambda config, arm, network: not network.is_dense and config.recalibration_images > 0,
        make=_recalibrated,
    ),
    names.STAGE_FINE_TUNED: Stage(
        is_wanted=lambda config, arm, network: arm.finetune.epochs > 0,
        make=lambda making: making.trained(names.STAGE_FINE_TUNED).classifier,
        is_fine_tuned=True,
    ),
    names.STAGE_SCRATCH: Stage(
        is_wanted=lambda config, arm, network: not network.is_dense and config.scratch,
        make=lambda making: making.trained(names.STAGE_SCRATCH).classifier,
    ),
    names.STAGE_TEMPERATURE: Stage(
        is_wanted=lambda config, arm, network: config.temperature,
        make=_with_temperature,
        is_fine_tuned=True,
    ),
}


def make_all(making: Making, wanted: list[str]) -> dict[str, models.Classifier]:
    """Returns what is evaluated of a network at each of the stages that are wanted of it."""
    made = {stage: STAGES[stage].make(making) for stage in wanted}
    if all(classifier.temperature is None for classifier in made.values()):
        return made
    # A temperature of 1 changes nothing, and lets all stages share one compiled program.
    one = jnp.float32(1)
    return {
        stage: classifier.replace(temperature=one) if classifier.temperature is None else classifier
        for stage, classifier in made.items()
    }
