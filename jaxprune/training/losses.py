"""What training minimises: cross-entropy, with label smoothing and mixup as options."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Num

from jaxprune.models.classifier import MAX_PIXEL


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, "n"], *, label_smoothing: float = 0.0
) -> Float[Array, "n"]:
    r"""Returns each example's cross-entropy, in nats, computed in float32.

    With smoothing s the target is $1 - s$ on the label plus $s / K$ on each of the K classes (Szegedy et al. 2016,
    section 7).

    >>> round(cross_entropy(jnp.array([[2.0, 0.0]]), jnp.array([0]), label_smoothing=0.5).item(), 4)
    0.6269
    """
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not label_smoothing:
        return losses
    to_uniform = -jax.nn.log_softmax(logits).mean(axis=-1)
    return (1 - label_smoothing) * losses + label_smoothing * to_uniform


def mixup(
    key: Key[Array, ""], images: Num[Array, "n h w c"], labels: Int[Array, "n"], *, alpha: float
) -> tuple[Float[Array, "n h w c"], Int[Array, "n"], Float[Array, ""]]:
    r"""Returns images mixed with a partner's, the partners' labels, and the weight of an image's own label.

    One weight $\max(\lambda, 1 - \lambda)$, $\lambda \sim \mathrm{Beta}(\alpha, \alpha)$, for the batch (Zhang et al.
    2018); at least one half, so that the own label dominates. The partner of image i is image n - 1 - i: batches are in
    random order already. The loss is `weight * loss(own labels) + (1 - weight) * loss(partners' labels)`.
    """
    if jnp.issubdtype(images.dtype, jnp.integer):
        images = images.astype(jnp.float32) / MAX_PIXEL
    drawn = jax.random.beta(key, alpha, alpha)
    weight = jnp.maximum(drawn, 1 - drawn)
    return weight * images + (1 - weight) * images[::-1], labels[::-1], weight
