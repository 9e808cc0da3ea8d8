"""Data sets that do not fit in memory, decoded in threads while they are used."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxprune.data import tfds_source
from jaxprune.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from jaxprune.data.image_folder import list_image_folder, read_image, resize

NUM_THREADS = 16
_BATCHES_AHEAD = 2
_ROWS_AT_ONCE = 16  # one task of a thread: small images: measured 1.5 times as fast as one by one


class Batch(NamedTuple):
    """Some images: uint8 [b, H, W, C], labels int32 [b], and int64 [b] positions in the data set."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """Labelled images that are read when they are needed; `training.fit` and `evaluation.evaluate` take them too.

    Attributes:
      read: the uint8 [size, size, 3] image and the label of example i; called from several threads.
      num_examples: how many there are.
      image_size: the side of every image.
      class_names: one name per class.
      name: the source.
      split: "train", "validation" or "test"; functions that fit refuse "test".
      mean: per-channel mean of `images / 255`, for the classifier's input normalisation.
      std: per-channel standard deviation of the same.
    """

    read: Callable[[int], tuple[np.ndarray, int]]
    num_examples: int
    image_size: int
    class_names: tuple[str, ...]
    name: str = "unnamed"
    split: str = "unnamed"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __len__(self) -> int:
        return self.num_examples

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.image_size, self.image_size, 3

    def num_batches(self, batch_size: int) -> int:
        """Returns how many batches an epoch has, the last of which may be smaller."""
        return -(-len(self) // batch_size)

    def batches(
        self,
        *,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        num_threads: int = NUM_THREADS,
    ) -> Iterator[Batch]:
        """Yields one epoch in batches; the last is as small as need be, to be padded by who uses it.

        Host p of P gets rows `p * batch_size / P` up to `(p + 1) * batch_size / P` of every batch, so all hosts take
        the same number of steps and together see what one host alone would; of the last batch a host may get no
        rows at all. The same arguments give the same batches, and `start=k` continues as if k batches had been
        taken, without reading them.

        Args:
          batch_size: images of all hosts together.
          seed: of the order, which differs by epoch; None keeps the data set's order.
          epoch: which epoch to shuffle for.
          start: the first batch to yield.
          process_index, process_count: this host and how many there are (`jax.process_index()` and
            `jax.process_count()`).
          num_threads: of the reading and decoding.

        Raises:
          ImportError: grain is missing; the message names the extra.
          ValueError: numbers out of range, or a batch size that the hosts cannot share.
        """
        self._check(batch_size, seed, epoch, start, process_index, process_count, num_threads)
        return self._batches(batch_size, seed, epoch, start, process_index, process_count, num_threads, _grain())

    def _check(self, batch_size, seed, epoch, start, process_index, process_count, num_threads) -> None:
        if batch_size < 1 or num_threads < 1 or epoch < 0 or (seed is not None and seed < 0):
            raise ValueError(
                f"batch_size={batch_size}, num_threads={num_threads}, seed={seed}, epoch={epoch}; "
                f"batch_size and num_threads must be >= 1, seed and epoch >= 0"
            )
        if not 0 <= start <= self.num_batches(batch_size):
            raise ValueError(f"start={start}; an epoch has {self.num_batches(batch_size)} batches of {batch_size}")
        if not 0 <= process_index < process_count or batch_size % process_count:
            raise ValueError(
                f"process_index={process_index}, process_count={process_count}, batch_size={batch_size}; the "
                f"index must be in 0..{process_count - 1} and the batch size a multiple of the number of hosts"
            )

    def _batches(self, batch_size, seed, epoch, start, process_index, process_count, num_threads, grain):
        order = grain.MapDataset.range(len(self))
        if seed is not None:
            order = order.shuffle(seed=int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        rows = batch_size // process_count
        pieces = -(-rows // _ROWS_AT_ONCE)  # per batch; those beyond the end of the data set are empty

        def read_piece(piece: int) -> Batch:
            step, number = divmod(int(piece), pieces)
            own = range(number * _ROWS_AT_ONCE, min((number + 1) * _ROWS_AT_ONCE, rows))
            positions = [step * batch_size + process_index * rows + row for row in own]
            return self._read_all([int(order[position]) for position in positions if position < len(self)])

        reading = grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=max(num_threads, _BATCHES_AHEAD * pieces)
        )
        everything = grain.MapDataset.range(start * pieces, self.num_batches(batch_size) * pieces)
        yield from everything.map(read_piece).to_iter_dataset(reading).batch(pieces, batch_fn=_join)

    def _read_all(self, indices: list[int]) -> Batch:
        images = np.zeros((len(indices), self.image_size, self.image_size, 3), np.uint8)
        labels = np.zeros(len(indices), np.int32)
        for row, index in enumerate(indices):
            images[row], label = self.read(index)
            # An array would take 1.7 as 1 and "3" as 3.
            if np.ndim(label) or not np.issubdtype(np.asarray(label).dtype, np.integer):
                raise TypeError(f"example {index} of {self.name!r} has the label {label!r}; give an integer")
            if not 0 <= label <= np.iinfo(labels.dtype).max:
                raise ValueError(f"example {index} of {self.name!r} has the label {label}; classes count from 0")
            labels[row] = label
        return Batch(images, labels, np.array(indices, np.int64))


def _join(pieces: Sequence[Batch]) -> Batch:
    return Batch(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def stream_image_folder(
    path,
    *,
    image_size: int,
    crop_fraction: float = 1.0,
    class_names: Sequence[str] | None = None,
    split: str = "unnamed",
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> StreamedDataset:
    """Returns a folder with one sub-folder per class, read while it is used; as `load_image_folder` otherwise."""
    files, labels, names = list_image_folder(path, class_names=class_names)

    def read(index: int):
        return read_image(files[index], image_size=image_size, crop_fraction=crop_fraction), labels[index]

    return StreamedDataset(read, len(files), image_size, names, str(path), split, mean, std)


def stream_tfds(
    name: str,
    *,
    split: str,
    image_size: int,
    crop_fraction: float = 1.0,
    data_dir=None,
    label_key: str = "label",
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> StreamedDataset:
    """Returns one split of a prepared TFDS set (array_record), read while it is used.

    Args:
      name: the set, with its config if it has one, such as "imagenet2012" or "cifar10_corrupted/fog_3".
      split: one of the set's own splits; TFDS calls ImageNet's 50,000 labelled validation images "validation".
      image_size, crop_fraction: as for `load_image_folder`.
      data_dir: the folder that holds `<name>/<version>/`; by default TFDS's own.
      label_key: the set's feature that is the label.
      mean, std: per-channel normalisation; by default ImageNet's.

    Raises:
      FileNotFoundError: the set is not prepared there.
      ValueError: another file format, damaged files, no such split or feature.
    """
    folder = tfds_source.data_folder(data_dir) / name
    if not folder.exists():
        raise FileNotFoundError(f"no prepared {name!r} in {folder.parent}; {tfds_source.how_to_prepare(name)}")
    source = tfds_source.open_source(folder, name, split=split, label_key=label_key)

    def read(index: int):
        from PIL import Image

        ((image, label),) = source.read([index])
        return np.asarray(resize(Image.fromarray(image), image_size, crop_fraction)), label

    return StreamedDataset(read, len(source), image_size, source.class_names, name, split, mean, std)


def _grain():
    try:
        import grain
    except ImportError as error:
        raise ImportError("streaming needs grain, which is not installed; pip install 'jaxprune[stream]'") from error
    return grain
