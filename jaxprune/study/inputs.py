"""What the networks of a study begin with: images, weights, keys and optimizers, all from the configuration."""

import dataclasses
import zlib

import jax
import numpy as np

from jaxprune import checkpoints, data, models, randomness, training
from jaxprune.data import Dataset
from jaxprune.study.configuration import ModelConfig, StudyConfig, TrainConfig


def load_data(config: StudyConfig) -> tuple[Dataset, Dataset | None, Dataset]:
    """Returns the training, validation (None if the study takes none) and test images of a study."""
    chosen = config.data
    options = {"data_dir": chosen.data_dir} | ({"image_size": chosen.image_size} if chosen.image_size else {})
    train = data.load(chosen.name, split="train", limit=chosen.train_limit, **options)
    test = data.load(chosen.name, split="test", limit=chosen.test_limit, **options)
    if not chosen.validation_images:
        return train, None, test
    if chosen.validation_images >= len(train):
        raise ValueError(
            f"data.validation_images={chosen.validation_images} leaves nothing of {len(train)} training images; "
            f"give fewer"
        )
    # The same images for all seeds: the seeds are those of the networks.
    train, validation = data.split_validation(train, fraction=chosen.validation_images / len(train), seed=0)
    return train, validation, test


def spread(dataset: Dataset, count: int) -> Dataset:
    """Returns at most `count` images spread evenly over a data set: those of a folder are ordered by class."""
    count = min(count, len(dataset))
    places = np.arange(count) * len(dataset) // count
    return dataclasses.replace(dataset, images=dataset.images[places], labels=dataset.labels[places])


def key_of(seed: int, purpose: str) -> jax.Array:
    """Returns the key of everything random that serves one purpose."""
    return jax.random.fold_in(randomness.seed_key(seed), zlib.crc32(purpose.encode()))


def initial(model: ModelConfig, train: Dataset, seed: int) -> models.Classifier:
    """Returns the network that an arm starts with: imported, or with random weights.

    Raises:
      ValueError: a file or folder that holds another network than `model` says.
    """
    known = {
        "name": model.name,
        "num_classes": train.num_classes,
        "mean": model.mean or train.mean,
        "std": model.std or train.std,
        **model.options(),
    }
    if model.checkpoint is None:
        return models.create(key=key_of(seed, "init"), initial_scale=model.initial_scale, **known)
    found = checkpoints.load(model.checkpoint, known.pop("name"), **known).classifier
    if (found.name, found.num_classes) != (model.name, train.num_classes):
        raise ValueError(
            f"{model.checkpoint} holds a {found.name} of {found.num_classes} classes; the configuration says "
            f"{model.name}, and the data set has {train.num_classes} classes"
        )
    return found


def new_optimizer(config: TrainConfig, num_images: int):
    """Returns the optimizer of one training; raises a ValueError for a constant outside its range."""
    return training.sgd(
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        schedule=config.schedule if config.epochs else "constant",
        num_steps=training.num_steps(num_images, epochs=config.epochs, batch_size=config.batch_size),
        scale_penalty=config.scale_penalty,
    )
