"""Flax classifiers: the architectures of the study, any NNX or Linen module, and PyTorch's weights.

>>> [name for name in MODELS if name.startswith("vgg")]
['vgg11_bn', 'vgg13_bn', 'vgg16_bn', 'vgg19_bn']
"""

import difflib
import functools
import math
import warnings
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from jaxprune.models import imagenet_resnet, initialization, mobilenet, preresnet, resnet, vgg, wideresnet
from jaxprune.models.adapters import from_function, from_linen, from_nnx
from jaxprune.models.channels import ChannelGroup, Consumer
from jaxprune.models.classifier import CPU_MICRO_BATCH, Classifier, map_batch
from jaxprune.models.export import export_stablehlo, load_stablehlo
from jaxprune.models.finite import check_finite, first_non_finite
from jaxprune.models.nnx_forward import NnxForward, split_module
from jaxprune.models.normalization import normalization, num_channels
from jaxprune.models.precision import PRECISIONS, in_precision, precision_of, renamed
from jaxprune.models.torch_file import read_torch_file
from jaxprune.models.torch_weights import convert_state_dict, read_state_dict
from jaxprune.randomness import seed_key

__all__ = [
    "CPU_MICRO_BATCH",
    "MODELS",
    "PRECISIONS",
    "Architecture",
    "ChannelGroup",
    "Classifier",
    "Consumer",
    "abstract_state",
    "assemble",
    "check_finite",
    "create",
    "export_stablehlo",
    "first_non_finite",
    "from_function",
    "from_linen",
    "from_nnx",
    "from_torch",
    "in_precision",
    "load_stablehlo",
    "map_batch",
    "normalization",
    "precision_of",
    "read_torch_file",
    "renamed",
    "seed_key",
    "stem_for",
]


def _as_given(names: Collection[str], num_classes: int, **options) -> tuple[dict, None]:
    del names, num_classes  # the tensors of most architectures show all of it
    return options, None


class Architecture(NamedTuple):
    """A row of `MODELS`.

    Attributes:
      new_module: `new_module(num_classes=, in_channels=, **options)` returns the NNX module, which states its
        `channel_groups()`, `layer_choices()` and `image_size`.
      torch_keys: `torch_keys(**options)` returns, for every public naming of its PyTorch weights, a dict from module
        path here to the prefix of the keys there.
      torch_options: `torch_options(names, num_classes, **options)` returns the options as the names of the tensors in a
        PyTorch file show them, and what these leave open, in words, or None.
      stems: the names of the option `stem`, each with its `image_size`; empty if there is no such option.
    """

    new_module: Callable
    torch_keys: Callable
    torch_options: Callable = _as_given
    stems: Mapping[str, Any] = MappingProxyType({})


MODELS = {
    **{
        f"resnet{depth}": Architecture(
            functools.partial(resnet.new_module, depth),
            functools.partial(resnet.torch_keys, resnet.blocks_of_depth(depth)),
        )
        for depth in (8, 14, 20, 26, 32, 44, 56, 110)
    },
    **{
        f"preresnet{depth}": Architecture(
            functools.partial(preresnet.new_module, depth),
            functools.partial(preresnet.torch_keys, preresnet.blocks_of_depth(depth)),
        )
        for depth in (11, 20, 29, 56, 110, 164)
    },
    **{
        f"vgg{depth}_bn": Architecture(
            functools.partial(vgg.new_module, depth), functools.partial(vgg.torch_keys, depth), vgg.torch_options
        )
        for depth in vgg.CONVS_PER_STAGE
    },
}
MODELS |= {
    name: Architecture(
        functools.partial(imagenet_resnet.new_module, name),
        functools.partial(imagenet_resnet.torch_keys, name),
        imagenet_resnet.torch_options,
        imagenet_resnet.STEMS,
    )
    for name in imagenet_resnet.LAYOUTS
}
MODELS |= {
    name: Architecture(functools.partial(wideresnet.new_module, name), functools.partial(wideresnet.torch_keys, name))
    for name in wideresnet.DEPTHS_AND_FACTORS
}
MODELS["mobilenet_v2"] = Architecture(
    mobilenet.new_module, mobilenet.torch_keys, mobilenet.torch_options, mobilenet.STEMS
)

