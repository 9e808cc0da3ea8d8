"""What every source returns: images, labels and how to normalise them."""

import dataclasses

import numpy as np

# CIFAR-10 channel statistics used by the study (STUDY: Mitra et al. 2024); CIFAR-100's are those of its training
# images; ImageNet's serve public checkpoints.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Classes without names are numbered up to so many; ImageNet-21k has 21,843. More are identifiers of something.
MOST_CLASSES = 100_000
_CHANNELS_FIRST = "they look like [N, C, H, W]: give images.transpose(0, 2, 3, 1)"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in host memory.

    Attributes:
      images: uint8 `[N, H, W, C]`, values 0..255.
      labels: int32 `[N]`, values 0 .. `len(class_names) - 1`; given as integers of any type.
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
        images = np.asarray(self.images)
        looks_transposed = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3)
        hint = _CHANNELS_FIRST if looks_transposed else "give one of each per channel"
        if images.dtype != np.uint8 or images.ndim != 4:
            raise TypeError(
                f"images are {images.dtype} {list(images.shape)}; a Dataset takes uint8 [N, H, W, C], 0..255"
                f"{f'; {hint}' if looks_transposed else ''}"
            )
        if len(self.mean) != images.shape[3] or len(self.std) != images.shape[3]:
            raise ValueError(
                f"mean has {len(self.mean)} and std {len(self.std)} entries for images of {images.shape[3]} channels "
                f"{list(images.shape)}; {hint}"
            )
        labels = np.asarray(self.labels)
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                f"labels are {labels.dtype} {list(labels.shape)} for {len(images)} images; give one integer per image"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise ValueError(
                f"labels run from {labels.min()} to {labels.max()}, but there are {len(self.class_names)} class names; "
                f"labels must be 0..{len(self.class_names) - 1}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))

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


def numbered_classes(labels: np.ndarray, where: str) -> tuple[str, ...]:
    """Returns "0", "1", ... up to the largest label, as the names of classes that have none.

    Raises:
      ValueError: a label of `MOST_CLASSES` or more; `where` is the file that it stands in.
    """
    largest = int(labels.max()) if labels.size else -1
    if largest >= MOST_CLASSES:
        raise ValueError(
            f"{where} has labels up to {largest}, as identifiers are; labels number the classes from 0 on: "
            f"np.unique(labels, return_inverse=True) gives both"
        )
    return tuple(map(str, range(largest + 1)))


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
