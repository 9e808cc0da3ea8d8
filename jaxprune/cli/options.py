"""Options that several commands share, and how a command line becomes a dataclass."""

import dataclasses
from typing import TypeVar

import jax
import tyro

from jaxprune import checkpoints, data, evaluation
from jaxprune.cli.messages import show_warning

Options = TypeVar("Options")


def parse(kind: type[Options], command: str, arguments: list[str], **defaults) -> Options:
    """Returns an instance of the dataclass `kind` from the command line; wrong options exit with code 2."""
    default = {"default": kind(**defaults)} if defaults else {}
    return tyro.cli(kind, prog=f"jaxprune {command}", args=arguments, **default)


def renamed(arguments: list[str], names: dict[str, str]) -> list[str]:
    """Returns the arguments with the present names of options whose former ones still work, with a warning."""
    present = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        option = option.replace("_", "-")
        if option in names:
            show_warning(f"{option} is called {names[option]} now, and will go in a later release")
            argument = names[option] + equals + value
        present.append(argument)
    return present


@dataclasses.dataclass
class DataOptions:
    """Which images."""

    dataset: str
    """A data set name, such as cifar10 or digits."""
    data_dir: str | None = None
    """Where its files lie."""
    split: str = "test"
    limit: int | None = None
    """Use the first so many images."""
    image_size: int | None = None
    """Pixels per side to which an image_folder is brought; needed there."""
    data_corruption: str | None = None
    """Which part of cifar10_corrupted: a corruption; needed there, with --data-severity."""
    data_severity: int | None = None

    def load(self) -> data.Dataset:
        """Returns the data set."""
        options = {"image_size": self.image_size, "corruption": self.data_corruption, "severity": self.data_severity}
        given = {name: value for name, value in options.items() if value is not None}
        return data.load(self.dataset, split=self.split, data_dir=self.data_dir, limit=self.limit, **given)


@dataclasses.dataclass
class TorchOptions:
    """What a PyTorch file does not say about itself; files and folders that jaxprune saved say it all."""

    model: str = "resnet20"
    """The architecture of a PyTorch file: a name of models.MODELS."""
    shortcut: str | None = None
    """The shortcut of a CIFAR ResNet in a PyTorch file: subsample, average_pool or projection."""
    head: str | None = None
    """The head of a VGG in a PyTorch file, such as linear or hidden."""
    conv_bias: bool | None = None
    """Whether the convolutions of a VGG in a PyTorch file have biases."""
    stem: str | None = None
    """The first layers of a ResNet-18/50 or MobileNetV2 in a PyTorch file: cifar or imagenet."""
    mean: tuple[float, ...] | None = None
    """Input normalisation of a PyTorch file; by default the data set's, or CIFAR-10's."""
    std: tuple[float, ...] | None = None

    def open(self, path: str, *, num_classes: int, mean, std) -> checkpoints.Checkpoint:
        """Returns the checkpoint at `path`; the arguments are for a file that does not say them, options come first."""
        choices = {name: getattr(self, name) for name in ("shortcut", "head", "conv_bias", "stem")}
        return checkpoints.load(
            path,
            self.model,
            num_classes=num_classes,
            mean=self.mean or mean,
            std=self.std or std,
            **{name: value for name, value in choices.items() if value is not None},
        )

    def open_for(self, path: str, dataset: data.Dataset):
        """Returns the classifier at `path`, which is to classify the images of `dataset`."""
        known = {"num_classes": dataset.num_classes, "mean": dataset.mean, "std": dataset.std}
        return self.open(path, **known).classifier


@dataclasses.dataclass
class TestSetOptions:
    """Which corrupted versions of the images."""

    corruptions: tuple[str, ...] | None = None
    """Names; none for clean images only. By default all of --corrupted; without it evaluate takes all, compare none."""
    severities: tuple[int, ...] | None = None
    """From 1 (mild) to 5 (strong); by default all."""
    corrupted: str | None = None
    """A folder in CIFAR-10-C's layout to read instead of generating; --corruptions and --severities select from it."""
    seed: int = 0
    """Of the corruptions' randomness, where they are generated."""

    def select(self, default: tuple[str, ...], limit: int | None) -> tuple[dict, int]:
        """Returns the arguments of `evaluation.evaluate` and the number of test sets, the clean one included."""
        if self.corrupted is None:
            names = default if self.corruptions is None else self.corruptions
            severities = evaluation.SEVERITIES if self.severities is None else self.severities
            evaluation.check_corruptions(names, severities)
            key = jax.random.key(self.seed)
            return {"key": key, "corruptions": names, "severities": severities}, 1 + len(names) * len(severities)
        found = evaluation.folder_test_sets(self.corrupted, self.corruptions, self.severities, limit=limit)
        if not found and self.corruptions is None:
            raise FileNotFoundError(f"{self.corrupted} holds no corrupted images; give a folder such as CIFAR-10-C")
        return {"corrupted": found}, 1 + len(found)
