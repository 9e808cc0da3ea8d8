"""A classifier as a pytree: static forward pass, parameters, batch statistics, input normalisation."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Shaped

from jaxprune.models.channels import ChannelGroup, check_groups
from jaxprune.models.finite import is_finite
from jaxprune.models.precision import in_precision

MAX_PIXEL = 255.0
# A forward pass in pieces that fit the cache is about 1.5x faster on CPU than one over the whole batch.
CPU_MICRO_BATCH = 25
_USUAL_SIZE = 32  # pixels per side, where a Linen module must be shown an image to tell its shapes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A trained or untrained image classifier; a pytree, so it passes through jit, and K of one kind can be stacked.

    Attributes:
      params: trainable parameters, nested dict of float32 arrays.
      batch_stats: everything else that the network keeps, such as BatchNorm means and variances.
      mean, std: float32 `[C]`, subtracted from and divided into `images / 255`.
      forward: the static forward pass, `forward(params, batch_stats, x, train, key) -> (logits, batch_stats)`.
      name: the architecture's name in `MODELS`, or the module's class name.
      num_classes: the number of logits.
      options: how `create` built it (widths, shortcut, ...), for saving and rebuilding.
      rebuild: `rebuild(classifier, widths) -> classifier`, the same architecture with other widths; None asks the
        module's own `with_widths`.
      image_size: pixels per side of the images that the architecture was made for, None if nobody says.
      temperature: float32 scalar that the logits are divided by, as `metrics.fit_temperature` returns it; None, or 1,
        leaves them.
    """

    params: PyTree
    batch_stats: PyTree
    mean: Array
    std: Array
    forward: Any = dataclasses.field(metadata={"static": True})
    name: str = dataclasses.field(metadata={"static": True})
    num_classes: int = dataclasses.field(metadata={"static": True})
    options: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), metadata={"static": True})
    rebuild: Any = dataclasses.field(default=None, metadata={"static": True})
    image_size: int | None = dataclasses.field(default=None, metadata={"static": True})
    temperature: Array | None = None

    def replace(self, **changes) -> "Classifier":
        """Returns a copy with some attributes changed, such as `params`."""
        return dataclasses.replace(self, **changes)

    def apply(
        self,
        params: PyTree,
        batch_stats: PyTree,
        images: Shaped[Array, "n h w c"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, "n classes"], PyTree]:
        """Returns the logits, and the batch statistics (updated when `train`), for the given parameters.

        Images are uint8 in 0..255 or float in [0, 1]; `key` is for dropout in training. The logits are float32 at
        least, whatever the layers compute in; in evaluation mode float32 layers do so on every device. Not jitted: call
        it inside your own jit, for instance to differentiate with respect to `params`.
        """
        # Unasked, a GPU would multiply float32 in TensorFloat-32 and a TPU in bfloat16.
        with contextlib.nullcontext() if train else jax.default_matmul_precision("highest"):
            logits, batch_stats = self.forward(params, batch_stats, self.normalize(images), train, key)
        return self.tempered(logits.astype(jnp.promote_types(logits.dtype, jnp.float32))), batch_stats

    def tempered(self, logits: Float[Array, "n classes"]) -> Float[Array, "n classes"]:
        """Returns the network's own logits divided by the temperature."""
        return logits if self.temperature is None else logits / self.temperature

    def normalize(self, images: Shaped[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns the network's float32 input for uint8 (0..255) or float (in [0, 1]) images."""
        if jnp.issubdtype(images.dtype, jnp.integer):
            images = images.astype(jnp.float32) / MAX_PIXEL
        mean, std = (statistic.reshape(1, 1, 1, -1) for statistic in (self.mean, self.std))
        return (images - mean) / std

    def logits(self, images: Shaped[Array, "n h w c"], *, precision: str | None = None) -> Float[Array, "n classes"]:
        """Returns the logits of uint8 (0..255) or float (in [0, 1]) images, in evaluation mode; jitted.

        They are NaN if a parameter or statistic is not finite, even where XLA would lose it on the way. `precision` is
        that of `models.in_precision`, None for the layers' own.

        Raises:
          ValueError: images that are not `[N, H, W, C]` with the classifier's channels; an unknown precision.
        """
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[3] != self.mean.shape[-1]:
            raise ValueError(
                f"images have shape {list(images.shape)}; {self.name} takes [N, H, W, {self.mean.shape[-1]}]"
            )
        micro_batch = CPU_MICRO_BATCH if jax.default_backend() == "cpu" else max(1, len(images))
        return _logits(in_precision(self, precision), is_finite(self), images, micro_batch)

    @property
    def module(self) -> Any:
        """The Flax module, in evaluation mode: an NNX module with its state, or a stateless Linen module; or None."""
        module = getattr(self.forward, "module", None)
        return None if module is None else module(self.params, self.batch_stats)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Returns which channels belong together, as the module's own method `channel_groups` states it.

        Raises:
          ValueError: the module states nothing, or what its parameters and statistics are not like.
        """
        groups = tuple(self._ask("channel_groups", "which channels belong together, a tuple of models.ChannelGroup")())
        check_groups(groups, self.params, self.batch_stats, model=self.name)
        return groups

    def layer_choices(self) -> dict[str, tuple[str, ...]]:
        """Returns named choices of channel groups, such as "study": those that the study's filter pruning prunes."""
        return getattr(self.module, "layer_choices", dict)()

    def with_widths(self, widths: Mapping[str, int | tuple[int, ...]]) -> "Classifier":
        """Returns the same architecture with other widths; its leaves are shapes, to be replaced by arrays.

        Args:
          widths: channel group -> number of channels, or for a `selection` the indices that it keeps.

        Raises:
          ValueError: the module cannot be rebuilt, or has no such group.
        """
        if self.rebuild is not None:
            return self.rebuild(self, widths)
        make = self._ask("with_widths", "a new module of other widths, from a dict group name -> width")
        side = self.image_size or _USUAL_SIZE
        image = jax.ShapeDtypeStruct((1, side, side, self.mean.shape[-1]), jnp.float32)
        forward, params, batch_stats = self.forward.rebuilt(lambda: make(dict(widths)), image)
        return self.replace(params=params, batch_stats=batch_stats, forward=forward)

    def _ask(self, method: str, meaning: str):
        module = self.module
        found = getattr(module, method, None)
        if hasattr(found, "method_handler_wrapped"):
            # A Linen method as it was written: inside Flax's wrapper a module that it makes would look for a parent.
            found = functools.partial(inspect.unwrap(getattr(type(module), method)), module)
        if found is None:
            raise ValueError(
                f"{self.name} does not declare its channels; give its module the methods channel_groups() and "
                f"with_widths(widths) (here: {method}, which returns {meaning}), as jaxprune/models/resnet.py does"
            )
        return found


@functools.partial(jax.jit, static_argnums=3)
def _logits(classifier: Classifier, finite, images, micro_batch: int):
    logits = map_batch(
        lambda piece: classifier.apply(classifier.params, classifier.batch_stats, piece)[0], images, micro_batch
    )
    return jnp.where(finite, logits, jnp.nan)


def map_batch(function, batch, micro_batch: int):
    """Returns `function(batch)`, computed in equal pieces of at most `micro_batch` rows, one after another.

    The last piece is padded by repeating the first rows, so `function` is traced for one shape only.
    """
    count = len(jax.tree.leaves(batch)[0])
    if count <= micro_batch:
        return function(batch)
    pieces = -(-count // micro_batch)
    micro_batch = -(-count // pieces)

    def split(leaf):
        padding = leaf[: pieces * micro_batch - count]
        return jnp.concatenate([leaf, padding]).reshape(pieces, micro_batch, *leaf.shape[1:])

    mapped = jax.lax.map(function, jax.tree.map(split, batch))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], mapped)