# Input normalisation when none is given: none at all.
_UNIT_MEAN, _UNIT_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def create(
    name: str,
    *,
    num_classes: int,
    key: Key[Array, ""],
    mean=_UNIT_MEAN,
    std=_UNIT_STD,
    initial_scale: float = 1.0,
    **options,
) -> Classifier:
    """Returns a freshly initialised classifier of the `MODELS` table.

    Args:
      name: a key of `MODELS`.
      num_classes: the number of logits.
      key: seeds the weights.
      mean, std: input normalisation, applied to `images / 255`: one number per channel, or one for all (three, if
        neither says how many).
      initial_scale: what BatchNorm's scales begin with; network slimming begins with 0.5.
      **options: passed to the module: for all `widths`, {channel group: number of channels, or for a selection the
        indices that it keeps}; for CIFAR ResNets `stage_widths` and `shortcut` ("subsample", "average_pool" or
        "projection"); for PreResNets `stage_widths`; for VGG `stage_widths`, `head` ("linear", "hidden", "two_hidden"
        or "imagenet"), `pool` ("average" or "max") and `conv_bias`.

    Raises:
      ValueError: an unknown name or option value; TypeError: an option that the module does not take.

    >>> net = create("resnet8", num_classes=10, key=jax.random.key(0))
    >>> net.logits(jnp.zeros((2, 32, 32, 3))).shape
    (2, 10)
    """
    _check_name(name)
    shapes = abstract_state(name, num_classes=num_classes, in_channels=_channels(mean, std), **options)
    params = initialization.initial_params(key, shapes["params"], scale=initial_scale)
    batch_stats = initialization.initial_batch_stats(shapes["batch_stats"])
    return assemble(
        name, num_classes=num_classes, params=params, batch_stats=batch_stats, mean=mean, std=std, **options
    )


def from_torch(path, *, name: str, num_classes: int, mean=_UNIT_MEAN, std=_UNIT_STD, **options) -> Classifier:
    """Returns a classifier with the weights of a PyTorch checkpoint; neither needs nor runs PyTorch.

    Args:
      path: a `.pt` or `.pth` file written by `torch.save`, holding a state dict, bare or inside the usual containers.
      name: the architecture, a key of `MODELS`; tensors are named as in torchvision or the public CIFAR repositories.
      num_classes, mean, std, **options: as for `create`; give the normalisation the network was trained with. Where the
        tensors do not show which of two networks they are of, a `UserWarning` says what was taken: the pool behind a
        VGG's last convolution, the max-pool behind a ResNet's 3 x 3 stem, the strides of a MobileNetV2.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a damaged file, one that holds code, the weights of another architecture, or NaN or infinite ones.
    """
    _check_name(name)
    abstract_state(name, num_classes=num_classes, in_channels=_channels(mean, std), **options)  # options are checked
    state_dict = read_state_dict(path)
    options, doubt = MODELS[name].torch_options(state_dict, num_classes, **options)
    template = abstract_state(name, num_classes=num_classes, in_channels=_channels(mean, std), **options)
    classifier = assemble(name, num_classes=num_classes, **template, mean=mean, std=std, **options)
    consumers = [consumer for group in classifier.channel_groups() for consumer in group.consumers]
    state = convert_state_dict(
        state_dict,
        MODELS[name].torch_keys(**options),
        template,
        name=name,
        path=path,
        flattened={consumer.path: consumer.positions for consumer in consumers if consumer.positions > 1},
    )
    classifier = classifier.replace(**jax.tree.map(jnp.asarray, state))
    check_finite(classifier, str(path))
    if doubt is not None:
        warnings.warn(f"{path} holds a {name}, and {doubt}", UserWarning, stacklevel=2)
    return classifier


def abstract_state(name: str, *, num_classes: int, in_channels: int = 3, **options) -> dict:
    """Returns the shapes and types of a model's `params` and `batch_stats`, computing nothing."""
    _check_name(name)
    state = _build(name, num_classes, in_channels, _static(options)).state
    return jax.tree.map(lambda leaf: leaf, state)


