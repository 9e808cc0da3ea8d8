"""`prune`: one call from a classifier to a pruned classifier, by the name of a method."""

import math
import warnings
from typing import Any

import jax
import numpy as np

from jaxprune.pruning import filters, sparsity_distributions
from jaxprune.pruning._annotations import Key, Masks, Params, Replaceable, Sparsity, Updater
from jaxprune.pruning._trees import flatten_named, named_masks
from jaxprune.pruning.base_updater import unpack_masks
from jaxprune.pruning.masking import mask_params
from jaxprune.pruning.methods import (
    CHANNEL_OPTIONS,
    WEIGHT_OPTIONS,
    Method,
    default_choice,
    find_method,
    methods_with,
)
from jaxprune.pruning.structured import prune_channels

# Below this fraction of all weights, what a sparsity says of the chosen kernels says little of the network.
SMALL_SHARE = 0.5


def prune(
    classifier: Replaceable,
    *,
    method: str | Updater,
    sparsity: Sparsity = None,
    key: Key | None = None,
    **options: Any,
) -> tuple[Any, Masks]:
    """Returns (classifier with pruned parameters, masks).

    `classifier` is anything with `params` and `replace(params=...)`. `method` is a name in `METHODS`; then `sparsity`
    in [0, 1) is the fraction to remove, and `key` is for methods that draw. Or `method` is an updater, ours or the
    original jaxpruner's, which brings its own sparsity.

    Methods that remove weights do so in the kernels of 2-D convolutions, as published; `filter_fn`, a name in `FILTERS`
    or a function of (names, array), chooses others, such as `"kernels"` for a network of attention layers. A warning
    says so where the kernels hold less than half of all weights: `sparsity` is the fraction of what is chosen.
    N:M methods have one sparsity, and need none.

    For methods that remove channels, `sparsity` is the fraction of the channels of the chosen layers, and `options` are
    those of `prune_channels`: `layers`, `round_to`, `shift`, and `images` and `labels` for "taylor". Filter methods
    choose the model's layers named "study" if it names some; the others, all layers but residual streams. After that,
    `compact` makes the network smaller.

    Raises `ValueError` for an unknown method, a sparsity outside [0, 1) or that the method does not have, parameters
    without what the method prunes, a method without the key or images that it needs, a `round_to` that leaves all
    channels, or options that the method does not have.
    """
    if hasattr(method, "instant_sparsify"):
        if sparsity is not None or key is not None or options:
            raise ValueError("an updater has its own sparsity and key: give them to the updater, not to prune")
        masks = _masks_of(method, classifier.params)
        return classifier.replace(params=mask_params(classifier.params, masks)), masks
    row = find_method(method)
    _check_options(method, row, options)
    sparsity = _sparsity_of(method, row, sparsity)
    _check_needs(method, row, {"key": key, **options})
    if row.removes_channels:
        return _without_channels(classifier, row, sparsity, key, options)
    chosen = options.get("filter_fn")
    filter_fn = row.filter_fn if chosen is None else filters.find_filter(chosen)
    masks = row.masks(classifier.params, sparsity, filter_fn, key)
    if chosen is None:
        _warn_of_a_small_share(method, classifier.params, masks, sparsity)
    return classifier.replace(params=mask_params(classifier.params, masks)), masks


def _check_options(method: str, row: Method, options: dict[str, Any]) -> None:
    if row.masks_move:
        raise ValueError(
            f"the masks of {method!r} change while the network trains, so nothing can be pruned beforehand; train with "
            "training.fit_sparse, or with pruning.pruned_optimizer"
        )
    for option in options:
        if option not in row.options:
            known, kind = methods_with(option), "channels" if option in CHANNEL_OPTIONS else "weights"
            if not known:
                raise ValueError(f"prune has no option {option!r}; {method!r} takes {', '.join(row.options)}")
            given = [name for name in options if methods_with(name) == known]
            verb = "is an option" if option in WEIGHT_OPTIONS else "are options"
            raise ValueError(f"{', '.join(given)} {verb} of methods that remove {kind} ({known}), not of {method!r}")


def _sparsity_of(method: str, row: Method, sparsity: Sparsity) -> Sparsity:
    if row.sparsity is None:
        sparsity_distributions.check_sparsity(sparsity)
        return sparsity
    if sparsity is None:
        return row.sparsity
    sparsity_distributions.check_sparsity(sparsity)
    if isinstance(sparsity, jax.core.Tracer) or not (sparsity == 0 or math.isclose(sparsity, row.sparsity)):
        raise ValueError(
            f"method {method!r} removes {row.sparsity:g} of the weights that it prunes and nothing else, got sparsity "
            f"{sparsity}; leave it out or give {row.sparsity:g}"
        )
    return sparsity


def _check_needs(method: str, row: Method, given: dict[str, Any]) -> None:
    missing = [need for need in row.needs if given.get(need) is None]
    if "key" in missing:
        raise ValueError(f"method {method!r} draws at random: give key=jax.random.key(seed)")
    if missing:
        raise ValueError(f"method {method!r} needs {'= and '.join(missing)}=, a batch of training images with labels")


def _without_channels(
    classifier: Any, row: Method, sparsity: Sparsity, key: Key | None, options: dict[str, Any]
) -> tuple[Any, Masks]:
    if options.get("layers") is None:
        options = {**options, "layers": default_choice(classifier, row)}
    pruned, masks = prune_channels(
        classifier, criterion=row.criterion, channel_sparsity=sparsity, scope=row.scope, key=key, **options
    )
    round_to = options.get("round_to", 1)
    if sparsity > 0 and round_to > 1 and all(np.all(mask) for mask in jax.tree.leaves(masks)):
        raise ValueError(
            f"round_to={round_to} keeps every channel of the chosen layers at sparsity {sparsity}, so nothing would be "
            "removed; give a smaller round_to or a larger sparsity"
        )
    return pruned, masks


def _warn_of_a_small_share(method: str, params: Params, masks: Masks, sparsity: Sparsity) -> None:
    sizes = {path: leaf.size for path, leaf in flatten_named(params)}
    masked = [path for path, mask in named_masks(masks).items() if mask is not None]
    share = sum(sizes[path] for path in masked) / max(1, sum(sizes.values()))
    if share >= SMALL_SHARE:
        return
    removes = ""
    if not isinstance(sparsity, jax.core.Tracer):
        removes = f", so that sparsity {float(sparsity):g} removes {100 * float(sparsity) * share:.3g} %"
    warnings.warn(
        f"method {method!r} selected {100 * share:.3g} % of all weights ({len(masked)} of {len(sizes)} parameters)"
        f"{removes}; for more, {filters.advice(params)}",
        stacklevel=3,
    )


def _masks_of(updater: Updater, params: Params) -> Masks:
    masks = updater.instant_sparsify(params)[1]
    return unpack_masks(masks, params) if updater.use_packed_masks else masks
