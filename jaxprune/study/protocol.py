"""The study of Mitra, Schwalbe and Klein 2024 as a configuration: six pairs of a method and an architecture."""

import dataclasses

from jaxprune.study.configuration import ArmConfig, DataConfig, ModelConfig, StudyConfig, TrainConfig

# Liu et al. 2017, as the study uses it: the penalty on BatchNorm's scales, and what they begin with.
_VGG_PENALTY, _RESIDUAL_PENALTY, _INITIAL_SCALE = 1e-4, 1e-5, 0.5


def paper_protocol(dataset: str, *, data_dir: str | None = None) -> StudyConfig:
    """Returns the full protocol on "cifar10" or "cifar100": 6 pairs, 8 sparsities, 3 seeds, 160 + 40 epochs.

    What goes beyond it: the controls (dense with the same fine-tuning, random masks and channels, before fine-tuning,
    BatchNorm recalibrated).

    Source: arXiv 2405.20876; the pruning pipelines are those of Liu et al., "Rethinking the Value of Network Pruning".
    """
    pretrain = TrainConfig()
    slim_vgg, slim_residual = (
        dataclasses.replace(pretrain, scale_penalty=penalty) for penalty in (_VGG_PENALTY, _RESIDUAL_PENALTY)
    )
    return StudyConfig(
        name=f"paper_{dataset}",
        data=DataConfig(name=dataset, data_dir=data_dir),
        arms=(
            ArmConfig("vgg19-weight", ModelConfig(name="vgg19_bn", conv_bias=True), ("weight",)),
            ArmConfig("preresnet110-weight", ModelConfig(name="preresnet110"), ("weight",)),
            ArmConfig("vgg16-filters", ModelConfig(name="vgg16_bn", head="hidden"), ("filter_l1",)),
            ArmConfig("resnet110-filters", ModelConfig(name="resnet110", shortcut="average_pool"), ("filter_l1",)),
            ArmConfig(
                "vgg19-slimming",
                ModelConfig(name="vgg19_bn", initial_scale=_INITIAL_SCALE),
                ("slimming",),
                pretrain=slim_vgg,
            ),
            ArmConfig(
                "preresnet164-slimming",
                ModelConfig(name="preresnet164", initial_scale=_INITIAL_SCALE),
                ("slimming",),
                pretrain=slim_residual,
            ),
        ),
        pretrain=pretrain,
        finetune=TrainConfig(epochs=40, learning_rate=0.001, schedule="constant"),
    )
