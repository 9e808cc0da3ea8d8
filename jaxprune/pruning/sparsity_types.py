"""Which groups of weights live or die together."""

from typing import Any, NamedTuple


class Unstructured(NamedTuple):
    """Every weight alone."""


class Block(NamedTuple):
    """Blocks over the first two axes (and all of the others), scored by their mean, or else their maximum."""

    block_shape: tuple[int, int]
    use_avg_pooling: bool = True


class NByM(NamedTuple):
    """The `n` best of every `m` consecutive weights along `axis` stay, whatever the sparsity, unless it is 0."""

    n: int
    m: int
    axis: int = -1


class Channel(NamedTuple):
    """Whole slices along `axis`, scored by their sum."""

    axis: int = -1


SparsityType = Unstructured | Block | NByM | Channel


def is_sparsity_type(instance_to_check: Any) -> bool:
    """Returns whether the argument is an instance of one of the types of this module.

    >>> is_sparsity_type(NByM(2, 4)), is_sparsity_type((2, 4))
    (True, False)
    """
    return isinstance(instance_to_check, SparsityType)
