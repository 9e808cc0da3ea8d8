"""The embedded study: a small ResNet on handwritten digits, trained, pruned, fine-tuned, evaluated.

    jaxprune run configs/digits.py --out runs/digits

Needs no file and no network. Two to three minutes on two CPU cores.

Expected (2026-11-23, 2 cores, 400 test images, 2 seeds, means and standard deviations in percent):

    network                     clean accuracy   ECE (10)      corrupted accuracy   corrupted ECE
    dense, fine-tuned           97.6 +- 1.2      2.7 +- 0.6    82.9 +- 0.9          14.6 +- 0.0
    weight pruning, 70 %        97.0 +- 0.4      5.1 +- 0.3    81.8 +- 1.3          16.5 +- 0.9
    weight pruning, 90 %        95.4 +- 0.2     14.1 +- 2.3    77.5 +- 2.1          24.0 +- 3.5
    random masks, 90 %          83.5 +- 3.5     26.9 +- 1.4    58.8 +- 6.8          27.4 +- 3.8
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
