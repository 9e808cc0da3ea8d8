"""Your own network and images: post-hoc pruning of a trained checkpoint, on a folder of images.

    jaxprune run configs/own_checkpoint.py --out runs/own --study.model.checkpoint net.pt --study.model.name resnet18 \
        --study.data.data-dir photos --study.data.image-size 64

The folder holds `train/<class>/*.jpg` and `test/<class>/*.jpg` (PNG and others too). The checkpoint is a PyTorch file
(`torch.save` of a state dict, read without PyTorch, executing nothing), a `.safetensors` file or a folder that
`jaxprune.checkpoints` wrote; parameters of a Flax network become one by `models.assemble` and `checkpoints.save`. The
architecture must be one of `jaxprune.models.MODELS`. Give the normalisation that the network was trained with:
--study.model.mean R G B and --study.model.std R G B. Sizes that a data set has by itself (cifar10, npz) need no
--study.data.image-size.

Time: --dry-run says it. Fine-tuning is five epochs at a gentle rate; --study.finetune.epochs 0 leaves it out.
"""

from jaxprune.data import IMAGENET_MEAN, IMAGENET_STD
from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    return StudyConfig(
        name="own_checkpoint",
        data=DataConfig(name="image_folder", data_dir="photos", image_size=64),
        model=ModelConfig(name="resnet18", checkpoint="net.pt", mean=IMAGENET_MEAN, std=IMAGENET_STD),
        pretrain=TrainConfig(epochs=0),
        finetune=TrainConfig(epochs=5, learning_rate=0.001, schedule="cosine"),
        methods=("weight", "filter_l1"),
        sparsities=(0.0, 0.3, 0.5, 0.7),
        seeds=(0,),
        evaluation=EvaluationConfig(severities=(1, 3, 5)),
    )
