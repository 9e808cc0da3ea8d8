"""How much each channel of a group matters: one score per channel, the smallest go first.

Scores are computed in float64 on the host: a network has up to hundreds of layers of different shapes, each of which
would be a compilation. Only the gradient of the Taylor criterion is taken on the device.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped

from jaxprune.pruning._annotations import Group, HasParams, Key, Params
from jaxprune.pruning._trees import flatten_named, show

Leaves = Mapping[str, np.ndarray]  # parameters by their slash paths
ChannelScores = list[Float[np.ndarray, " _"]]  # one array per group, of its width


class Criterion(NamedTuple):
    """A row of `CRITERIA`.

    Attributes:
      scores: `scores(leaves, groups, gradients=, key=)` returns float64 `[width]` for every group; `leaves` are the
        parameters by their slash paths.
      reads: what of a group it looks at: "producers", "batch_norms" or "anything".
      needs: what the caller must give: of "key", "images" and "labels".
    """

    scores: Callable[..., ChannelScores]
    reads: str
    needs: tuple[str, ...] = ()


def filter_matrix(leaves: Leaves, group: Group) -> Float[np.ndarray, "width weights"]:
    """Returns the filters of a group's channels as rows, float64 `[width, weights per channel]`, of all producers."""
    kernels = [leaves[f"{path}/kernel"].astype(np.float64) for path in group.producers]
    return np.concatenate([np.moveaxis(kernel, -1, 0).reshape(group.width, -1) for kernel in kernels], axis=1)


def l1(leaves: Leaves, groups: Sequence[Group], **_: Any) -> ChannelScores:
    """Returns sum |w| over each channel's filter (Li et al. 2017)."""
    return [np.abs(filter_matrix(leaves, group)).sum(1) for group in groups]


def l2(leaves: Leaves, groups: Sequence[Group], **_: Any) -> ChannelScores:
    """Returns sqrt(sum w^2) over each channel's filter."""
    return [np.sqrt((filter_matrix(leaves, group) ** 2).sum(1)) for group in groups]


def geometric_median(leaves: Leaves, groups: Sequence[Group], **_: Any) -> ChannelScores:
    """Returns the sum of Euclidean distances from each filter to the group's others (FPGM, He et al. 2019).

    The filters nearest to the geometric median are the ones that the others can stand in for.
    """

    def one(group: Group) -> np.ndarray:
        filters = filter_matrix(leaves, group)
        # Around their mean the filters lose fewer digits in |a|^2 + |b|^2 - 2 a.b.
        filters = filters - filters.mean(0)
        squares = (filters**2).sum(1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * filters @ filters.T, 0))
        np.fill_diagonal(distances, 0)
        return distances.sum(1)

    return [one(group) for group in groups]


def batch_norm_scale(leaves: Leaves, groups: Sequence[Group], **_: Any) -> ChannelScores:
    """Returns |gamma|, averaged where several BatchNorms see the channels (network slimming, Liu et al. 2017)."""
    return [
        np.mean([np.abs(leaves[f"{path}/scale"].astype(np.float64)) for path in group.batch_norms], axis=0)
        for group in groups
    ]


def taylor(leaves: Leaves, groups: Sequence[Group], *, gradients: Leaves, **_: Any) -> ChannelScores:
    """Returns the squared first-order change of the loss when a channel's gate closes (Molchanov et al. 2019, eq. 8).

    The gate stands behind the BatchNorm, (g_gamma gamma + g_beta beta)^2, summed where there are several; without
    BatchNorm behind the layer, the square of the sum of gradient times weight over the filter and its bias.
    """

    def gate(group: Group) -> np.ndarray:
        if group.batch_norms:
            gates = [_products(leaves, gradients, path, ("scale", "bias")) for path in group.batch_norms]
            return np.sum(np.square(gates), axis=0)
        gates = [_products(leaves, gradients, path, ("kernel", "bias")) for path in group.producers]
        return np.square(np.sum(gates, axis=0))

    return [gate(group) for group in groups]


def _products(leaves: Leaves, gradients: Leaves, path: str, names: Sequence[str]) -> np.ndarray:
    """Returns the sum of gradient times parameter over everything but the last axis."""
    found = [f"{path}/{name}" for name in names if f"{path}/{name}" in leaves]
    products = [leaves[name].astype(np.float64) * gradients[name] for name in found]
    return sum(product.reshape(-1, product.shape[-1]).sum(0) for product in products)


def random(leaves: Leaves, groups: Sequence[Group], *, key: Key, **_: Any) -> ChannelScores:
    """Returns uniform scores in [0, 1): the control."""
    widths = [group.width for group in groups]
    draws = np.asarray(jax.random.uniform(key, (sum(widths),)), np.float64)
    return np.split(draws, np.cumsum(widths)[:-1])


CRITERIA = {
    "l1": Criterion(l1, "producers"),
    "l2": Criterion(l2, "producers"),
    "geometric_median": Criterion(geometric_median, "producers"),
    "batch_norm_scale": Criterion(batch_norm_scale, "batch_norms"),
    "taylor": Criterion(taylor, "anything", needs=("images", "labels")),
    "random": Criterion(random, "anything", needs=("key",)),
}


def channel_scores(
    classifier: HasParams,
    groups: Sequence[Group],
    *,
    criterion: str,
    key: Key | None = None,
    images: Shaped[ArrayLike, "batch height width channels"] | None = None,
    labels: Shaped[ArrayLike, " batch"] | None = None,
) -> ChannelScores:
    """Returns one float64 score `[width]` per group; channels with the smallest are the first to go.

    Args:
      classifier: anything with `params`; the Taylor criterion also uses `apply` and `batch_stats`.
      groups: channel groups of the classifier.
      criterion: a name in `CRITERIA`.
      key: for "random".
      images, labels: for "taylor": a batch from the training images; its mean cross-entropy in evaluation mode is
        differentiated.

    Raises:
      ValueError: an unknown criterion, or a missing key, images or labels.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; choose one of {', '.join(CRITERIA)}")
    needs = CRITERIA[criterion].needs
    if "key" in needs and key is None:
        raise ValueError(f"criterion {criterion!r} draws its scores: give key=jax.random.key(seed)")
    gradients = None
    if "images" in needs:
        if images is None or labels is None or not len(images):
            raise ValueError(f"criterion {criterion!r} needs images= and labels=, a batch of training images")
        gradients = _by_path(_gradients(classifier, jnp.asarray(images), jnp.asarray(labels)))
    return CRITERIA[criterion].scores(_by_path(classifier.params), groups, gradients=gradients, key=key)


@jax.jit
def _gradients(classifier: HasParams, images: jax.Array, labels: jax.Array) -> Params:
    def loss(params: Params) -> jax.Array:
        logits, _ = classifier.apply(params, classifier.batch_stats, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.grad(loss)(classifier.params)


def _by_path(params: Any) -> dict[str, np.ndarray]:
    return {show(names): np.asarray(leaf) for names, leaf in flatten_named(params)}
