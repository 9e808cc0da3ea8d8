"""How a module's call is told that it trains: by an argument of a known name, or by a function of the caller's."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array, Key

# Names of the mode argument, and the value that means training.
MODE_ARGUMENTS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
# The argument by which an NNX call is given its random streams, as in Flax's guides.
RANDOM_STREAMS = "rngs"
_CALL_WITH_KEY = 4  # (module, images, train, key)
# Parts of a name that is likely to mean the mode, whatever its default is.
_MODE_WORDS = {"train", "training", "eval", "evaluate", "inference", "infer", "test", "testing", "mode", "phase"}


def mode_arguments(call: Callable, *, name: str) -> tuple[str, ...]:
    """Returns the mode arguments that a module's `__call__` takes, keys of `MODE_ARGUMENTS`.

    Args:
      call: the unbound method; its first two parameters are the module and the images.
      name: the module's name, for the message.

    Raises:
      ValueError: a further argument is required, is a yes or no, or has a name like a mode, and is not known.

    >>> mode_arguments(lambda self, x, train=False, scale=1.0: x, name="Net")
    ('train',)
    """
    parameters = list(_parameters(call).values())[2:]
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != RANDOM_STREAMS]
    for parameter in named:
        if parameter.name not in MODE_ARGUMENTS and _may_be_a_mode(parameter):
            default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
            raise ValueError(
                f"the call of {name} takes {parameter.name}{default}, which may say whether it trains; known are "
                f"{', '.join(MODE_ARGUMENTS)}. Say what it means: call=lambda module, images, train: "
                f"module(images, {parameter.name}=...)"
            )
    return tuple(parameter.name for parameter in named if parameter.name in MODE_ARGUMENTS)


def mode_values(arguments: tuple[str, ...], train: bool) -> dict[str, bool]:
    """Returns the values of mode arguments for training or evaluation."""
    return {name: MODE_ARGUMENTS[name] == train for name in arguments}


def takes_random_streams(call: Callable) -> bool:
    """Returns whether a module's `__call__` has the argument `rngs`."""
    return RANDOM_STREAMS in _parameters(call)


def called(call: Callable, module: Any, images: Array, train: bool, key: Key[Array, ""] | None) -> Any:
    """Returns `call(module, images, train)`, or with `key` if it takes four arguments."""
    positional = [p for p in _parameters(call).values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return call(module, images, train, *(key,) * (len(positional) >= _CALL_WITH_KEY))


def _parameters(call: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(call).parameters
    except (TypeError, ValueError):  # of a callable that Python cannot look into
        return {}


def _may_be_a_mode(parameter: inspect.Parameter) -> bool:
    is_required, is_choice = parameter.default is parameter.empty, isinstance(parameter.default, bool)
    return is_required or is_choice or bool(_MODE_WORDS & set(parameter.name.lower().split("_")))
