"""The updater: score -> mask -> apply, now or along a schedule inside an optimiser."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Shaped, UInt8

from jaxprune.pruning import mask_calculator, sparsity_distributions, sparsity_schedules, sparsity_types
from jaxprune.pruning._annotations import Key, Leaf, Masks, Params, Sparsities, TopkFn
from jaxprune.pruning._trees import Names, align_masks, check_mask, flatten_named, packed_shape, show

FilterFnType = sparsity_distributions.FilterFnType
CustomSparsityMapType = sparsity_distributions.CustomSparsityMapType
TopkFnType = mask_calculator.TopKFnType

DEFAULT_SEED = 8  # jaxpruner's: an updater without `rng_seed` uses PRNGKey(8)
_NO_UPDATES = sparsity_schedules.NoUpdateSchedule()
_UNSTRUCTURED = sparsity_types.Unstructured()
_NOTHING = partial(sparsity_distributions.uniform, sparsity=0.0)


class SparseState(NamedTuple):
    """State of a wrapped optimiser: the masks, the optimiser's own state, the target sparsities, the step."""

    masks: Any
    inner_state: Any = None
    target_sparsities: Any = None
    count: Any = None


def apply_mask(param: Leaf, mask: Any, is_packed: bool = False) -> Leaf:
    """Returns the parameter with exact zeros where the mask is 0, whatever was there; a None mask passes it as it is.

    Raises `ValueError` for a mask of another shape, or (outside jit) with other values than 0 and 1.

    >>> apply_mask(jnp.array([1.0, jnp.inf]), jnp.array([1, 0], dtype="uint8")).tolist()
    [1.0, 0.0]
    """
    if mask is None:
        return param
    check_mask(mask, packed_shape(param) if is_packed else jnp.shape(param), check_values=not is_packed)
    return _masked(param, mask, bool(is_packed))


@partial(jax.jit, static_argnames="is_packed")
def _masked(param: Leaf, mask: Leaf, is_packed: bool) -> Array:
    if is_packed:
        mask = unpack_mask(mask, param.shape)
    return jnp.where(mask != 0, param, jnp.zeros((), param.dtype))


def apply_aligned(params: Params, masks: Masks, is_packed: bool = False) -> Params:
    """Returns the parameters with exact zeros where masks are 0, which `align_masks` has checked."""
    return jax.tree.map(
        lambda param, mask: param if mask is None else _masked(param, mask, bool(is_packed)), params, masks
    )


def unpack_mask(packed: UInt8[Array, " bytes"], shape: tuple[int, ...]) -> UInt8[Array, "..."]:
    """Returns the uint8 mask of this shape whose `jnp.packbits` is `packed`."""
    return jnp.unpackbits(packed, count=math.prod(shape)).reshape(shape)


def unpack_masks(masks: Masks, params: Params) -> Masks:
    """Returns the uint8 masks whose packed bits are `masks`."""
    return jax.tree.map(lambda param, mask: None if mask is None else unpack_mask(mask, param.shape), params, masks)


