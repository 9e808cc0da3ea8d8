"""Recalibration: BatchNorm's running statistics, measured again for the weights that are there now."""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxprune import data, models

RECALIBRATION_BATCH = 250  # images per forward pass in training mode; the estimate is better the larger it is
_MOMENTUM_DECIMALS = 6  # momenta are written as 0.9, 0.997, ...; the measured one carries rounding errors
_MEAN, _VARIANCE = "mean", "var"


def recalibrate_batch_norm(
    classifier: models.Classifier,
    images: data.Dataset | Array,
    *,
    batch_size: int = RECALIBRATION_BATCH,
    precision: str | None = None,
) -> models.Classifier:
    """Returns the classifier with BatchNorm means and variances measured on `images`; no weight changes.

    Pruning changes what every later layer sees, and the running statistics, which describe the network before, are
    the first thing to be wrong. Each full batch passes once in training mode; with mean m_i and variance v_i of
    batch i, the new statistics are those of all batches pooled: mean(m_i), and mean(v_i + m_i^2) - mean(m_i)^2.

    Args:
      classifier: any NNX or Linen classifier whose BatchNorms keep leaves named "mean" and "var" side by side.
      images: a data set (any split but "test"), or uint8 (0..255) or float (in [0, 1]) `[N, H, W, C]`; labels are not
        used. The images left over after the last full batch are not used either.
      batch_size: images per batch, at most N.
      precision: type of the forward passes, as for `fit`: the one that the network will be evaluated in.

    Raises:
      ValueError: a test split, no image, batch_size < 1, or a classifier without BatchNorm statistics, with some
        that training mode leaves as they are, or that is not finite.

    Source: Li et al. 2020, "EagleEye" (adaptive BatchNorm), for pruned candidates.
    """
    if isinstance(images, data.Dataset):
        data.refuse_test_split(images, "recalibrate_batch_norm")
        images = images.images
    if not len(images) or batch_size < 1:
        raise ValueError(f"{len(images)} images, batch_size={batch_size}; give at least one image and batch_size >= 1")
    models.check_finite(classifier, classifier.name)
    batch_norms = [path for path, _ in _batch_norms(classifier.batch_stats)]
    if not batch_norms:
        raise ValueError(f"{classifier.name} keeps no BatchNorm statistics ('mean' beside 'var'): nothing to measure")
    batch_size = min(batch_size, len(images))
    num_batches = len(images) // batch_size
    computing = models.in_precision(classifier, precision)
    # A running statistic moves from r to momentum * r + (1 - momentum) * measured: r = 0 and r = 1 reveal both.
    from_zero, from_one = (_updated_statistics(computing, images[:batch_size], start) for start in (0.0, 1.0))
    rates = [_rate(zero[_MEAN], one[_MEAN]) for zero, one in zip(from_zero, from_one, strict=True)]
    if not all(rates):
        raise ValueError(
            f"no BatchNorm of {classifier.name} moves its statistics in training mode, or not all of them do, so they "
            f"cannot be measured; see models.from_nnx and from_linen on how its call is told that it trains"
        )
    means = [np.zeros(node[_MEAN].shape) for node in from_zero]
    squares = [np.zeros(node[_MEAN].shape) for node in from_zero]
    for index in range(num_batches):
        batch = images[index * batch_size : (index + 1) * batch_size]
        updated = _updated_statistics(computing, batch, 0.0) if index else from_zero
        for node, rate, mean, square in zip(updated, rates, means, squares, strict=True):
            batch_mean = np.asarray(node[_MEAN], np.float64) / rate
            mean += batch_mean / num_batches
            square += (np.asarray(node[_VARIANCE], np.float64) / rate + batch_mean**2) / num_batches
    measured = [
        {_MEAN: jnp.asarray(mean, jnp.float32), _VARIANCE: jnp.asarray(square - mean**2, jnp.float32)}
        for mean, square in zip(means, squares, strict=True)
    ]
    return classifier.replace(
        batch_stats=_replaced(classifier.batch_stats, dict(zip(batch_norms, measured, strict=True)))
    )


def _batch_norms(tree: PyTree, path: tuple = ()) -> Iterator[tuple[tuple, Mapping]]:
    """Yields the path of every node that holds a mean and a variance, and the node."""
    if isinstance(tree, Mapping):
        if {_MEAN, _VARIANCE} <= tree.keys():
            yield path, tree
        for name, child in tree.items():
            yield from _batch_norms(child, (*path, name))


def _replaced(tree: PyTree, statistics: Mapping[tuple, dict], path: tuple = ()) -> PyTree:
    """Returns `tree` with the given means and variances."""
    if not isinstance(tree, Mapping):
        return tree
    children = {name: _replaced(child, statistics, (*path, name)) for name, child in tree.items()}
    return children | statistics.get(path, {})


@jax.jit
def _updated_statistics(classifier: models.Classifier, images, start) -> list[dict]:
    """Returns means and variances after one batch in training mode, all of them having started at `start`."""
    batch_norms = dict(_batch_norms(classifier.batch_stats))
    started = {
        path: {name: jnp.full_like(node[name], start) for name in (_MEAN, _VARIANCE)}
        for path, node in batch_norms.items()
    }
    before = _replaced(classifier.batch_stats, started)
    # Dropout draws the same mask for every batch: one sample of it serves as well as another.
    _, after = classifier.apply(classifier.params, before, images, train=True, key=jax.random.key(0))
    return [{name: node[name] for name in (_MEAN, _VARIANCE)} for _, node in _batch_norms(after)]


def _rate(from_zero, from_one) -> float:
    """Returns 1 - momentum, read off the channel where the difference loses the fewest digits."""
    from_zero, from_one = np.ravel(from_zero), np.ravel(from_one)
    clearest = np.argmin(np.abs(from_zero))
    return 1 - round(float(from_one[clearest]) - float(from_zero[clearest]), _MOMENTUM_DECIMALS)
