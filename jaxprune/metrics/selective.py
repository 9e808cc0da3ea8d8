"""Selective prediction: if the classifier may abstain where it is least sure, how often is the rest wrong?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprune.metrics._arguments import PerExample, Scalar
from jaxprune.metrics._checked import checked
from jaxprune.metrics._operators import refuse_arithmetic, short_repr
from jaxprune.metrics._rows import top_label_arguments
from jaxprune.metrics._sums import weighted


class RiskCoverage(NamedTuple):
    """The error rate (`risk`) among the most confident fraction (`coverage`), ascending; `threshold` admits them."""

    coverage: PerExample
    risk: PerExample
    threshold: PerExample

    __repr__ = short_repr
    __add__ = __radd__ = __mul__ = __rmul__ = refuse_arithmetic


@checked(static_argnames="from_logits")
def risk_coverage(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> RiskCoverage:
    """Returns the risk-coverage curve, one point for each example, from the most confident to all.

    Examples of equal confidence share their errors and weights equally, so that their order does not matter. Rows of
    weight 0 repeat the last point (El-Yaniv & Wiener 2010).

    >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    >>> curve = risk_coverage(probs, jnp.array([0, 1, 1]))
    >>> [round(x, 3) for x in curve.coverage.tolist()], [round(x, 3) for x in curve.risk.tolist()]
    ([0.333, 0.667, 1.0], [0.0, 0.5, 0.667])
    """
    curve, _ = _curve(outputs, labels, weights, from_logits)
    return curve


@checked(static_argnames="from_logits")
def area_under_risk_coverage(
    outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool = False, weights: ArrayLike | None = None
) -> Scalar:
    r"""Returns the mean risk over all coverages, in [0, 1]: small when errors are rare or rank behind the rest.

    $$\frac{1}{n} \sum_{k=1}^{n} \frac{\text{errors among the } k \text{ most confident}}{k}$$

    Geifman, Uziel & El-Yaniv 2019. Of equal confidences the expected value over their orders. Elsewhere: fd-shifts and
    torch-uncertainty integrate the curve by trapezoids, which differs by about (first risk + last risk) / 2n;
    uncertainty-calibration's `get_selective_stats` gives the area under accuracy, 1 minus this. Without a rule for ties
    the result depends on the order of the rows.

    >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    >>> round(area_under_risk_coverage(probs, jnp.array([0, 1, 1])).item(), 4)
    0.3889
    """
    curve, weights = _curve(outputs, labels, weights, from_logits)
    return weighted(curve.risk, weights).sum() / weights.sum()


def _curve(outputs, labels, weights, from_logits) -> tuple[RiskCoverage, PerExample]:
    confidence, correct, weights = top_label_arguments(outputs, labels, weights, from_logits)
    weights = jnp.ones_like(confidence) if weights is None else weights
    wrong = jnp.where(jnp.isnan(confidence), jnp.nan, ~correct)
    key = jnp.where(weights == 0, jnp.inf, -confidence)
    key, wrong, weights = jax.lax.sort((key, weighted(wrong, weights), weights), num_keys=1, is_stable=True)
    group = jnp.cumsum(jnp.append(False, key[1:] != key[:-1])[: key.size].astype(jnp.int32))
    columns = wrong, weights, (weights != 0).astype(weights.dtype)
    errors, mass, members = (jax.ops.segment_sum(x, group, key.size) for x in columns)
    weights = weighted((mass / members)[group], columns[2])
    shared = weighted((errors / mass)[group], weights)
    covered = jnp.cumsum(weights)
    curve = RiskCoverage(covered / weights.sum(), jnp.cumsum(shared) / covered, -key)
    return jax.tree.map(lambda x: x + 0 * wrong.sum(), curve), weights
