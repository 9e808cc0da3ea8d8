"""A classifier as a pytree: static forward pass, parameters, batch statistics, input normalisation."""

import dataclasses
import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree, Shaped

MAX_PIXEL = 255.0
# A forward pass in pieces that fit the cache is about 1.5x faster on CPU than one over the whole batch.
CPU_MICRO_BATCH = 50


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
    """

    params: PyTree
    batch_stats: PyTree
    mean: Array
    std: Array
    forward: Any = dataclasses.field(metadata={"static": True})
    name: str = dataclasses.field(metadata={"static": True})
    num_classes: int = dataclasses.field(metadata={"static": True})
    options: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), metadata={"static": True})

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

        Images are uint8 in 0..255 or float in [0, 1]; `key` is for dropout in training. Not jitted: call it inside
        your own jit, for instance to differentiate with respect to `params`.
        """
        if jnp.issubdtype(images.dtype, jnp.integer):
            images = images.astype(jnp.float32) / MAX_PIXEL
        mean, std = (statistic.reshape(1, 1, 1, -1) for statistic in (self.mean, self.std))
        return self.forward(params, batch_stats, (images - mean) / std, train, key)

    def logits(self, images: Shaped[Array, "n h w c"]) -> Float[Array, "n classes"]:
        """Returns the logits of uint8 (0..255) or float (in [0, 1]) images, in evaluation mode; jitted.

        Raises:
          ValueError: images that are not `[N, H, W, C]` with the classifier's channels.
        """
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[3] != self.mean.shape[-1]:
            raise ValueError(
                f"images have shape {list(images.shape)}; {self.name} takes [N, H, W, {self.mean.shape[-1]}]"
            )
        micro_batch = CPU_MICRO_BATCH if jax.default_backend() == "cpu" else max(1, len(images))
        return _logits(self, images, micro_batch)


@functools.partial(jax.jit, static_argnums=2)
def _logits(classifier: Classifier, images, micro_batch: int):
    return map_batch(
        lambda piece: classifier.apply(classifier.params, classifier.batch_stats, piece)[0], images, micro_batch
    )


def map_batch(function, batch, micro_batch: int):
    """Returns `function(batch)`, computed in pieces of `micro_batch` rows, one after another.

    The last piece is padded by repeating the first rows, so `function` is traced for one shape only.
    """
    count = len(jax.tree.leaves(batch)[0])
    if count <= micro_batch:
        return function(batch)
    pieces = -(-count // micro_batch)

    def split(leaf):
        padding = leaf[: pieces * micro_batch - count]
        return jnp.concatenate([leaf, padding]).reshape(pieces, micro_batch, *leaf.shape[1:])

    mapped = jax.lax.map(function, jax.tree.map(split, batch))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], mapped)


class NnxForward:
    """The forward pass of an NNX module: its two static graphs, compared by value, hashed once."""

    def __init__(self, module: nnx.Module):
        module = nnx.clone(module)
        module.train()
        self.train_graph = nnx.graphdef(module)
        module.eval()
        self.eval_graph = nnx.graphdef(module)
        self._hash = hash((self.train_graph, self.eval_graph))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            isinstance(other, NnxForward)
            and self._hash == other._hash
            and (self.train_graph, self.eval_graph) == (other.train_graph, other.eval_graph)
        )

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the module's other state."""
        del key  # NNX modules carry their own random streams, as part of batch_stats
        module = nnx.merge(self.train_graph if train else self.eval_graph, params, batch_stats)
        logits = module(x)
        if not train:
            return logits, batch_stats
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """The forward pass of a Linen module, whose mode argument is found by name.

    `train_value` is the value of that argument that means training.
    """

    module: nn.Module
    train_argument: str | None
    train_value: bool = True

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the other collections."""
        variables = {"params": params, **batch_stats}
        kwargs = {}
        if self.train_argument is not None:
            kwargs[self.train_argument] = self.train_value if train else not self.train_value
        if not train:
            return self.module.apply(variables, x, **kwargs), batch_stats
        rngs = None if key is None else {"dropout": key}
        return self.module.apply(variables, x, **kwargs, rngs=rngs, mutable=list(batch_stats))


# Names that Linen modules give their mode argument, and the value that means training.
_LINEN_MODE_ARGUMENTS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


def from_nnx(module: nnx.Module, *, mean, std, name: str | None = None, num_classes: int | None = None) -> Classifier:
    """Returns a Classifier made from an NNX module that maps normalised images `[n, h, w, c]` to logits.

    The module is copied; it must follow NNX's `train()` / `eval()` switches. `num_classes` is needed only if the
    last linear layer is not found (it is read from the last bias or kernel of the parameters).
    """
    params, batch_stats = split_module(module)
    return Classifier(
        params=params,
        batch_stats=batch_stats,
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(std, jnp.float32),
        forward=NnxForward(module),
        name=name or type(module).__name__,
        num_classes=num_classes or _last_features(params),
    )


def split_module(module: nnx.Module) -> tuple[PyTree, PyTree]:
    """Returns an NNX module's parameters and its other state as plain nested dicts."""
    _, params, other = nnx.split(module, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(other)


def from_linen(
    module: nn.Module, variables, *, mean, std, name: str | None = None, num_classes: int | None = None
) -> Classifier:
    """Returns a Classifier made from a Linen module and its variables (`{"params": ..., "batch_stats": ...}`).

    The module's `__call__` may take a mode argument named `train`, `training`, `is_training`, `deterministic` or
    `use_running_average`.

    Raises:
      ValueError: `variables` holds no "params".
    """
    if "params" not in variables:
        raise ValueError(
            f"variables hold {', '.join(variables) or 'nothing'}; give what module.init returned, with its 'params'"
        )
    accepted = inspect.signature(type(module).__call__).parameters
    argument = next((name for name in _LINEN_MODE_ARGUMENTS if name in accepted), None)
    variables = dict(variables)
    params = variables.pop("params")
    return Classifier(
        params=params,
        batch_stats=variables,
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(std, jnp.float32),
        forward=LinenForward(module, argument, _LINEN_MODE_ARGUMENTS.get(argument, True)),
        name=name or type(module).__name__,
        num_classes=num_classes or _last_features(params),
    )


def _last_features(params: PyTree) -> int:
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    widths = {leaf.shape[-1] for leaf in kernels}
    if len(widths) != 1:
        raise ValueError(
            f"the number of classes is not plain from the parameters (matrices of widths {sorted(widths)}); "
            f"give num_classes="
        )
    return widths.pop()
