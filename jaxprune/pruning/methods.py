"""`prune`: one call from a classifier to a pruned classifier, by the name of a method."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxprune.pruning import filters, sparsity_distributions
from jaxprune.pruning.algorithms import GlobalMagnitudePruning, LampPruning, MagnitudePruning, RandomPruning
from jaxprune.pruning.base_updater import unpack_masks
from jaxprune.pruning.masking import mask_params
from jaxprune.pruning.structured import choose_groups, prune_channels


def weight(params, sparsity, key):
    """Returns masks by one threshold on |w| over all convolution kernels (Han et al. 2015, as in Liu et al. 2019)."""
    updater = GlobalMagnitudePruning(sparsity=sparsity, filter_fn=filters.conv_kernels, use_normalization=False)
    return updater.instant_sparsify(params)[1]


def weight_per_layer(params, sparsity, key):
    """Returns masks by the smallest |w| of each convolution kernel, all at the same sparsity."""
    return MagnitudePruning(sparsity_distribution_fn=_uniform(sparsity)).instant_sparsify(params)[1]


def weight_erk(params, sparsity, key):
    """Returns masks by the smallest |w| of each convolution kernel, at Erdos-Renyi-Kernel sparsities."""
    erk = partial(sparsity_distributions.erk, sparsity=sparsity, filter_fn=filters.conv_kernels)
    return MagnitudePruning(sparsity_distribution_fn=erk).instant_sparsify(params)[1]


def lamp(params, sparsity, key):
    """Returns masks by one threshold on the layer-adaptive magnitudes of all convolution kernels (Lee et al. 2021)."""
    return LampPruning(sparsity=sparsity, filter_fn=filters.conv_kernels).instant_sparsify(params)[1]


def random(params, sparsity, key):
    """Returns random masks of each convolution kernel, all at the same sparsity: the control; needs a key."""
    if key is None:
        raise ValueError("method 'random' draws its masks: give key=jax.random.key(seed)")
    return RandomPruning(rng_seed=key, sparsity_distribution_fn=_uniform(sparsity)).instant_sparsify(params)[1]


METHODS: dict[str, Callable[..., Any]] = {
    "weight": weight,
    "weight_per_layer": weight_per_layer,
    "weight_erk": weight_erk,
    "lamp": lamp,
    "random": random,
    "filter_l1": partial(prune_channels, criterion="l1"),
    "filter_l2": partial(prune_channels, criterion="l2"),
    "geometric_median": partial(prune_channels, criterion="geometric_median"),
    "slimming": partial(prune_channels, criterion="batch_norm_scale", scope="global"),
    "taylor": partial(prune_channels, criterion="taylor", scope="global"),
    "channel_random": partial(prune_channels, criterion="random"),
}

# Methods that remove whole channels; filter methods prune the layers that the study names, where a model names them.
STRUCTURED_METHODS = ("filter_l1", "filter_l2", "geometric_median", "slimming", "taylor", "channel_random")
_STUDY_LAYERS = ("filter_l1", "filter_l2", "geometric_median")
_STUDY = "study"


def prune(classifier, *, method, sparsity=None, key=None, **options):
    """Returns (classifier with pruned parameters, masks).

    `classifier` is anything with `params` and `replace(params=...)`. `method` is a name in `METHODS`; then `sparsity`
    in [0, 1) is the fraction of the weights of all 2-D convolution kernels that go, and `key` is for methods that draw.
    Or `method` is an updater, ours or the original jaxpruner's, which brings its own sparsity.

    For `STRUCTURED_METHODS`, `sparsity` is the fraction of the channels of the chosen layers, and `options` are those
    of `prune_channels`: `layers`, `round_to`, `shift`, and `images` and `labels` for "taylor". Filter methods choose
    the model's layers named "study" if it names some; the others, all layers but residual streams. `compact` then makes
    the network smaller.

    Raises `ValueError` for an unknown method, a sparsity outside [0, 1), parameters without convolution kernels, a
    random method without a key, or options that the method does not have.
    """
    if hasattr(method, "instant_sparsify"):
        if sparsity is not None or key is not None or options:
            raise ValueError("an updater has its own sparsity and key: give them to the updater, not to prune")
        masks = _masks_of(method, classifier.params)
    elif method not in METHODS:
        raise ValueError(f"unknown pruning method {method!r}; choose one of {', '.join(METHODS)}, or give an updater")
    elif method in STRUCTURED_METHODS:
        sparsity_distributions.check_sparsity(sparsity)
        if method in _STUDY_LAYERS and options.get("layers") is None and _names_study_layers(classifier):
            options["layers"] = _STUDY
        return METHODS[method](classifier, channel_sparsity=sparsity, key=key, **options)
    else:
        if options:
            raise ValueError(
                f"{', '.join(options)} are options of methods that remove channels ({', '.join(STRUCTURED_METHODS)}), "
                f"not of {method!r}"
            )
        sparsity_distributions.check_sparsity(sparsity)
        masks = METHODS[method](classifier.params, sparsity, key)
    return classifier.replace(params=mask_params(classifier.params, masks)), masks


def default_layers(classifier, method: str) -> tuple[str, ...]:
    """Returns the channel groups that a method of `STRUCTURED_METHODS` prunes if `prune` is not told which.

    Raises `ValueError` for another method, a classifier that declares no groups, or one whose groups have nothing that
    the method's criterion reads.
    """
    if method not in STRUCTURED_METHODS:
        raise ValueError(f"{method!r} does not remove channels; those that do are {', '.join(STRUCTURED_METHODS)}")
    layers = _STUDY if method in _STUDY_LAYERS and _names_study_layers(classifier) else None
    return tuple(group.name for group in choose_groups(classifier, layers, METHODS[method].keywords["criterion"]))


def _names_study_layers(classifier) -> bool:
    return hasattr(classifier, "layer_choices") and _STUDY in classifier.layer_choices()


def _masks_of(updater, params):
    masks = updater.instant_sparsify(params)[1]
    return unpack_masks(masks, params) if updater.use_packed_masks else masks


def _uniform(sparsity):
    return partial(sparsity_distributions.uniform, sparsity=sparsity, filter_fn=filters.conv_kernels)
