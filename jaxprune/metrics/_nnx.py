"""An accumulator inside an `nnx.Metric`. Apart, so that the metrics can be had without importing Flax."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxprune.metrics.adapters import updated


class AccumulatorMetric(nnx.Metric):
    """What `nnx_metric` returns; all accumulators are zeros when empty."""

    def __init__(self, accumulator: Any, axis_name: str | tuple[str, ...] | None, options: dict[str, Any]):
        self.accumulator = nnx.metrics.MetricState(accumulator)
        self.axis_name = axis_name
        self.options = tuple(options.items())

    def reset(self) -> None:
        """Empties the accumulator in place."""
        self.accumulator.set_value(_emptied(self.accumulator.get_value()))

    def update(self, **outputs: Any) -> None:
        """Adds a batch in place: `labels=` and `logits=` or `probs=`, and `mask=` or `weights=` for padding."""
        before = self.accumulator.get_value()
        added = updated(_emptied(before), **outputs)
        added = added if self.axis_name is None else added.psum(self.axis_name)
        self.accumulator.set_value(before.merge(added))

    def compute(self) -> Any:
        """Returns the value of all batches since the last reset."""
        return self.accumulator.get_value().compute(**dict(self.options))


def _emptied(accumulator: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, accumulator)
