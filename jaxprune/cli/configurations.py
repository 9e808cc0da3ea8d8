"""Configurations of studies: Python files, the user's own or those that came with jaxprune."""

import importlib.util
import os
import pathlib

import jaxprune
from jaxprune import study


def shipped_configurations() -> dict[str, pathlib.Path]:
    """Returns the configurations that came with jaxprune, by name: in a wheel, or beside the package in a checkout."""
    package = pathlib.Path(jaxprune.__file__).parent
    installed = package / "configs"
    folder = installed if installed.is_dir() else package.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.py"))}


def load_configuration(path: str) -> study.StudyConfig:
    """Returns what `get_config()` of a Python file, or of a shipped configuration, returns; the file is executed.

    Raises:
      FileNotFoundError: neither a file nor the name of a shipped configuration.
      ValueError: no Python, or no `get_config()` that returns a `StudyConfig`.
    """
    path = _path(path)
    specification = importlib.util.spec_from_file_location("jaxprune_config", path)
    if specification is None:
        raise ValueError(f"{path} is no Python file; give one that defines get_config(), such as configs/digits.py")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        config = module.get_config()
    except (SyntaxError, NameError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be used as a configuration: {error}") from error
    if not isinstance(config, study.StudyConfig):
        raise ValueError(f"get_config() of {path} returned a {type(config).__name__}; it must return a StudyConfig")
    return config


def _path(path: str) -> str:
    """Returns `path`, or where there is no such file, that of the shipped configuration: digits, configs/digits.py."""
    if os.path.exists(path):
        return path
    shipped, (folder, name) = shipped_configurations(), os.path.split(path)
    name = name.removesuffix(".py")
    if folder not in ("", "configs") or name not in shipped:
        raise FileNotFoundError(
            f"no configuration file at {path}; give one, or the name of one that came with jaxprune: "
            f"{', '.join(shipped)}"
        )
    return str(shipped[name])