@dataclasses.dataclass
class BaseUpdater:
    """Prunes parameters by scores; a criterion is a subclass with `calculate_scores`.

    Attributes:
        scheduler: when masks change, and the sparsity then (`sparsity_schedules`).
        skip_gradients: the steps that change masks leave parameters and optimiser alone.
        is_sparse_gradients: gradients of pruned weights are zeroed before the optimiser sees them.
        sparsity_type: which weights live or die together (`sparsity_types`).
        sparsity_distribution_fn: from parameters to a tree of sparsities, None where nothing is pruned
            (`sparsity_distributions`).
        rng_seed: the key of random criteria, or an integer to make one of; `PRNGKey(8)` when None, as in jaxpruner.
        use_packed_masks: masks are kept as `jnp.packbits` of themselves, an eighth of the memory.
        topk_fn: from scores and sparsity to a mask; by default that of the sparsity type.
    """

    scheduler: sparsity_schedules.Schedule = _NO_UPDATES
    skip_gradients: bool = False
    is_sparse_gradients: bool = False
    sparsity_type: Any = _UNSTRUCTURED
    sparsity_distribution_fn: Callable[..., Any] | None = _NOTHING
    rng_seed: Key | int | None = None
    use_packed_masks: bool = False
    topk_fn: TopkFn | None = None

    def __post_init__(self) -> None:
        if self.topk_fn is None:
            self.topk_fn = mask_calculator.get_topk_fn(self.sparsity_type)
        if self.rng_seed is None or isinstance(self.rng_seed, int):
            self.rng_seed = jax.random.PRNGKey(DEFAULT_SEED if self.rng_seed is None else self.rng_seed)

    def apply_masks(self, params: Params, masks: Masks | None, is_packed: bool | None = False) -> Params:
        """Returns the parameters with exact zeros where masks are 0; `is_packed=None` means the updater's own form.

        Raises `ValueError` for masks of other parameters, of another shape, or (outside jit) with other values than 0
        and 1.
        """
        if is_packed is None:
            is_packed = self.use_packed_masks
        return apply_aligned(params, align_masks(masks, params, packed=bool(is_packed)), bool(is_packed))

    def _apply_own(self, params: Params, masks: Masks | None) -> Params:
        """Returns what `apply_masks` does for masks in the updater's own form, which it made: no value is checked."""
        return apply_aligned(
            params, align_masks(masks, params, packed=self.use_packed_masks, check_values=False), self.use_packed_masks
        )

    def calculate_scores(
        self, params: Params, sparse_state: SparseState | None = None, grads: Params | None = None, **kwargs: Any
    ) -> Params:
        """Returns a tree of scores like `params`: the highest stay."""
        raise NotImplementedError(f"{type(self).__name__} has no criterion: define calculate_scores in a subclass")

    def get_initial_masks(self, params: Params, target_sparsities: Sparsities | None) -> Masks:
        """Returns the masks that an optimiser starts with: all ones where something is to be pruned."""
        if target_sparsities is None:
            return jax.tree.map(lambda _: None, params)
        return jax.tree.map(
            lambda param, target: None if target is None else jnp.ones(param.shape, mask_calculator.MASK_DTYPE),
            params,
            target_sparsities,
        )

    def create_masks(self, scores: Params, sparsities: Sparsities) -> Masks:
        """Returns the masks of the top scores, parameter by parameter; None where the sparsity is None."""
        structure = jax.tree.structure(scores)
        targets = structure.flatten_up_to(sparsities)
        named = zip(flatten_named(scores), targets, strict=True)
        return structure.unflatten([self._top(names, score, target) for (names, score), target in named])

    def _top(self, names: Names, score: Leaf, sparsity: Any) -> Shaped[Array, "..."] | None:
        if sparsity is None:
            return None
        try:
            return self.topk_fn(score, sparsity).astype(mask_calculator.MASK_DTYPE)
        except ValueError as error:
            raise ValueError(f"parameter {show(names)}: {error}") from error

    def init_state(self, params: Params) -> SparseState:
        """Returns the sparse state at step 0, without an inner state."""
        targets = None if self.sparsity_distribution_fn is None else self.sparsity_distribution_fn(params)
        masks = self._pack(self.get_initial_masks(params, targets))
        return SparseState(masks=masks, target_sparsities=targets, count=jnp.zeros([], jnp.int32))

    def update_state(
        self, sparse_state: SparseState, params: Params, grads: Params | None, **kwargs: Any
    ) -> SparseState:
        """Returns the state with new masks, at the sparsity that the schedule gives for its step."""
        sparsities = self.scheduler.get_sparsity_at_step(sparse_state.target_sparsities, sparse_state.count)
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads, **kwargs)
        return sparse_state._replace(masks=self._pack(self.create_masks(scores, sparsities)))

    def wrap_optax(self, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        """Returns an optax transformation that also updates masks on schedule.

        Its state is a `SparseState`. `update(grads, state, params, **kwargs)` changes the masks on the schedule's steps
        from params and grads, masks the gradients if `is_sparse_gradients`, then calls `inner`, except on mask steps
        when `skip_gradients`. Extra arguments reach `calculate_scores` and `inner`. It does not zero pruned weights:
        `post_gradient_update` does, after each step; `pruning.pruned_optimizer` makes that call needless.
        """
        inner = optax.with_extra_args_support(inner)

        def init(params: Params) -> SparseState:
            return self.init_state(params)._replace(inner_state=inner.init(params))

        def update(
            updates: Params, state: SparseState, params: Params | None = None, **kwargs: Any
        ) -> tuple[Params, SparseState]:
            if params is None:
                raise ValueError("a pruning optimiser needs the parameters: call update(grads, state, params)")
            is_mask_step = self.scheduler.is_mask_update_iter(state.count)
            # A schedule that never updates says so with Python's False: nothing of it is compiled into the step.
            if is_mask_step is not False:
                state = jax.lax.cond(
                    is_mask_step,
                    lambda state: self.update_state(state, params, updates, **kwargs),
                    lambda state: state,
                    state,
                )
            if self.is_sparse_gradients:
                updates = self._apply_own(updates, state.masks)

            def step(updates: Params, inner_state: Any) -> tuple[Params, Any]:
                return inner.update(updates, inner_state, params, **kwargs)

            def skip(updates: Params, inner_state: Any) -> tuple[Params, Any]:
                return jax.tree.map(jnp.zeros_like, updates), inner_state

            if self.skip_gradients and is_mask_step is not False:
                updates, inner_state = jax.lax.cond(is_mask_step, skip, step, updates, state.inner_state)
            else:
                updates, inner_state = step(updates, state.inner_state)
            count = optax.safe_increment(jnp.asarray(state.count))
            return updates, state._replace(count=count, inner_state=inner_state)

        return optax.GradientTransformationExtraArgs(init, update)

    def instant_sparsify(self, params: Params, grads: Params | None = None, **kwargs: Any) -> tuple[Params, Masks]:
        """Returns (pruned parameters, masks) at the full sparsity of the distribution, now.

        Extra arguments reach `calculate_scores`.
        """
        if self.sparsity_distribution_fn is None:
            raise ValueError(
                "sparsity_distribution_fn is None, so there is no sparsity to prune to; give for example "
                "partial(sparsity_distributions.uniform, sparsity=0.7)"
            )
        sparsities = self.sparsity_distribution_fn(params)
        masks = self.create_masks(self.calculate_scores(params, grads=grads, **kwargs), sparsities)
        return apply_aligned(params, masks), self._pack(masks)

    def pre_forward_update(self, params: Params, opt_state: Any) -> Params:
        """Returns the parameters for the forward pass: here the parameters themselves."""
        return params

    def post_gradient_update(self, params: Params, sparse_state: SparseState) -> Params:
        """Returns the parameters with exact zeros at pruned weights: call it after every `optax.apply_updates`."""
        return self._apply_own(params, sparse_state.masks)

    def _pack(self, masks: Masks) -> Masks:
        return jax.tree.map(jnp.packbits, masks) if self.use_packed_masks else masks

    def _unpack(self, masks: Masks, params: Params) -> Masks:
        return unpack_masks(masks, params) if self.use_packed_masks else masks


@dataclasses.dataclass
class NoPruning(BaseUpdater):
    """Keeps everything: the dense baseline with the interface of an updater."""

    sparsity_distribution_fn: Callable[..., Any] | None = None

    def get_initial_masks(self, params: Params, target_sparsities: Sparsities | None) -> Masks:
        """Returns a tree of None."""
        return jax.tree.map(lambda _: None, params)

    def update_state(
        self, sparse_state: SparseState, params: Params, grads: Params | None, **kwargs: Any
    ) -> SparseState:
        """Returns the state as it is."""
        return sparse_state

    def instant_sparsify(self, params: Params, grads: Params | None = None, **kwargs: Any) -> tuple[Params, Masks]:
        """Returns the parameters as they are, and a tree of None."""
        return params, self.get_initial_masks(params, None)
