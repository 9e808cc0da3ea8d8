"""The forward pass of NNX and Linen modules as a static, hashable function."""

import dataclasses

import flax.linen as nn
from flax import nnx
from jax import lax
from jaxtyping import PyTree

from jaxprune.models import cpu_convolution

# Names that Linen modules give their mode argument, and the value that means training.
LINEN_MODE_ARGUMENTS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


class NnxForward:
    """The forward pass of an NNX module: its two static graphs, compared by value, hashed once."""

    def __init__(self, module: nnx.Module):
        module = nnx.clone(module)
        convolutions = [
            part
            for _, part in nnx.iter_modules(module)
            if isinstance(part, nnx.Conv) and part.conv_general_dilated is lax.conv_general_dilated
        ]
        module.train()
        _set(convolutions, cpu_convolution.training_convolution)
        self.train_graph = nnx.graphdef(module)
        module.eval()
        _set(convolutions, cpu_convolution.evaluation_convolution)
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

    def module(self, params: PyTree, batch_stats: PyTree) -> nnx.Module:
        """Returns the module, in evaluation mode, with the given state."""
        return nnx.merge(self.eval_graph, params, batch_stats)


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """The forward pass of a Linen module, whose mode argument is found by name.

    `train_value` is the value of that argument that means training.
    """

    linen_module: nn.Module
    train_argument: str | None
    train_value: bool = True

    def __call__(self, params, batch_stats, x, train, key):
        """Returns the logits and the other collections."""
        variables = {"params": params, **batch_stats}
        kwargs = {}
        if self.train_argument is not None:
            kwargs[self.train_argument] = self.train_value if train else not self.train_value
        if not train:
            return self.linen_module.apply(variables, x, **kwargs), batch_stats
        rngs = None if key is None else {"dropout": key}
        return self.linen_module.apply(variables, x, **kwargs, rngs=rngs, mutable=list(batch_stats))

    def module(self, params: PyTree, batch_stats: PyTree) -> nn.Module:
        """Returns the Linen module, which holds no state."""
        del params, batch_stats
        return self.linen_module


def _set(convolutions, function) -> None:
    for convolution in convolutions:
        convolution.conv_general_dilated = function
