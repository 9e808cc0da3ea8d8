"""Post-hoc pruning of a network that somebody else trained: the public CIFAR ResNet-20, from its PyTorch checkpoint.

    jaxprune run configs/cifar10_pretrained.py --out runs/cifar10_pretrained

Reads the checkpoint and the prepared TFDS set from the folder named by JAXPRUNE_SHARED (default ../shared); for your
own files give --study.model.checkpoint and --study.data.data-dir.

Two CPU cores, busy with other work: 27 minutes. Expected, measured on 2026-11-22 (1,000 images, one seed), after one
epoch of fine-tuning on 5,000 images: dense 88.4 % clean, 70.5 % corrupted, ECE 4.9 %; 70 % of the weights pruned
84.5 %, 66.1 %, 3.1 %; the same number at random 29.6 % clean.
"""

import os

from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig

SHARED = os.environ.get("JAXPRUNE_SHARED", "../shared")
SIX_CORRUPTIONS = ("gaussian_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate")


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    return StudyConfig(
        name="cifar10_pretrained",
        data=DataConfig(name="cifar10", data_dir=f"{SHARED}/data/tfds", train_limit=5000, test_limit=1000),
        model=ModelConfig(
            name="resnet20",
            checkpoint=f"{SHARED}/models/resnet20_cifar10_jpeg.pt",
            # What this checkpoint was trained with.
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        pretrain=TrainConfig(epochs=0),
        finetune=TrainConfig(epochs=1, learning_rate=0.001, schedule="constant"),
        methods=("weight", "random"),
        sparsities=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        seeds=(0,),
        evaluation=EvaluationConfig(corruptions=SIX_CORRUPTIONS),
    )
