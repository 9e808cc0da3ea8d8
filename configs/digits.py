"""The embedded study: a small ResNet on handwritten digits, trained, pruned, fine-tuned, evaluated.

    jaxprune run configs/digits.py --out runs/digits

Needs no file and no network.
"""

from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig

SIX_CORRUPTIONS = ("gaussian_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate")


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    return StudyConfig(
        name="digits",
        data=DataConfig(name="digits", validation_images=100),
        model=ModelConfig(name="resnet8", stage_widths=(8, 16, 32)),
        # Mirrored digits are no digits, so images are shifted only.
        pretrain=TrainConfig(epochs=15, learning_rate=0.1, schedule="cosine", batch_size=50, augment="crop"),
        finetune=TrainConfig(epochs=4, learning_rate=0.01, schedule="cosine", batch_size=50, augment="crop"),
        methods=("weight", "random"),
        sparsities=(0.0, 0.5, 0.7, 0.9),
        seeds=(0, 1),
        temperature=True,
        evaluation=EvaluationConfig(corruptions=SIX_CORRUPTIONS),
    )