class _Built(NamedTuple):
    """What networks of one architecture share: the forward pass, the shapes of the weights, the size of the images."""

    forward: NnxForward
    state: dict
    image_size: int


@functools.lru_cache(maxsize=64)
def _build(name: str, num_classes: int, in_channels: int, options: tuple) -> _Built:
    """Returns the one forward pass of an architecture, so that its networks share compilations, and its shapes."""
    new_module = MODELS[name].new_module
    # Shapes only: the weights come from elsewhere.
    module = nnx.eval_shape(lambda: new_module(num_classes=num_classes, in_channels=in_channels, **dict(options)))
    state = dict(zip(("params", "batch_stats"), split_module(module), strict=True))
    return _Built(NnxForward(module), state, module.image_size)


def assemble(name: str, *, num_classes: int, params, batch_stats, mean, std, **options) -> Classifier:
    """Returns a classifier of the `MODELS` table with the given weights; the other arguments are those of `create`.

    Raises:
      ValueError: as `create`; weights of other shapes than `num_classes` and the options say, the first of them named.
    """
    _check_name(name)
    options, channels = _static(options), _channels(mean, std)
    built = _build(name, num_classes, channels, options)
    _check_shapes({"params": params, "batch_stats": batch_stats}, built.state, name)
    mean, std = normalization(mean, std, channels=channels)
    return Classifier(
        params=params,
        batch_stats=batch_stats,
        mean=mean,
        std=std,
        forward=built.forward,
        name=name,
        num_classes=num_classes,
        options=options,
        rebuild=_rebuild,
        image_size=built.image_size,
    )


def _channels(mean, std) -> int:
    """Returns how many channels the images have: as many as mean and std say, by default three."""
    return num_channels(mean, std) or len(_UNIT_MEAN)


def _check_shapes(state: dict, expected: dict, name: str) -> None:
    found, wanted = (
        {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (state, expected)
    )
    if found == wanted:
        return
    leaf = next(leaf for leaf in (*wanted, *found) if found.get(leaf) != wanted.get(leaf))
    has, asks = (list(shapes[leaf]) if leaf in shapes else "none" for shapes in (found, wanted))
    raise ValueError(
        f"the weights are not those of this {name}: {leaf} has shape {has}, num_classes and options ask for {asks}; "
        f"give those that they were made with"
    )


def stem_for(classifier: Classifier, image_size: int) -> str | None:
    """Returns the stem of the classifier's architecture that is made for such images; None if none is nearer than its.

    >>> net = create("mobilenet_v2", num_classes=2, key=jax.random.key(0))
    >>> stem_for(net, 224), stem_for(net, 64)
    ('imagenet', None)
    """
    stems = MODELS[classifier.name].stems if classifier.name in MODELS else {}

    def distance(size: int) -> float:
        return abs(math.log(size / image_size))

    if not stems or classifier.image_size is None:
        return None
    nearest = min(stems, key=lambda stem: distance(stems[stem].image_size))
    return nearest if distance(stems[nearest].image_size) < distance(classifier.image_size) else None


def _rebuild(classifier: Classifier, widths) -> Classifier:
    """Returns a classifier of the table with other widths, and shapes for leaves."""
    options = dict(classifier.options)
    options["widths"] = dict(options.get("widths", ())) | dict(widths)
    in_channels = classifier.mean.shape[-1]
    shapes = abstract_state(classifier.name, num_classes=classifier.num_classes, in_channels=in_channels, **options)
    return assemble(
        classifier.name,
        num_classes=classifier.num_classes,
        **shapes,
        mean=classifier.mean,
        std=classifier.std,
        **options,
    )


def _check_name(name: str) -> None:
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODELS)}{hint}")


def _static(options: Mapping) -> tuple:
    """Returns options as sorted pairs that can be hashed."""
    return tuple(sorted((option, _hashable(value)) for option, value in options.items()))


def _hashable(value):
    """Returns lists as tuples and mappings as sorted tuples of pairs: options are static, and JSON has no tuples."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        value = sorted(value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
