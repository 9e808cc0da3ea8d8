"""Measured time of a forward pass: the only claim about speed that a pruned network can be held to."""

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BATCH_SIZE, REPEATS, WARM_UP = 1, 20, 3


class Latency(NamedTuple):
    """Wall-clock milliseconds of one forward pass of a batch: the median, and the quartiles around it."""

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    batch_size: int


def latency_ms(classifier, *, batch_size: int = BATCH_SIZE, image_size: int | None = None, repeats: int = REPEATS):
    """Returns the `Latency` of a classifier's jitted `logits`, measured alone; see `compare_latency`."""
    return compare_latency({"": classifier}, batch_size=batch_size, image_size=image_size, repeats=repeats)[""]


def compare_latency(
    classifiers: Mapping[str, object],
    *,
    batch_size: int = BATCH_SIZE,
    image_size: int | None = None,
    repeats: int = REPEATS,
) -> dict[str, Latency]:
    """Returns the `Latency` of several classifiers, measured in turns, so that what disturbs one disturbs all.

    Each is compiled and run three times before the clock starts; the images are uint8 and lie on the device; a pass
    ends when its logits are there.

    Args:
      classifiers: by name, anything with `logits(images)`, `mean` and, unless given here, `image_size`.
      batch_size: images per pass; a latency belongs to its batch size.
      image_size: pixels per side, by default the one that a classifier states.
      repeats: timed passes per classifier.

    Raises:
      ValueError: no image size is known, or batch_size or repeats below 1.
    """
    if batch_size < 1 or repeats < 1:
        raise ValueError(f"batch_size={batch_size}, repeats={repeats}; give integers >= 1")
    batches = {name: _images(classifier, batch_size, image_size) for name, classifier in classifiers.items()}
    for name, classifier in classifiers.items():
        for _ in range(WARM_UP):
            jax.block_until_ready(classifier.logits(batches[name]))
    seconds = {name: [] for name in classifiers}
    for _ in range(repeats):
        for name, classifier in classifiers.items():
            start = time.perf_counter()
            jax.block_until_ready(classifier.logits(batches[name]))
            seconds[name].append(time.perf_counter() - start)
    return {name: _summarize(measured, batch_size) for name, measured in seconds.items()}


def _images(classifier, batch_size: int, image_size: int | None) -> jax.Array:
    size = image_size or getattr(classifier, "image_size", None)
    if size is None:
        raise ValueError("the classifier does not state its image_size; give image_size=, the pixels per side")
    shape = (batch_size, size, size, classifier.mean.shape[-1])
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _summarize(seconds: list[float], batch_size: int) -> Latency:
    milliseconds = [1e3 * second for second in seconds]
    if len(milliseconds) == 1:
        return Latency(milliseconds[0], milliseconds[0], milliseconds[0], batch_size)
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Latency(median, lower, upper, batch_size)
