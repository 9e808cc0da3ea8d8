"""The study's question within an hour on two cores: three of its six pairs, with an eighth of the channels.

    jaxprune run configs/paper_small_cpu.py --out runs/paper_small_cpu

Reads the prepared TFDS set from the folder named by JAXPRUNE_SHARED (default ../shared); for your own give
--study.data.data-dir. A second process with the same command shares the work. What is reduced, against the protocol
of `paper_cifar10.py`:

    pairs          weight pruning of VGG-19, L1 filter pruning of VGG-16, network slimming of VGG-19; no residual nets
    widths         8, 16, 32, 64, 64 channels instead of 64 to 512
    images         9,500 of 50,000 to train on (500 more for the temperature), 500 of 10,000 to test on
    epochs         15 + 1 instead of 160 + 40; fine-tuning at 0.01 instead of 0.001, cosine instead of steps
    slimming       penalty 1e-3 instead of 1e-4: there are 56 times fewer steps to drive scales towards 0
    sparsities     10, 30, 50 and 70 % instead of seven
    severities     1, 3 and 5
    seeds          2 instead of 3

Two CPU cores, two processes, other work beside them: about 45 minutes. Expected, measured on 2026-11-23, clean accuracy
and ECE after fine-tuning: weight pruning dense 59.7 and 5.5 %, at 70 % 59.4 and 5.1 % (random weights 36.6 and 5.9);
L1 filters dense 50.0 and 6.0, at 70 % 39.2 and 4.6 (random 35.2 and 3.8); slimming dense 52.2 and 6.0, at 70 % 46.2
and 9.5 (random 18.0 and 5.4).
"""

import os

from jaxprune.study import ArmConfig, DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig

SHARED = os.environ.get("JAXPRUNE_SHARED", "../shared")
WIDTHS = (8, 16, 32, 64, 64)
PRETRAIN = TrainConfig(epochs=15, learning_rate=0.1, schedule="cosine", batch_size=64)
SLIMMING = TrainConfig(epochs=15, learning_rate=0.1, schedule="cosine", batch_size=64, scale_penalty=1e-3)


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    vgg16 = ModelConfig(name="vgg16_bn", head="hidden", stage_widths=WIDTHS)
    vgg19_with_bias = ModelConfig(name="vgg19_bn", stage_widths=WIDTHS, conv_bias=True)
    vgg19_to_slim = ModelConfig(name="vgg19_bn", stage_widths=WIDTHS, initial_scale=0.5)
    return StudyConfig(
        name="paper_small_cpu",
        data=DataConfig(
            name="cifar10",
            data_dir=f"{SHARED}/data/tfds",
            train_limit=10_000,
            test_limit=500,
            validation_images=500,
        ),
        arms=(
            ArmConfig("vgg19-weight", vgg19_with_bias, ("weight",)),
            ArmConfig("vgg16-filters", vgg16, ("filter_l1",)),
            ArmConfig("vgg19-slimming", vgg19_to_slim, ("slimming",), pretrain=SLIMMING),
        ),
        pretrain=PRETRAIN,
        finetune=TrainConfig(epochs=1, learning_rate=0.01, schedule="constant", batch_size=64),
        sparsities=(0.0, 0.1, 0.3, 0.5, 0.7),
        seeds=(0, 1),
        temperature=True,
        evaluation=EvaluationConfig(severities=(1, 3, 5)),
    )
