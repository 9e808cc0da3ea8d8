"""Structured pruning on the embedded digits: filters and channels are removed, and the network gets smaller.

    jaxprune run configs/digits_structured.py --out runs/digits_structured

Needs no file and no network. The dense network is trained with network slimming's penalty on the BatchNorm scales, so
that one training serves both methods: filter pruning by the L1 norm, and slimming by one threshold on the scales.

Two CPU cores: under five minutes. Expected, measured on 2026-11-23 with a penalty of 1e-3 (400 images, one seed), clean
accuracy as pruned / recalibrated / fine-tuned, dense 97.8 %: slimming 70 % of the channels 10.0 / 51.0 / 95.0 %, L1
filters 10.3 / 34.5 / 90.0 %, random channels 10.0 / 20.3 / 90.0 %.
"""

from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig

FOUR_CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "pixelate")


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    return StudyConfig(
        name="digits_structured",
        data=DataConfig(name="digits"),
        model=ModelConfig(name="resnet8", stage_widths=(8, 16, 32)),
        # Mirrored digits are no digits, so images are shifted only. The penalty is a hundred times the study's: it has
        # 420 steps to drive scales towards 0, not 125,000.
        pretrain=TrainConfig(
            epochs=15, learning_rate=0.1, schedule="cosine", batch_size=50, augment="crop", scale_penalty=1e-2
        ),
        finetune=TrainConfig(epochs=4, learning_rate=0.01, schedule="cosine", batch_size=50, augment="crop"),
        methods=("filter_l1", "slimming", "channel_random"),
        sparsities=(0.0, 0.2, 0.4, 0.7),
        seeds=(0,),
        evaluation=EvaluationConfig(corruptions=FOUR_CORRUPTIONS, severities=(1, 3, 5)),
    )
