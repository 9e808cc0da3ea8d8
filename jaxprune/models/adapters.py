"""Classifiers made of other people's networks: NNX modules, Linen modules, functions.

What a network cannot do is said here, when the classifier is made: its forward pass is traced once in each mode.
"""

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree

from jaxprune.models.classifier import Classifier
from jaxprune.models.forward import BoundAxes, FunctionForward
from jaxprune.models.linen_forward import LinenForward
from jaxprune.models.nnx_forward import NnxForward, split_module
from jaxprune.models.normalization import normalization, num_channels
from jaxprune.models.tracing import IMAGES, Traced, trace

# Pixels per side that are tried if nobody states any: a network that flattens its images takes one size only.
_IMAGE_SIZES = (32, 224, 28, 64, 96, 128, 160, 256, 299, 384, 48, 16, 8, 4)
_CHANNELS = (3, 1, 4, 2)
_UNBOUND_AXIS = re.compile(r"unbound axis name: (\w+)")
_FUNCTION_ARGUMENTS = (3, 5)
_LONGEST_CAUSE = 300  # characters of another library's message that are worth showing


def from_nnx(
    module: nnx.Module,
    *,
    mean,
    std,
    name: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    call: Callable | None = None,
) -> Classifier:
    """Returns a Classifier made from an NNX module that maps normalised images `[n, h, w, c]` to logits.

    The module is copied. It is switched by NNX's `train()` and `eval()`, and by a mode argument of its call if it has
    one: `train`, `training`, `is_training`, `deterministic` or `use_running_average`. An argument `rngs` gets a new
    stream for every step of training, and None in evaluation.

    Args:
      module: any NNX module. Settings that cannot be hashed, such as lists, are taken as they are.
      mean, std: input normalisation of `images / 255`, one number per channel or one for all.
      name: by default the class's name.
      num_classes: not needed, the logits tell; a number that is not theirs is refused.
      image_size: pixels per side of its images; by default the module's own attribute `image_size`.
      call: `call(module, images, train)` returns the logits, where the module is to be called otherwise than by its
        images and a known mode argument, or returns more than logits; with a fourth argument it gets a random key in
        training, None in evaluation.

    Raises:
      ValueError: an argument that may be the mode and is not known; statistics or random streams that change in
        evaluation mode; an output that is no `[n, classes]`; no size of images that the module takes; a mean, std or
        number of classes that is not the network's.
    """
    params, batch_stats = split_module(module)
    return _classifier(
        NnxForward(module, call),
        params,
        batch_stats,
        mean=mean,
        std=std,
        name=name or type(module).__name__,
        num_classes=num_classes,
        image_size=_stated_size(module, image_size),
    )


def from_linen(
    module: nn.Module,
    variables,
    *,
    mean,
    std,
    name: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    call: Callable | None = None,
) -> Classifier:
    """Returns a Classifier made from a Linen module and its variables (`{"params": ..., "batch_stats": ...}`).

    A mode argument of its `__call__`, or a field of the module, is found by its name: `train`, `training`,
    `is_training`, `deterministic` or `use_running_average`.

    Args:
      module: any Linen module.
      variables: what `module.init` returned, or a training made of it.
      mean, std, name, num_classes, image_size: as for `from_nnx`.
      call: `call(module, images, train)` returns the logits of the bound module; see `from_nnx`.

    Raises:
      ValueError: `variables` holds no "params"; and as for `from_nnx`.
    """
    if "params" not in variables:
        raise ValueError(
            f"variables hold {', '.join(variables) or 'nothing'}; give what module.init returned, with its 'params'"
        )
    variables = dict(variables)
    return _classifier(
        LinenForward.of(module, call),
        variables.pop("params"),
        variables,
        mean=mean,
        std=std,
        name=name or type(module).__name__,
        num_classes=num_classes,
        image_size=_stated_size(module, image_size),
    )


def from_function(
    apply: Callable,
    params: PyTree,
    batch_stats: PyTree = None,
    *,
    mean,
    std,
    name: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
) -> Classifier:
    """Returns a Classifier made from a function, for networks of Haiku, Equinox and any other library.

    Args:
      apply: `apply(params, batch_stats, images, train, key)`, or without `key`, or without `train` and `key`, for
        normalised images `[n, h, w, c]`. Returns `(logits, batch_stats)`, or the logits alone. `train` is a Python
        bool; `key` is a random key in training and None in evaluation. The same function compiles nothing again.
      params: a pytree of arrays.
      batch_stats: a pytree of arrays, what the network keeps beside its parameters; by default nothing.
      mean, std, name, num_classes, image_size: as for `from_nnx`.

    Raises:
      TypeError: a function of another number of arguments; ValueError: as for `from_nnx`.

    >>> def apply(params, batch_stats, images):
    ...     return images.mean((1, 2)) @ params["weights"]
    >>> net = from_function(apply, {"weights": jnp.ones((3, 7))}, mean=0.5, std=0.25)
    >>> net.num_classes
    7
    """
    parameters = inspect.signature(apply).parameters.values()
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        count = _FUNCTION_ARGUMENTS[1]
    fewest, most = _FUNCTION_ARGUMENTS
    if not fewest <= count <= most:
        raise TypeError(
            f"apply takes {count} arguments; it must take {fewest} to {most} of (params, batch_stats, images, train, "
            f"key), from the front: lambda params, batch_stats, images: ..."
        )
    return _classifier(
        FunctionForward(apply, count),
        params,
        {} if batch_stats is None else batch_stats,
        mean=mean,
        std=std,
        name=name or getattr(apply, "__name__", type(apply).__name__),
        num_classes=num_classes,
        image_size=image_size,
    )


