"""What this installation has and lacks: packages, devices, data, caches, optional parts."""

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
from etils import epath

from jaxprune import __version__

PLATFORMS = ("cpu", "gpu", "tpu")
_HOW_TO_GET = {"gpu": "pip install 'jax[cuda13]'", "tpu": "pip install 'jax[tpu]'"}
# Device files and variables by which a machine shows an accelerator, whether JAX sees it or not.
_SIGNS = {
    "gpu": (("/dev/nvidia0",), ()),
    "tpu": (("/dev/accel0", "/dev/vfio/0"), ("TPU_NAME", "TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR")),
}
# What the lines of `importlib.metadata.requires` say: a name, perhaps a lowest version, perhaps an extra.
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?\s*(>=(?P<lowest>[\d.]+))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<extra>\w+)['"]""")
_WHAT_FOR = {
    "study": "the command line, studies and reports",
    "stream": "data sets that do not fit in memory",
    "prepare": "preparing a TFDS set for the first time",
    "bench": "what the benchmarks compare with",
    "docs": "building the documentation, running the notebooks",
    "test": "running the tests",
}
_READABLE_FORMAT = "array_record"
_GIB = 2**30


class Finding(NamedTuple):
    """One line: what was looked at, what was found, what to do (if anything), and whether that is a must."""

    subject: str
    found: str
    advice: str = ""
    is_wrong: bool = False


def examine(*, expect: str | None = None, data_dir: str | None = None) -> list[Finding]:
    """Returns what was found; starts the JAX backend.

    Args:
      expect: one of `PLATFORMS`; another platform is wrong then. By default an accelerator of the machine that JAX
        does not use is.
      data_dir: where prepared data sets lie; by default where TFDS looks.
    """
    return [
        Finding("jaxprune", __version__),
        Finding("Python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"),
        *_packages(),
        *_devices(expect),
        _data(data_dir),
        _compilation_cache(),
        _frost_textures(),
        *_extras(),
    ]


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Yields name, lowest version and extra ("" where there is none) of what jaxprune's metadata require."""
    try:
        lines = importlib.metadata.requires("jaxprune") or ()
    except importlib.metadata.PackageNotFoundError:  # run from its folder, not installed
        lines = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    for line in lines:
        requirement, extra = _REQUIREMENT.match(line), _EXTRA.search(line)
        yield requirement["name"], requirement["lowest"] or "", extra["extra"] if extra else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _packages() -> Iterator[Finding]:
    for name, lowest, extra in _requirements():
        if extra:
            continue
        found = _version(name)
        if found is None:
            yield Finding(name, "missing", f"pip install {name}", True)
        elif lowest and _numbers(found) < _numbers(lowest):
            yield Finding(name, found, f"too old: pip install '{name}>={lowest}'", True)
        else:
            # JAX's compiled part has a version of its own, which is the first to be wrong.
            yield Finding(name, f"{found}, jaxlib {_version('jaxlib')}" if name == "jax" else found)


def _devices(expect: str | None) -> Iterator[Finding]:
    chosen = os.environ.get("JAX_PLATFORMS", "")
    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = str(error).partition("(")[0].strip()
        advice = _HOW_TO_GET.get(chosen.partition(",")[0].replace("cuda", "gpu"), "look at what JAX says")
        yield Finding("devices", reason, f"{advice}; or unset JAX_PLATFORMS, which is {chosen!r}", True)
        return
    used = devices[0].platform
    found = f"{len(devices)} x {used} ({devices[0].device_kind})"
    because = f"JAX_PLATFORMS={chosen} chooses it" if chosen else ""
    if expect is not None and used != expect:
        advice = _HOW_TO_GET.get(expect, "JAX_PLATFORMS=cpu")
        if because:
            advice = "unset JAX_PLATFORMS"
        yield Finding("devices", found, f"{expect} was expected: {advice}", True)
    elif used == "cpu" and expect is None and (present := _accelerator()):
        advice = "unset it to use that" if because else _HOW_TO_GET[present]
        message = f"this machine has a {present.upper()} that JAX does not use{f', as {because}' if because else ''}"
        yield Finding("devices", found, f"{message}: {advice}", not because)
    else:
        yield Finding("devices", f"{found}{f'; {because}' if because else ''}")
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    if memory:
        yield Finding("memory of a device", f"{memory / _GIB:.1f} GiB")
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield Finding("memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / _GIB:.1f} GiB")


def _accelerator() -> str | None:
    """Returns "gpu" or "tpu" if the machine shows signs of one."""
    for name, (files, variables) in _SIGNS.items():
        if any(map(os.path.exists, files)) or any(variable in os.environ for variable in variables):
            return name
    return None


def _data(data_dir: str | None) -> Finding:
    folder = epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    subject = "prepared data sets"
    if not folder.exists():
        found = f"no folder {folder}; 'digits' needs none"
        return Finding(subject, found, "for others --data-dir DIR, or TFDS_DATA_DIR", data_dir is not None)
    sets = [text for path in sorted(folder.iterdir()) if path.is_dir() and (text := _prepared(path))]
    if sets:
        return Finding(subject, f"{', '.join(sets)} in {folder}")
    found = f"none in {folder}; 'digits' needs none"
    return Finding(subject, found, "for others --data-dir DIR, or TFDS_DATA_DIR", data_dir is not None)


def _prepared(folder: epath.Path) -> str:
    """Returns a prepared set as name and version, empty if the folder holds none; says if it cannot be read here."""
    # Not by patterns: a folder's own name may have brackets in it.
    places = [place for place in folder.iterdir() if place.is_dir()]
    places += [deeper for place in places for deeper in place.iterdir()]
    infos = sorted(info for place in places if (info := place / "dataset_info.json").exists())
    if not infos:
        return ""
    try:
        about = json.loads(infos[-1].read_text())
        forms = [about.get("fileFormat", "tfrecord"), *about.get("alternativeFileFormats", ())]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"{folder.name} (damaged)"
    unreadable = "" if _READABLE_FORMAT in forms else f" ({forms[0]}: only TensorFlow reads it)"
    return f"{folder.name} {infos[-1].parent.name}{unreadable}"


def _cache_folder() -> str | None:
    return jax.config.jax_compilation_cache_dir


def _compilation_cache() -> Finding:
    subject, place = "compilation cache", _cache_folder()
    if not place:
        advice = "JAX_COMPILATION_CACHE_DIR=DIR keeps compiled programs between runs"
        return Finding(subject, "none: every process compiles anew", advice)
    folder = epath.Path(place)
    files = [path for path in folder.iterdir() if not path.is_dir()] if folder.exists() else []
    size = sum(path.stat().length for path in files)
    return Finding(subject, f"{folder}: {len(files)} files, {size / 2**20:.1f} MiB")


def _frost_textures() -> Finding:
    version = _version("imagecorruptions")
    if version:
        found = f"the reference's, of imagecorruptions {version}; frost_textures='imagecorruptions' takes them"
        return Finding("frost textures", found)
    advice = "pip install --no-deps imagecorruptions brings the reference's photographs"
    return Finding("frost textures", "procedural", advice)


def _extras() -> Iterator[Finding]:
    """Yields what is missing of each extra."""
    missing: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra:
            missing.setdefault(extra, []).extend([name] if _version(name) is None else [])
    for extra, names in missing.items():
        subject = f"{_WHAT_FOR.get(extra, 'optional')} [{extra}]"
        if names:
            yield Finding(subject, f"missing: {', '.join(names)}", f"pip install 'jaxprune[{extra}]'")
        else:
            yield Finding(subject, "complete")
