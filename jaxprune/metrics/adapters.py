"""The accumulators as metrics of Flax's and CLU's training loops; both libraries are imported when asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flax import nnx


def nnx_metric(accumulator: Any, *, axis_name: str | tuple[str, ...] | None = None, **options: Any) -> "nnx.Metric":
    """Returns the accumulator as an `nnx.Metric`, for `nnx.MultiMetric` and alone.

    `accumulator` is an empty one, `CalibrationBins.empty(num_bins=15)` for instance, or its type. `update` takes what
    Flax's own metrics take, `logits=` and `labels=`, and ignores further keywords; `probs=` in place of logits, and
    `mask=` or `weights=` `[batch]` for padding. `compute()` is that of the accumulator with these `options`
    (`norm="l2"`), `reset()` empties it.

    Under `jit`, also with a batch that is sharded over devices, nothing else is needed. In `pmap` and `shard_map` each
    device sees its part: give `axis_name`, and every device keeps the sum of all of them. The mean of the devices'
    errors (`pmean`) is no error of the whole, and larger than it.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxprune.metrics import CalibrationBins
    >>> error = nnx_metric(CalibrationBins.empty(num_bins=10))
    >>> metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), error=error)
    >>> metrics.update(logits=jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]])), labels=jnp.array([0, 1]))
    >>> {name: round(value.item(), 3) for name, value in metrics.compute().items()}
    {'accuracy': 0.5, 'error': 0.375}
    """
    from jaxprune.metrics._nnx import AccumulatorMetric

    return AccumulatorMetric(_empty(accumulator), axis_name, options)


def clu_metric(accumulator: Any, **options: Any) -> type:
    """Returns the accumulator as a class, as `clu.metrics.Collection` wants its members; needs clu (`pip install clu`).

    `accumulator`, `options` and the keywords of `from_model_output` (`logits=` or `probs=`, `labels=`, `mask=` or
    `weights=`) are those of `nnx_metric`. Across devices a collection gathers and reduces by itself:
    `gather_from_model_output(axis_name="batch", ...)`.

    Raises `ImportError` without clu.

    >>> @flax.struct.dataclass  # doctest: +SKIP
    ... class Metrics(clu.metrics.Collection):
    ...     accuracy: clu.metrics.Accuracy
    ...     error: metrics.clu_metric(metrics.CalibrationBins.empty(num_bins=15))
    >>> Error = clu_metric(CalibrationBins)  # doctest: +SKIP
    >>> Error.from_model_output(logits=logits, labels=labels).compute()  # doctest: +SKIP
    """
    import flax

    try:
        from clu import metrics as clu_metrics
    except ImportError as error:
        raise ImportError("clu_metric needs clu; install it with: pip install clu") from error
    empty = _empty(accumulator)

    @flax.struct.dataclass
    class AccumulatorMetric(clu_metrics.Metric):
        """An accumulator of jaxprune.metrics."""

        accumulator: Any

        @classmethod
        def empty(cls):
            return cls(empty)

        @classmethod
        def from_model_output(cls, **outputs):
            return cls(updated(empty, **outputs))

        def merge(self, other):
            return type(self)(self.accumulator.merge(other.accumulator))

        def compute(self):
            return self.accumulator.compute(**options)

    return AccumulatorMetric


def updated(
    accumulator: Any,
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    mask: Any = None,
    weights: Any = None,
    **others: Any,
) -> Any:
    """Returns the accumulator with a batch added, given by the names of Flax; `others` are for other metrics."""
    if (logits is None) == (probs is None):
        raise TypeError(f"give either logits= or probs= to update, got {'neither' if logits is None else 'both'}")
    if mask is not None and weights is not None:
        raise TypeError("give either mask= or weights= to update, got both; a mask is weights of 0 and 1")
    return accumulator.update(
        probs if logits is None else logits,
        labels,
        from_logits=logits is not None,
        weights=weights if mask is None else mask,
    )


def _empty(accumulator: Any) -> Any:
    accumulator = (
        accumulator.empty() if isinstance(accumulator, type) and hasattr(accumulator, "empty") else accumulator
    )
    if not all(hasattr(accumulator, name) for name in ("update", "merge", "psum", "compute")):
        raise TypeError(
            f"accumulator must be an empty accumulator, CalibrationBins.empty(num_bins=15) for instance, got "
            f"{type(accumulator).__name__}"
        )
    return accumulator
