"""What this installation has and lacks: devices, versions, data, optional packages."""

import importlib.metadata
import importlib.util
import os
import platform
from typing import NamedTuple

import jax
from etils import epath

from jaxprune import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
# Import name -> the extra that installs it.
_OPTIONAL = {
    "tyro": "study",
    "rich": "study",
    "pandas": "study",
    "matplotlib": "study",
    "sklearn": "study",
    "jinja2": "study",
    "pytest": "test",
}


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what to do (empty if all is well)."""

    subject: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Returns what was found; starts the JAX backend."""
    return [
        Finding("jaxprune", __version__),
        Finding("Python", platform.python_version()),
        *(Finding(package, importlib.metadata.version(package)) for package in _PACKAGES),
        _devices(),
        _prepared_data(),
        *_optional_packages(),
    ]


def _devices() -> Finding:
    devices = jax.devices()
    found = f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"
    if devices[0].platform == "cpu" and os.path.exists("/dev/nvidia0"):
        return Finding(
            "devices", found, "an NVIDIA device is present but JAX does not use it: pip install 'jax[cuda13]'"
        )
    if devices[0].platform == "cpu" and "TPU_NAME" in os.environ:
        return Finding("devices", found, "a TPU is named but JAX does not use it: pip install 'jax[tpu]'")
    return Finding("devices", found)


def _prepared_data() -> Finding:
    folder = epath.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    prepared = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []
    if prepared:
        return Finding("prepared data sets", f"{', '.join(prepared)} in {folder}")
    return Finding("prepared data sets", f"none in {folder}; 'digits' needs none, others take --data-dir")


def _optional_packages() -> list[Finding]:
    findings = []
    for name, extra in _OPTIONAL.items():
        present = importlib.util.find_spec(name) is not None
        advice = "" if present else f"pip install 'jaxprune[{extra}]'"
        findings.append(Finding(name, "installed" if present else "missing", advice))
    return findings
