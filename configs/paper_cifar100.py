"""The published protocol on CIFAR-100: six pairs of method and architecture, eight sparsities, three seeds.

    jaxprune run configs/paper_cifar100.py --out runs/paper_cifar100 --dry-run     what it takes on this machine
    jaxprune run configs/paper_cifar100.py --out runs/paper_cifar100 --shard 1/18  one of 18 jobs that share the folder

Reads the prepared TFDS set from the folder named by JAXPRUNE_SHARED (default ../shared); for your own give
--study.data.data-dir, which may hold the original archive too. One pair alone: --shard i/18 runs one seed of one of
the six pairs, in the order of `study.paper_protocol`.

Meant for TPUs and GPUs: 18 trainings of 160 epochs, 270 of 40, and 615 million images through evaluation. It has not
been run whole; `paper_small_cpu.py` is the part of it that has, and its head says what it leaves out.
"""

import os

from jaxprune.study import StudyConfig, paper_protocol

SHARED = os.environ.get("JAXPRUNE_SHARED", "../shared")


def get_config() -> StudyConfig:
    """Returns the study's configuration."""
    return paper_protocol("cifar100", data_dir=f"{SHARED}/data/tfds")
