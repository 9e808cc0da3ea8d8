"""A network of a study, by what tells it from the others."""

from typing import NamedTuple

from jaxprune import names, pruning


class Network(NamedTuple):
    """One network of the plan, before fine-tuning."""

    seed: int
    arm: str
    method: str
    sparsity: float

    @property
    def label(self) -> str:
        """The name of its checkpoint folder."""
        return f"seed{self.seed}-{self.arm}-{self.method}-{self.sparsity:g}"

    @property
    def is_dense(self) -> bool:
        """Whether nothing was removed from it."""
        return self.method == names.DENSE

    @property
    def masks_move(self) -> bool:
        """Whether it is sparse from the first step of its training, with masks that move."""
        return not self.is_dense and pruning.METHODS[self.method].masks_move