def _classifier(forward, params, batch_stats, *, mean, std, name, num_classes, image_size) -> Classifier:
    channels = num_channels(mean, std)
    forward, shape, traced = _evaluated(forward, params, batch_stats, channels, image_size, name)
    found = _classes_of(traced.output, name)
    if num_classes not in (None, found):
        raise ValueError(
            f"num_classes={num_classes}, but {name} returns the logits of {found} classes; leave num_classes out"
        )
    if traced.changed:
        raise ValueError(
            f"{name} changes {traced.changed[0]} in evaluation mode, as only training may: what is known of its call "
            f"does not switch its mode. Say how it is called: call=lambda module, images, train: ..."
        )
    forward = _trained(forward, params, batch_stats, shape, name)
    mean, std = normalization(mean, std, channels=shape[-1])
    if image_size is None and shape[0] != _IMAGE_SIZES[0]:
        image_size = shape[0]  # it does not take the usual size: its head is behind all pixels, or its strides are many
    return Classifier(
        params=params,
        batch_stats=batch_stats,
        mean=mean,
        std=std,
        forward=forward,
        name=name,
        num_classes=found,
        image_size=image_size,
    )


def _stated_size(module, image_size: int | None) -> int | None:
    """Returns the given size of images, or the one that the module states."""
    if image_size is not None:
        return image_size
    stated = getattr(module, "image_size", None)
    sides = set(stated) if isinstance(stated, tuple | list) else {stated}
    (side,) = sides if len(sides) == 1 else (None,)
    return side if isinstance(side, int) else None


def _evaluated(forward, params, batch_stats, channels: int | None, image_size: int | None, name: str):
    """Returns the forward pass, a shape of images that it takes, and what it does with them in evaluation mode."""
    sizes = _IMAGE_SIZES if image_size is None else (image_size,)
    errors = []

    def first_fit(depths, sizes):
        for shape in ((size, size, depth) for depth in depths for size in sizes):
            try:
                bound, traced = _under_axes(forward, params, batch_stats, shape, train=False)
            except Exception as error:  # whatever other people's code raises for images that it does not take
                errors.append(error)
            else:
                return bound, shape, traced
        return None

    fit = first_fit(_CHANNELS if channels is None else (channels,), sizes)
    if fit is not None:
        return fit
    # Only to say what is wrong: one size is enough.
    other = first_fit([depth for depth in _CHANNELS if depth != channels], sizes[:1])
    if channels is not None and other is not None:
        raise ValueError(
            f"{name} takes images of {other[1][-1]} channels, mean and std are for {channels}; give one per channel"
        )
    tried = f"{image_size} x {image_size} pixels" if image_size else "any usual size (image_size= says which it takes)"
    raise ValueError(
        f"{name} cannot be called in evaluation mode on images of {tried}: {_brief(errors[0])}"
    ) from errors[0]


def _under_axes(forward, params, batch_stats, shape, *, train: bool) -> tuple[Any, Traced]:
    """Returns the forward pass with the axes of devices bound that it averages over, and what it does."""
    forward, names = (forward.forward, forward.names) if isinstance(forward, BoundAxes) else (forward, ())
    while True:
        bound = BoundAxes(forward, names) if names else forward
        try:
            return bound, trace(bound, params, batch_stats, shape, train=train)
        except NameError as error:
            unbound = _UNBOUND_AXIS.search(str(error))
            if unbound is None or unbound[1] in names:
                raise
            names += (unbound[1],)


def _trained(forward, params, batch_stats, shape, name: str):
    """Returns the forward pass as it trains; warns of what training will not do."""
    try:
        forward, traced = _under_axes(forward, params, batch_stats, shape, train=True)
    except Exception as error:  # whatever other people's code raises
        warnings.warn(f"{name} can be evaluated and not trained: {_brief(error)}", RuntimeWarning, stacklevel=4)
        return forward
    statistics = [name for name in _leaf_names(batch_stats) if name.endswith("['mean']")]
    if statistics and not set(statistics) & set(traced.changed):
        warnings.warn(
            f"{name} leaves its statistics batch_stats{statistics[0]} as they are in training mode, and so will "
            f"training. If it should not, say how it is called: call=lambda module, images, train: ...",
            RuntimeWarning,
            stacklevel=4,
        )
    return forward


def _leaf_names(tree: PyTree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _classes_of(output, name: str) -> int:
    """Returns the number of classes of what a forward pass returns for `IMAGES` images."""
    is_array = isinstance(output, jax.ShapeDtypeStruct)
    if is_array and len(output.shape) == 2 and output.shape[0] == IMAGES and jnp.issubdtype(output.dtype, jnp.floating):
        return output.shape[1]
    found = f"{output.dtype} {list(output.shape)}" if is_array else f"a {type(output).__name__} of {len(output)}"
    raise ValueError(
        f"{name} returns {found} for {IMAGES} images; a classifier returns the logits alone, [{IMAGES}, classes]: "
        f"call=lambda module, images, train: module(images)[...] can choose them"
    )


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_CAUSE]
