"""What a run folder says about itself: `study.json`, written once and checked at every continuation."""

import hashlib
import importlib.metadata
import json
import os
import socket
import time
from collections.abc import Iterator

import jax
from etils import epath

from jaxprune import __version__
from jaxprune.study.alone import alone
from jaxprune.study.checking import frost_textures
from jaxprune.study.configuration import StudyConfig, config_dict, config_hash


def claim(out: epath.Path, config: StudyConfig, command: str) -> None:
    """Writes `study.json` into a new run folder, or checks that an existing one belongs to this study."""
    with alone(out, "study", wait=True):
        _claim(out, config, command)


def _claim(out: epath.Path, config: StudyConfig, command: str) -> None:
    path = out / "study.json"
    if path.exists():
        found = read_study(out)
        if found["config_hash"] != config_hash(config):
            changes = ", ".join(_differences(found["config"], config_dict(config)))
            raise ValueError(
                f"{out} holds a study with another configuration ({changes}); "
                f"choose another --out, or delete {out} to start again"
            )
        if found.get("checkpoint_sha256", {}) != _checkpoint_hashes(config):
            raise ValueError(
                f"{out} began with the weights of another checkpoint; choose another --out, or delete {out}"
            )
        return
    provenance = {
        "study": config.name,
        "config": config_dict(config),
        "config_hash": config_hash(config),
        "precision": config.evaluation.compute_dtype,
        "command": command,
        **about_here(),
    }
    textures = frost_textures(config.evaluation)
    if textures is not None:
        provenance["frost_textures"] = textures.provenance
    hashes = _checkpoint_hashes(config)
    if hashes:
        provenance["checkpoint_sha256"] = hashes
    write_atomically(path, json.dumps(provenance, indent=2) + "\n")


def _checkpoint_hashes(config: StudyConfig) -> dict[str, str]:
    """Returns the SHA-256 of each arm's imported checkpoint."""
    paths = {arm.name: arm.model.checkpoint for arm in config.all_arms() if arm.model.checkpoint is not None}
    return {name: content_sha256(path) for name, path in paths.items()}


def content_sha256(path) -> str:
    """Returns the hash of a file's content, or of all the files of a folder and their names."""
    path = epath.Path(path)
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for each in sorted(path.iterdir(), key=lambda each: each.name):
        whole.update(f"{each.name}\0{content_sha256(each)}\n".encode())
    return whole.hexdigest()


def read_study(out: epath.Path) -> dict:
    """Returns the content of a run folder's `study.json`; a ValueError if it is damaged."""
    path = out / "study.json"
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --out, or delete {out}") from error
    if not isinstance(found, dict) or not {"config", "config_hash"} <= found.keys():
        raise ValueError(f"{path} is not a study's record; choose another --out, or delete {out}")
    return found


def _differences(there, here, prefix: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(name), here.get(name), f"{prefix}.{name}" if prefix else name)
    elif there != here:
        yield f"{prefix}: {there} there, {here} here"


def about_here() -> dict:
    """Returns versions, device and time, as provenance states them."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"versions": versions(), "device": device(), "created": now}


def versions() -> dict[str, str]:
    """Returns the versions of jaxprune and of what computes for it."""
    return {"jaxprune": __version__} | {
        package: importlib.metadata.version(package) for package in ("jax", "flax", "optax", "numpy")
    }


def device() -> str:
    """Returns platform, number and kind of the devices."""
    devices = jax.devices()
    return f"{devices[0].platform} x{len(devices)} ({devices[0].device_kind})"


def write_atomically(path: epath.Path, content: str | bytes) -> None:
    """Writes a file under a temporary name beside it, and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp"  # shards share folders
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
