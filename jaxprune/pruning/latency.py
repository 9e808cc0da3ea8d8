"""How long a forward pass takes here: measured, with warm-up, as a median with quartiles."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MILLISECONDS = 1000.0
QUARTILES = (25, 50, 75)
MAX_PIXEL = 255


@dataclasses.dataclass(frozen=True)
class Latency:
    """Wall times of one batch's forward pass; `float(latency)` is the median in milliseconds.

    Attributes:
        times_ms: every measured time, in order.
        batch_size: images per batch.
    """

    times_ms: tuple[float, ...]
    batch_size: int

    @property
    def median_ms(self) -> float:
        """The median time."""
        return self.quartiles_ms[1]

    @property
    def quartiles_ms(self) -> tuple[float, float, float]:
        """The lower quartile, the median and the upper quartile."""
        lower, median, upper = np.percentile(self.times_ms, QUARTILES).tolist()
        return lower, median, upper

    def speedup_over(self, other: "Latency") -> tuple[float, float, float]:
        """Returns how many times faster this is than `other`: lower quartile, median, upper quartile of the quotients.

        Times are divided pair by pair, so take both from one call of `compare_latency`.

        Raises `ValueError` for different numbers of times or batch sizes.

        >>> Latency((1.0, 2.0, 2.0), 1).speedup_over(Latency((3.0, 4.0, 8.0), 1))
        (2.5, 3.0, 3.5)
        """
        if len(self.times_ms) != len(other.times_ms) or self.batch_size != other.batch_size:
            raise ValueError(
                f"latencies of {len(self.times_ms)} batches of {self.batch_size} and {len(other.times_ms)} of "
                f"{other.batch_size} are not pairs; measure both by one call of compare_latency"
            )
        lower, median, upper = np.percentile(np.divide(other.times_ms, self.times_ms), QUARTILES).tolist()
        return lower, median, upper

    def __float__(self) -> float:
        return self.median_ms

    def __str__(self) -> str:
        lower, median, upper = self.quartiles_ms
        return f"{median:.2f} ms per batch of {self.batch_size} (quartiles {lower:.2f} to {upper:.2f})"


def latency_ms(
    classifier: Any, *, batch_size: int = 1, image_size: int | None = None, repeats: int = 20, warm_up: int = 3
) -> Latency:
    """Returns the time of `classifier.logits` on a batch of random images, which lie on the device already.

    The first `warm_up` calls, which compile, are not counted. `image_size` in pixels is by default what the
    classifier's architecture was made for. Masks save no time; `compact` does.

    Raises `ValueError` for counts below 1, or when the image size is not known.
    """
    return compare_latency(
        {"": classifier}, batch_size=batch_size, image_size=image_size, repeats=repeats, warm_up=warm_up
    )[""]


def compare_latency(
    classifiers: Mapping[Any, Any],
    *,
    batch_size: int = 1,
    image_size: int | None = None,
    repeats: int = 20,
    warm_up: int = 3,
) -> dict[Any, Latency]:
    """Returns {name: `Latency`} of several classifiers, called in turn so that other load on the machine meets all.

    The arguments are those of `latency_ms`; `{"dense": ..., "masked": ..., "compact": ...}` is the comparison that
    tells what removal is worth, by `latencies["compact"].speedup_over(latencies["dense"])`.

    Raises `ValueError` for counts below 1, no classifier, or when an image size is not known.
    """
    for name, count, least in (("batch_size", batch_size, 1), ("repeats", repeats, 1), ("warm_up", warm_up, 1)):
        if count < least:
            raise ValueError(f"{name} must be at least {least}, got {count}")
    if not classifiers:
        raise ValueError("no classifier to measure; give {name: classifier}")
    images = {name: _images(classifier, batch_size, image_size) for name, classifier in classifiers.items()}

    def seconds(name: Any) -> float:
        start = time.perf_counter()
        jax.block_until_ready(classifiers[name].logits(images[name]))
        return time.perf_counter() - start

    for name in classifiers:
        for _ in range(warm_up):
            seconds(name)
    rounds = [{name: MILLISECONDS * seconds(name) for name in classifiers} for _ in range(repeats)]
    return {name: Latency(tuple(times[name] for times in rounds), batch_size) for name in classifiers}


def _images(classifier: Any, batch_size: int, image_size: int | None) -> jax.Array:
    size = image_size or classifier.image_size
    if size is None:
        raise ValueError(f"{classifier.name} states no image_size; give image_size= in pixels per side")
    shape = (batch_size, size, size, classifier.mean.shape[-1])
    return jnp.asarray(np.random.default_rng(0).integers(0, MAX_PIXEL, shape, np.uint8, endpoint=True))
