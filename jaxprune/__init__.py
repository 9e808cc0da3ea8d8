"""Pruned image classifiers on JAX: their calibration and their robustness to natural corruptions.

The rooms are sub-modules (`jaxprune.metrics`, `jaxprune.corruptions`, ...), imported when first used, so that
`import jaxprune` stays light and starts no accelerator.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "checkpoints",
    "corruptions",
    "data",
    "distributed",
    "evaluation",
    "metrics",
    "models",
    "pruning",
    "report",
    "sharding",
    "study",
    "training",
)

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"jaxprune.{name}")
    raise AttributeError(f"module 'jaxprune' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__():
    return sorted(__all__)
