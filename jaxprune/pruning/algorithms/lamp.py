"""LAMP: one global threshold that gives every layer its due share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxprune.pruning._annotations import Params
from jaxprune.pruning.algorithms.global_pruners import GlobalPruningMixin
from jaxprune.pruning.base_updater import BaseUpdater, SparseState


@dataclasses.dataclass
class LampPruning(GlobalPruningMixin, BaseUpdater):
    r"""Ranks all weights together by their layer-adaptive magnitude (Lee et al. 2021, equation 4).

    $$\mathrm{score}(u) = \frac{w_u^2}{\sum_{v : |w_v| \ge |w_u|} w_v^2}$$

    within each parameter: the squared weight over all that would survive it. The largest weight of every parameter has
    score 1, so no layer is emptied while others have more to give. Equal weights rank by their index, lower first.
    """

    use_normalization: bool = False

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: Params | None = None, **kwargs: Any
    ) -> Params:
        """Returns the scores, in [0, 1]."""
        return jax.tree.map(lamp_scores, params)


@jax.jit
def lamp_scores(param: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the LAMP score of every weight of one parameter.

    >>> [round(score, 3) for score in lamp_scores(jnp.array([1.0, -3.0, 2.0])).tolist()]
    [0.071, 1.0, 0.308]
    """
    squares = jnp.square(param.ravel().astype(jnp.promote_types(param.dtype, jnp.float32)))
    order = jnp.argsort(-squares, stable=True)
    descending = squares[order]
    survivors = jnp.cumsum(descending)
    scores = jnp.where(survivors > 0, descending / jnp.where(survivors > 0, survivors, 1), 0)
    return jnp.zeros_like(scores).at[order].set(scores, unique_indices=True).reshape(param.shape)
