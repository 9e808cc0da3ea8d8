"""What every source returns: images, labels and how to normalise them."""

import dataclasses

import numpy as np

# CIFAR-10 channel statistics used by the study (STUDY: Mitra et al. 2024); CIFAR-100's are those of its training
# images; ImageNet's serve public checkpoints.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in host memory.

    Attributes:
      images: uint8 `[N, H, W, C]`, values 0..255.
      labels: int32 `[N]`, values 0 .. `len(class_names) - 1`.
      class_names: one name per class.
      name: the source, as given to `load`.
      split: "train", "validation" or "test"; functions that fit refuse "test".
      mean: per-channel mean of `images / 255`, for the classifier's input normalisation.
      std: per-channel standard deviation of the same.

    Raises:
      ValueError, TypeError: arrays of another shape or type, or a label without a class name.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str = "unnamed"
    split: str = "unnamed"
    mean: tuple[float, ...] = CIFAR10_MEAN
    std: tuple[float, ...] = CIFAR10_STD

    def __post_init__(self):
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise TypeError(
                f"images are {self.images.dtype} {list(self.images.shape)}; a Dataset takes uint8 [N, H, W, C], 0..255"
            )
        if self.labels.shape != self.images.shape[:1] or not np.issubdtype(self.labels.dtype, np.integer):
            raise TypeError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)} for {len(self.images)} images; "
                f"give one integer per image"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"labels run from {self.labels.min()} to {self.labels.max()}, but there are "
                f"{len(self.class_names)} class names; labels must be 0..{len(self.class_names) - 1}"
            )
        if len(self.mean) != self.images.shape[3] or len(self.std) != self.images.shape[3]:
            raise ValueError(
                f"mean has {len(self.mean)} and std {len(self.std)} entries for images of {self.images.shape[3]} "
                f"channels; give one of each per channel"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def take(self, count: int) -> "Dataset":
        """Returns the first `count` examples (all, if there are fewer)."""
        check_limit(count)
        return dataclasses.replace(self, images=self.images[:count], labels=self.labels[:count])


def check_limit(limit: int | None) -> None:
    """Raises a ValueError if `limit` is negative."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}; give a number of examples >= 0, or None for all")


def refuse_test_split(dataset: Dataset, purpose: str) -> None:
    """Raises a ValueError if `dataset` is a test split: nothing may be fitted on it."""
    if dataset.split == "test":
        raise ValueError(
            f"{purpose} was given the test split of {dataset.name!r}; the test split is for evaluation only, "
            f"use the 'train' or 'validation' split"
        )
