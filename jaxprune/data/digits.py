"""The embedded data set: scikit-learn's 1,797 handwritten digits (Alpaydin & Kaynak 1998) as 32 x 32 RGB."""

import numpy as np

from jaxprune.data.dataset import Dataset

SPLITS = ("train", "validation", "test")
_SPLIT_SIZES = {"train": 1200, "validation": 197, "test": 400}
_SPLIT_SEED = 0
_MAX_VALUE = 16  # the 8 x 8 originals count set pixels in 4 x 4 blocks
_SIZE = 32
# Of images / 255 over the train split; the channels are equal.
_MEAN, _STD = (0.3055,) * 3, (0.3240,) * 3


def load_digits(*, split: str, data_dir=None, limit: int | None = None) -> Dataset:
    """Returns one part of a fixed stratified split: 1,200 train, 197 validation, 400 test images.

    The 8 x 8 originals are enlarged by linear interpolation with edges replicated. `data_dir` is not used.

    Raises:
      ImportError: scikit-learn is missing; the message names the extra.
    """
    del data_dir
    try:
        from sklearn import datasets, model_selection
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed; pip install 'jaxprune[study]'"
        ) from error
    source = datasets.load_digits()
    rest, test = model_selection.train_test_split(
        np.arange(len(source.target)),
        test_size=_SPLIT_SIZES["test"],
        stratify=source.target,
        random_state=_SPLIT_SEED,
    )
    train, validation = model_selection.train_test_split(
        rest, test_size=_SPLIT_SIZES["validation"], stratify=source.target[rest], random_state=_SPLIT_SEED
    )
    chosen = {"train": train, "validation": validation, "test": test}[split][:limit]
    return Dataset(
        images=_enlarge(source.images[chosen]),
        labels=source.target[chosen].astype(np.int32),
        class_names=tuple(str(digit) for digit in range(10)),
        name="digits",
        split=split,
        mean=_MEAN,
        std=_STD,
    )


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Returns uint8 [N, 32, 32, 3] from values 0..16 [N, 8, 8], by half-pixel-centred linear interpolation."""
    small = images.shape[1]
    position = np.clip((np.arange(_SIZE) + 0.5) * small / _SIZE - 0.5, 0, small - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(small)))
    large = np.einsum("ih,nhw,jw->nij", weights, images, weights) * (255 / _MAX_VALUE)
    return np.repeat(np.rint(large).astype(np.uint8)[..., None], 3, axis=3)
