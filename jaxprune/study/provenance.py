"""What a run folder says about itself: `study.json`, written once and checked at every continuation."""

import importlib.metadata
import os
import time
from collections.abc import Iterator

import jax
from etils import epath

from jaxprune import __version__, files, pruning
from jaxprune.results import images, outputs, row_parts, rows, study_file
from jaxprune.study.configuration import StudyConfig, config_dict, config_hash, with_present_names
from jaxprune.study.parts import CHECKPOINTS_FOLDER

TRAINING_FOLDER = "training"
# What a run folder holds beside `study.json`: of the study, and of its report.
_OF_A_STUDY = (rows.FILE, row_parts.FOLDER, CHECKPOINTS_FOLDER, TRAINING_FOLDER, outputs.FOLDER, images.FILE)
_OF_A_REPORT = ("report.html", "results.csv", "summary.csv", "verdicts.csv", "results.parquet", "figures", "tables")


def refuse_foreign(out: epath.Path) -> None:
    """Raises a FileExistsError if a folder without `study.json` holds what would be taken for ours, or replaced."""
    # Asked before `study.json` is, because another process may be beginning with all of them.
    found = [name for name in (*_OF_A_STUDY, *_OF_A_REPORT) if files.is_there(out / name)]
    if found and not files.is_there(out / study_file.FILE):
        raise FileExistsError(
            f"{out / found[0]} exists already, and no {study_file.FILE} beside it says that a study wrote it; "
            f"choose another --out, or move away what is there"
        )


def refuse_another_study(out: epath.Path, config: StudyConfig) -> None:
    """Raises a ValueError if a folder holds another study, or a damaged `study.json`."""
    if not files.is_there(out / study_file.FILE):
        return
    found = study_file.read(out)
    if found["config_hash"] != config_hash(config):
        changes = ", ".join(_differences(with_present_names(found["config"]), config_dict(config)))
        raise ValueError(
            f"{out} holds a study with another configuration ({changes}); "
            f"choose another --out, or delete {out} to start again"
        )


def claim(out: epath.Path, config: StudyConfig, command: str, frost_textures=None) -> None:
    """Writes `study.json` into a new run folder, or checks that an existing one belongs to this study."""
    with files.lock(out, study_file.LOCK, wait=True):
        _claim(out, config, command, frost_textures)
    for folder in (out, out / row_parts.FOLDER):
        files.tidy(folder)


def _claim(out: epath.Path, config: StudyConfig, command: str, frost_textures) -> None:
    refuse_another_study(out, config)
    if files.is_there(out / study_file.FILE):
        found = study_file.read(out)
        if found.get("checkpoint_sha256", {}) != _checkpoint_hashes(config):
            raise ValueError(
                f"{out} began with the weights of another checkpoint; choose another --out, or delete {out}"
            )
        return
    provenance = {
        "study": config.name,
        "config": config_dict(config),
        "config_hash": config_hash(config),
        "precision": config.evaluation.precision,
        "command": command,
        **about_here(),
        "methods": _words(config),
    }
    if frost_textures is not None:
        provenance["frost_textures"] = frost_textures.provenance
    hashes = _checkpoint_hashes(config)
    if hashes:
        provenance["checkpoint_sha256"] = hashes
    try:
        study_file.write(out, provenance, exclusive=True)
    except FileExistsError:  # in an object store, which has no locks
        _claim(out, config, command, frost_textures)


def _words(config: StudyConfig) -> dict[str, dict[str, str]]:
    """Returns what people read of each method of a study, so that a report needs not know the methods."""
    methods = dict.fromkeys(method for arm in config.all_arms() for method in arm.methods)
    rows_of = {name: pruning.METHODS[name] for name in methods}
    return {name: {"title": row.title, "granularity": row.granularity} for name, row in rows_of.items()}


def _checkpoint_hashes(config: StudyConfig) -> dict[str, str]:
    """Returns the SHA-256 of each arm's imported checkpoint."""
    paths = {arm.name: arm.model.checkpoint for arm in config.all_arms() if arm.model.checkpoint is not None}
    return {name: files.checksum_of(path) for name, path in paths.items()}


def _differences(there, here, prefix: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(name), here.get(name), f"{prefix}.{name}" if prefix else name)
    elif there != here:
        yield f"{prefix}: {there} there, {here} here"


def about_here() -> dict:
    """Returns versions, device and time, as provenance states them."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"versions": versions(), "device": device(), "cores": num_cores(), "created": now}


def versions() -> dict[str, str]:
    """Returns the versions of jaxprune and of what computes for it."""
    return {"jaxprune": __version__} | {
        package: importlib.metadata.version(package) for package in ("jax", "flax", "optax", "numpy")
    }


def device() -> str:
    """Returns platform, number and kind of the devices; of CPUs with the number of cores, which rounding depends on."""
    devices = jax.devices()
    first = devices[0]
    cores = f", {num_cores()} cores" if first.platform == "cpu" else ""
    return f"{first.platform} x{len(devices)} ({first.device_kind}{cores})"


def num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
