"""How a total sparsity is spread over the parameters: a tree of sparsities, None where nothing is pruned."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxprune.pruning import filters
from jaxprune.pruning._annotations import FilterFn, Params, Sparsities, Sparsity
from jaxprune.pruning._trees import Names, flatten_named, map_named, show

FilterFnType = FilterFn
CustomSparsityMapType = Mapping[Names, Sparsity]

KERNEL_FILTER_FN = filters.named_kernel
NOT_DIM_ONE_FILTER_FN = filters.more_than_one_axis


def uniform(
    params: Params,
    sparsity: Sparsity,
    filter_fn: FilterFn = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> Sparsities:
    """Returns `sparsity` for every parameter that the filter selects; `custom_sparsity_map` goes first.

    `custom_sparsity_map` maps paths (tuples of names) to sparsities. A single array has the path `("kernel",)`.
    Raises `ValueError` for a sparsity outside [0, 1), a filter of one's own that selects nothing, or a custom path that
    is no parameter. The default filter may select nothing, as in jaxpruner: an optimiser for biases has nothing to
    prune.

    >>> uniform({"conv": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}}, 0.5)
    {'conv': {'bias': None, 'kernel': 0.5}}
    """
    check_sparsity(sparsity)
    custom = check_custom_sparsity_map(custom_sparsity_map, params)

    def sparsity_of(names: Names, param: Any) -> Any:
        if names in custom:
            return custom[names]
        return sparsity if filter_fn(names, param) else None

    sparsities = map_named(sparsity_of, params)
    if filter_fn is not NOT_DIM_ONE_FILTER_FN:
        check_selection(params, jax.tree.leaves(sparsities))
    return sparsities


def erk(
    param_tree: Params,
    sparsity: Sparsity,
    filter_fn: FilterFn = NOT_DIM_ONE_FILTER_FN,
    custom_sparsity_map: CustomSparsityMapType | None = None,
) -> Sparsities:
    """Returns Erdos-Renyi-Kernel sparsities: wide layers become sparser than narrow ones (Evci et al. 2020).

    The selected parameters together have the sparsity `sparsity`, see `get_sparsities_erdos_renyi`. Raises `ValueError`
    as `uniform` does, and for a single array, which has nothing to share its sparsity with.
    """
    named = flatten_named(param_tree)
    if jax.tree_util.all_leaves([param_tree]):
        raise ValueError("Single parameter is provided: erk spreads a sparsity over a tree; use uniform for one array")
    custom = check_custom_sparsity_map(custom_sparsity_map, param_tree)
    shapes = {names: param.shape for names, param in named if filter_fn(names, param)}
    check_selection(param_tree, shapes)
    sparsities = get_sparsities_erdos_renyi(shapes, sparsity, custom)
    return map_named(lambda names, _: sparsities.get(names), param_tree)


def get_n_zeros(size: int, sparsity: float) -> int:
    """Returns how many of `size` weights a sparsity removes, rounded down.

    >>> get_n_zeros(10, 0.25)
    2
    """
    return int(np.floor(sparsity * size))


def get_sparsities_erdos_renyi(
    var_shape_dict: Mapping[Any, tuple[int, ...]],
    default_sparsity: Sparsity,
    custom_sparsity_map: Mapping[Any, Sparsity] | None = None,
    include_kernel: bool = True,
    erk_power_scale: float = 1.0,
) -> dict[Any, Any]:
    r"""Returns {name: sparsity} for {name: shape}, with densities proportional to how thin a layer is.

    $$d_i = \epsilon \, p_i, \quad p_i = \left(\frac{\sum_a n_{i,a}}{\prod_a n_{i,a}}\right)^{scale}$$

    with the lengths n of the axes (only the last two, and no scale, when `include_kernel` is false), where epsilon
    makes the number of weights that stay equal to that of a uniform distribution. A layer whose density would pass 1
    becomes dense and the others pay for it, which they always can: a layer turns dense only while it is smaller than
    what stays. Layers in `custom_sparsity_map` keep their own sparsity, outside the balance.

    Raises `ValueError` for a sparsity outside [0, 1) or traced, and for no layers.
    """
    if isinstance(default_sparsity, jax.core.Tracer):
        raise ValueError(
            "erk settles on the host which layers stay dense, so its sparsity may not be traced; "
            "compute one tree of sparsities per sparsity, stack them, and vmap create_masks over the stack"
        )
    if default_sparsity is None or not 0 <= default_sparsity < 1:
        raise ValueError(
            f"Default sparsity {default_sparsity} is outside [0, 1): it is the fraction of weights to remove"
        )
    if not var_shape_dict:
        raise ValueError("Variable shape dictionary is empty: give the shape of at least one parameter to prune")
    custom = custom_sparsity_map or {}
    balanced = {name: shape for name, shape in var_shape_dict.items() if name not in custom}
    sizes = {name: int(np.prod(shape)) for name, shape in balanced.items()}
    zeros = {name: get_n_zeros(size, default_sparsity) for name, size in sizes.items()}
    thinness = {
        name: (np.sum(shape) / np.prod(shape)) ** erk_power_scale
        if include_kernel
        else np.sum(shape[-2:]) / np.prod(shape[-2:])
        for name, shape in balanced.items()
    }
    densities = dict.fromkeys(balanced, 1.0)
    sparse = set(balanced)
    while sparse:
        kept = sum(sizes[name] - zeros[name] for name in balanced if name in sparse)
        kept -= sum(zeros[name] for name in balanced if name not in sparse)
        epsilon = kept / sum(thinness[name] * sizes[name] for name in balanced if name in sparse)
        thinnest = max(thinness[name] for name in sparse)
        if epsilon * thinnest <= 1:
            densities |= {name: float(epsilon * thinness[name]) for name in sparse}
            break
        sparse -= {name for name in sparse if thinness[name] == thinnest}
    return {name: custom[name] if name in custom else 1.0 - densities[name] for name in var_shape_dict}


def check_sparsity(sparsity: Any, what: str = "sparsity") -> None:
    """Raises `ValueError` unless the sparsity is one number in [0, 1); a traced number passes."""
    if sparsity is None or isinstance(sparsity, str):
        raise ValueError(f"{what} must be a number in [0, 1), the fraction of weights to remove; got {sparsity!r}")
    if np.ndim(sparsity) != 0:
        raise ValueError(
            f"{what} must be one number, got an array of shape {np.shape(sparsity)}; use jax.vmap for several at once"
        )
    if not isinstance(sparsity, jax.core.Tracer) and not 0 <= sparsity < 1:
        raise ValueError(f"{what} must lie in [0, 1), it is the fraction of weights to remove; got {sparsity}")


def check_custom_sparsity_map(custom_sparsity_map: CustomSparsityMapType | None, params: Params) -> dict[Names, Any]:
    """Returns the map with its paths as tuples of strings, or raises `ValueError` for a path that is no parameter."""
    custom = {tuple(map(str, names)): sparsity for names, sparsity in (custom_sparsity_map or {}).items()}
    known = [names for names, _ in flatten_named(params)]
    for names, sparsity in custom.items():
        check_sparsity(sparsity, what=f"the custom sparsity of {show(names)}")
        if names not in known:
            raise ValueError(
                f"custom_sparsity_map names {names}, which is no parameter; the parameters are {known} "
                "(each path is a tuple of names)"
            )
    return custom


def check_selection(params: Params, selected: Any) -> None:
    """Raises `ValueError` when there are parameters and none of them is selected."""
    names = [show(names) for names, _ in flatten_named(params)]
    if names and not selected:
        raise ValueError(
            f"the filter selects none of the {len(names)} parameters, such as {', '.join(names[:3])}; "
            f"{filters.advice(params)}"
        )
