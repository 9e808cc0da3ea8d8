"""Pruned image classifiers on JAX: their calibration and their robustness to natural corruptions.

The rooms are sub-modules (`jaxprune.metrics`, `jaxprune.corruptions`, ...), imported when first used, so that
`import jaxprune` stays light and starts no accelerator.
"""

import importlib
import warnings

__version__ = "0.1.0"

_ROOMS = (
    "checkpoints",
    "corruptions",
    "data",
    "devices",
    "evaluation",
    "metrics",
    "models",
    "pruning",
    "report",
    "results",
    "study",
    "training",
)

# Earlier names, which work for one more release.
_MOVED = {
    "corrupted_sets": "jaxprune.evaluation.corrupted_sets",
    "distributed": "jaxprune.devices",
    "sharding": "jaxprune.devices",
}

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"jaxprune.{name}")
    if name in _MOVED:
        warnings.warn(f"jaxprune.{name} is now {_MOVED[name]}", FutureWarning, stacklevel=2)
        return importlib.import_module(_MOVED[name])
    raise AttributeError(f"module 'jaxprune' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__():
    return sorted(__all__)
