"""The forward pass of a Linen module as a static, hashable function."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from jaxprune.models.mode import MODE_ARGUMENTS, called, mode_arguments, mode_values
from jaxprune.models.statics import coarse_hash, copied, equal, has_dtype

_OF_FLAX = ("parent", "name")  # fields that every Linen module has


@dataclasses.dataclass(frozen=True, eq=False)
class LinenForward:
    """The forward pass of a Linen module.

    `arguments` and `fields` are the mode arguments of its call, and those that are its own fields; or `call(module,
    images, train)` says how the bound module is called. With `dtype` the layers compute in that type.
    """

    linen_module: nn.Module
    arguments: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    call: Callable | None = None
    dtype: Any = None

    @classmethod
    def of(cls, module: nn.Module, call: Callable | None = None) -> "LinenForward":
        """Returns the forward pass of a module; its mode arguments are found by name unless `call` is given.

        Raises:
          ValueError: an argument that may be the mode and is not known.
        """
        fields = [field.name for field in dataclasses.fields(module) if field.init]
        module = module.clone(**{name: copied(getattr(module, name)) for name in fields if name not in _OF_FLAX})
        if call is not None:
            return cls(module, call=call)
        arguments = mode_arguments(type(module).__call__, name=type(module).__name__)
        # Not both: Flax's merge_param refuses what is said twice.
        return cls(
            module, arguments, tuple(name for name in fields if name in MODE_ARGUMENTS and name not in arguments)
        )

    def __hash__(self):
        return coarse_hash(self.linen_module, type(self.linen_module), *self._others())

    def __eq__(self, other):
        return (
            isinstance(other, LinenForward)
            and self._others() == other._others()
            and equal(self.linen_module, other.linen_module)
        )

    def _others(self) -> tuple:
        return self.arguments, self.fields, self.call, self.dtype

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the other collections."""
        variables, module = {"params": params, **batch_stats}, self._in_mode(train)
        how = self._how(train, key)
        with contextlib.nullcontext() if self.dtype is None else nn.intercept_methods(self._set_dtype):
            if not train:
                return module.apply(variables, x, **how), batch_stats
            # Streams of other names fall back on "params".
            rngs = None if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
            return module.apply(variables, x, **how, rngs=rngs, mutable=list(batch_stats))

    def module(self, params: PyTree, batch_stats: PyTree) -> nn.Module:
        """Returns the Linen module, which holds no state."""
        del params, batch_stats
        return self.linen_module

    def in_dtype(self, dtype) -> "LinenForward":
        """Returns the forward pass whose layers compute in `dtype`."""
        return dataclasses.replace(self, dtype=dtype)

    def rebuilt(self, make: Callable[[], nn.Module], x) -> tuple["LinenForward", PyTree, PyTree]:
        """Returns the forward pass of the module that `make` returns, and the shapes of its parameters and state.

        `x` is the shape of an input.
        """
        forward = dataclasses.replace(self, linen_module=make())
        initial = forward._in_mode(False).init
        variables = dict(jax.eval_shape(lambda key, x: initial(key, x, **forward._how(False)), jax.random.key(0), x))
        return forward, variables.pop("params"), variables

    def _in_mode(self, train: bool) -> nn.Module:
        return self.linen_module.clone(**mode_values(self.fields, train)) if self.fields else self.linen_module

    def _how(self, train: bool, key=None) -> dict:
        if self.call is None:
            return mode_values(self.arguments, train)
        return {"method": lambda module, x: called(self.call, module, x, train, key)}

    def _set_dtype(self, next_function, args, kwargs, context):
        """Lets a layer compute in `dtype`: called before every method of every bound module, which is a copy."""
        if has_dtype(context.module):
            object.__setattr__(context.module, "dtype", self.dtype)  # Linen modules are frozen outside of setup
        return next_function(*args, **kwargs)
