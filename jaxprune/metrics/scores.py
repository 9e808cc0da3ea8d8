"""The scores that are means over examples, streamed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import Scalar, as_weights
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import check_alike, merge_sum, refuse_product
from jaxprune.metrics._rows import where_defined
from jaxprune.metrics._sums import Pair, add, exactly, psum, total, weighted
from jaxprune.metrics.examples import ExampleStatistics, example_statistics


class ScoreSums(NamedTuple):
    """Sums of the per-example scores: streams accuracy, mean confidence, NLL and Brier score in five numbers.

    An accumulator like `CalibrationBins`; the sums are pairs of floats, which do not stall at 2^24 examples.

    >>> sums = ScoreSums.empty().update(jnp.array([[0.75, 0.25], [0.5, 0.5]]), jnp.array([0, 1]))
    >>> {name: round(value.item(), 4) for name, value in sums.compute().items()}
    {'accuracy': 0.5, 'brier_score': 0.3125, 'mean_confidence': 0.625, 'negative_log_likelihood': 0.4904}
    """

    weight: Pair
    accuracy: Pair
    mean_confidence: Pair
    negative_log_likelihood: Pair
    brier_score: Pair

    @classmethod
    def empty(cls) -> "ScoreSums":
        """Returns sums of nothing, the identity of `merge`."""
        zero = jnp.zeros(())
        return cls(*len(cls._fields) * [Pair(zero, zero)])

    @checked(static_argnames="from_logits")
    def update(
        self, outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
    ) -> "ScoreSums":
        """Returns the sums with a batch added; rows of weight 0 (padding) do not count."""
        return self.update_examples(example_statistics(outputs, labels, from_logits=from_logits), weights=weights)

    @checked()
    def update_examples(self, statistics: ExampleStatistics, *, weights: ArrayLike | None = None) -> "ScoreSums":
        """Returns the sums with the statistics of a batch added."""
        confidence, _, correct, log_losses, squared_losses = statistics
        weights = as_weights(weights, confidence.shape[0])
        columns = where_defined(correct, confidence), confidence, log_losses, squared_losses
        if weights is None:
            weight = exactly(jnp.asarray(confidence.size, jnp.int32))
        else:
            weight, columns = total(weights), [weighted(column, weights) for column in columns]
        return self.merge(ScoreSums(weight, *map(total, columns)))

    @jax.jit
    def merge(self, other: "ScoreSums") -> "ScoreSums":
        """Returns the sums of both, as `+` does."""
        check_alike(self, other)
        return ScoreSums(*map(add, self, other))

    __add__ = __radd__ = merge_sum
    __mul__ = __rmul__ = refuse_product

    def psum(self, axis_name: str | tuple[str, ...]) -> "ScoreSums":
        """Returns the sums of all devices of the mapped axis, on each of them."""
        return ScoreSums(*(psum(pair, axis_name) for pair in self))

    @jax.jit
    def compute(self) -> dict[str, Scalar]:
        """Returns the means by name, NaN when nothing was added."""
        return {name: getattr(self, name).value / self.weight.value for name in self._fields if name != "weight"}
