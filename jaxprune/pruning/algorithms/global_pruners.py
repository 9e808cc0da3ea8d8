"""Criteria that rank the weights of all parameters together: one threshold for the network."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxprune.pruning import mask_calculator, sparsity_distributions, sparsity_types
from jaxprune.pruning._annotations import FilterFn, Leaf, Masks, Params, Sparsity, TopkFn
from jaxprune.pruning._trees import Names, map_named, sorted_by_name
from jaxprune.pruning.algorithms import pruners
from jaxprune.pruning.base_updater import SparseState, apply_aligned


class UnsupportedSparsityType(ValueError, AttributeError):
    """Global ranking knows single weights only; an `AttributeError` too, as jaxpruner raised."""


@dataclasses.dataclass
class GlobalPruningMixin:
    """Ranks all selected parameters together; of equal scores the first stays, in the order of sorted paths.

    Attributes:
        custom_sparsity_map: paths of parameters that are ranked alone, at their own sparsity.
        filter_fn: which parameters take part; only the default may select none of them.
        normalization_eps: added to the norm that scores are divided by.
        use_normalization: divides each parameter's scores by their L2 norm first (jaxpruner's default). Global
            magnitude pruning as in Han et al. 2015 and the robustness study sets it to False.
        sparsity: the fraction of all weights taking part that goes.
    """

    custom_sparsity_map: sparsity_distributions.CustomSparsityMapType | None = None
    filter_fn: FilterFn = sparsity_distributions.NOT_DIM_ONE_FILTER_FN
    normalization_eps: float = 1e-8
    use_normalization: bool = True
    sparsity: Sparsity = 0.0

    def init_state(self, params: Params) -> SparseState:
        """Returns the sparse state at step 0; its target is the one global sparsity."""
        masks = self._pack(self.create_masks(params, 0.0))
        return SparseState(masks=masks, target_sparsities=self.sparsity, count=jnp.zeros([], jnp.int32))

    def instant_sparsify(self, params: Params, grads: Params | None = None, **kwargs: Any) -> tuple[Params, Masks]:
        """Returns (pruned parameters, masks) at the global sparsity, now; extra arguments reach `calculate_scores`."""
        masks = self.create_masks(self.calculate_scores(params, grads=grads, **kwargs), self.sparsity)
        return apply_aligned(params, masks), self._pack(masks)

    def create_masks(self, scores: Params, target_sparsity: Sparsity) -> Masks:
        """Returns the masks of the top scores of all selected parameters together."""
        if not isinstance(self.sparsity_type, sparsity_types.Unstructured):
            raise UnsupportedSparsityType(
                f"global pruning supports Unstructured() only, got {self.sparsity_type!r}; "
                "use the pruner of the same name without Global for structured sparsity"
            )
        sparsity_distributions.check_sparsity(target_sparsity)
        custom = sparsity_distributions.check_custom_sparsity_map(self.custom_sparsity_map, scores)
        together = {
            names: score
            for names, score in sorted_by_name(scores)
            if names not in custom and self.filter_fn(names, score)
        }
        if self.filter_fn is not sparsity_distributions.NOT_DIM_ONE_FILTER_FN:
            sparsity_distributions.check_selection(scores, together or custom)
        masks = {}
        if together:
            eps = self.normalization_eps if self.use_normalization else None
            kept = _rank_together(tuple(together.values()), target_sparsity, topk_fn=self.topk_fn, eps=eps)
            masks = dict(zip(together, kept, strict=True))

        def mask_of(names: Names, score: Leaf) -> Leaf | None:
            if names in custom:
                return self._top(names, score, custom[names])
            return masks.get(names)

        return map_named(mask_of, scores)


@partial(jax.jit, static_argnames=("topk_fn", "eps"))
def _rank_together(scores: tuple[Leaf, ...], sparsity: Sparsity, topk_fn: TopkFn, eps: float | None) -> list[Array]:
    """Returns one mask per array, from a single ranking; the norm is divided out unless `eps` is None."""
    if eps is not None:
        scores = [score / (jnp.linalg.norm(score.ravel()) + eps) for score in scores]
    mask = topk_fn(jnp.concatenate([score.ravel() for score in scores]), sparsity)
    masks = []
    start = 0
    for score in scores:
        masks.append(mask[start : start + score.size].reshape(score.shape).astype(mask_calculator.MASK_DTYPE))
        start += score.size
    return masks


@dataclasses.dataclass
class GlobalMagnitudePruning(GlobalPruningMixin, pruners.MagnitudePruning):
    """Small weights go, by one threshold for the network."""


@dataclasses.dataclass
class GlobalSaliencyPruning(GlobalPruningMixin, pruners.SaliencyPruning):
    """Weights that the loss hardly feels go, by one threshold for the network."""
