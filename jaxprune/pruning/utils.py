"""The two summaries under the name that jaxpruner gives their module, for code that says `jaxpruner.utils`."""

from jaxprune.pruning.summary import summarize_intersection, summarize_sparsity

__all__ = ["summarize_intersection", "summarize_sparsity"]
