"""Sparse from the first step: static random masks, and masks that move during training at constant sparsity."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Num, UInt8

from jaxprune.pruning._annotations import Masks, Params, Sparsities

# jaxpruner has both here.
from jaxprune.pruning.algorithms.optimizer_restart import _restart_using_mask as _restart_using_mask
from jaxprune.pruning.algorithms.optimizer_restart import restart_inner_state
from jaxprune.pruning.algorithms.pruners import generate_random_scores
from jaxprune.pruning.base_updater import BaseUpdater, SparseState

DEFAULT_DROP_FRACTION = 0.3  # Evci et al. 2020


@dataclasses.dataclass
class StaticRandomSparse(BaseUpdater):
    """Random masks, drawn at `init` and never changed."""

    is_sparse_gradients: bool = True

    def update_state(
        self, sparse_state: SparseState, params: Params, grads: Params | None, **kwargs: Any
    ) -> SparseState:
        """Returns the state as it is."""
        return sparse_state

    def get_initial_masks(self, params: Params, target_sparsities: Sparsities) -> Masks:
        """Returns random masks at the target sparsities."""
        return self.create_masks(generate_random_scores(params, self.rng_seed), target_sparsities)

    def instant_sparsify(self, params: Params, grads: Params | None = None, **kwargs: Any) -> tuple[Params, Masks]:
        """Raises `RuntimeError`: sparse training starts sparse."""
        raise RuntimeError(
            f"instant_sparsify is not supported by {type(self).__name__}: it trains sparse from the start; "
            "use wrap_optax, or RandomPruning to prune a trained network at random"
        )


def constant_drop_fraction(step: ArrayLike) -> float:
    """Returns 0.3 at every step."""
    return DEFAULT_DROP_FRACTION


@dataclasses.dataclass
class SET(StaticRandomSparse):
    """Drops the smallest weights and grows random ones, at constant sparsity (Mocanu et al. 2018).

    Attributes:
        eps: how far below (above) all scores inactive (kept) weights are put, relative to the scores beyond 1.
        drop_fraction_fn: from the step to the fraction of active weights that are replaced.
        is_debug: checks every mask update, outside jit only.
    """

    eps: float = 1e-5
    drop_fraction_fn: Callable[..., Any] = constant_drop_fraction
    is_debug: bool = False
    skip_gradients: bool = True

    def _update_masks(
        self,
        old_mask: UInt8[Array, "*shape"],
        drop_score: Num[Array, "*shape"],
        grow_score: Num[Array, "*shape"],
        drop_fraction: ArrayLike,
    ) -> UInt8[Array, "*shape"]:
        """Returns the mask after dropping the lowest drop scores of the active and growing the highest grow scores."""
        density = jnp.sum(old_mask) / old_mask.size
        lowest = jnp.min(drop_score)
        below = lowest - self.eps * jnp.maximum(1, jnp.abs(lowest))
        kept_mask = self.topk_fn(jnp.where(old_mask == 0, below, drop_score), 1 - density * (1 - drop_fraction))
        highest = jnp.max(grow_score)
        above = highest + self.eps * jnp.maximum(1, jnp.abs(highest))
        new_mask = self.topk_fn(jnp.where(kept_mask == 1, above, grow_score), 1 - density)
        if self.is_debug:
            self._check(old_mask, kept_mask, new_mask)
        return new_mask

    def _check(self, old_mask: Array, kept_mask: Array, new_mask: Array) -> None:
        if isinstance(new_mask, jax.core.Tracer):
            return
        if bool(jnp.any(kept_mask > old_mask)) or bool(jnp.any(kept_mask > new_mask)):
            raise AssertionError(
                "a mask update dropped a weight that it should keep or kept one that was inactive: "
                "the scores differ by less than eps; check them for infinities and NaN"
            )

    def _get_drop_scores(self, sparse_state: SparseState, params: Params, grads: Params | None) -> Params:
        return jax.tree.map(jnp.abs, params)

    def _get_grow_scores(self, sparse_state: SparseState, params: Params, grads: Params | None) -> Params:
        return generate_random_scores(params, jax.random.fold_in(self.rng_seed, sparse_state.count))

    def update_state(
        self, sparse_state: SparseState, params: Params, grads: Params | None, **kwargs: Any
    ) -> SparseState:
        """Returns the state with moved masks, and without memory of the weights that became active."""
        old_masks = self._unpack(sparse_state.masks, params)
        update = partial(self._update_masks, drop_fraction=self.drop_fraction_fn(sparse_state.count))
        new_masks = jax.tree.map(
            lambda _, mask, drop, grow: None if mask is None else update(mask, drop, grow),
            params,
            old_masks,
            self._get_drop_scores(sparse_state, params, grads),
            self._get_grow_scores(sparse_state, params, grads),
        )
        activated = jax.tree.map(lambda old, new: (old == 0) & (new == 1), old_masks, new_masks)
        inner_state = restart_inner_state(sparse_state.inner_state, activated)
        return sparse_state._replace(masks=self._pack(new_masks), inner_state=inner_state)


@dataclasses.dataclass
class RigL(SET):
    """Drops the smallest weights and grows those with the largest gradients (Evci et al. 2020)."""

    def _get_grow_scores(self, sparse_state: SparseState, params: Params, grads: Params | None) -> Params:
        return jax.tree.map(jnp.abs, grads)
