"""Set-up shared by all tests: eight simulated devices, strict shapes, and the optional files of `../shared`."""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

# Before JAX starts: jit, pmap and shard_map over several devices are tested on one CPU.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# Workers, and the processes that tests start, compile much of the same. What they compile is kept for this run only. A
# size is given because JAX locks its files then: an entry that is being written is not read.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxprune-compiled-")
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(4 * 2**30)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every machine, however slow: a property that fails, fails for everybody.
hypothesis.settings.register_profile("jaxprune", derandomize=True, deadline=None)
hypothesis.settings.load_profile("jaxprune")

# The shapes in the annotations of the four leaves are checked in tests, and only there.
_LEAVES = ["jaxprune.metrics", "jaxprune.corruptions", "jaxprune.pruning"]
_hook = jaxtyping.install_import_hook(_LEAVES, "beartype.beartype")
_hook.__enter__()

ROOT = pathlib.Path(__file__).parent
SHARED = pathlib.Path(os.environ.get("JAXPRUNE_SHARED", ROOT / ".." / "shared")).resolve()


# XLA keeps every compiled program in memory maps of its own; beyond the 65,530 that Linux allows a process, compiling
# crashes it. The suite compiles more than that, so programs are dropped in time.
MOST_MEMORY_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MEMORY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def shared():
    """Returns a function that gives the path of a file of the shared folder, or skips the test."""

    def path(name: str) -> pathlib.Path:
        if not (SHARED / name).exists():
            pytest.skip(f"{SHARED / name} is absent; set JAXPRUNE_SHARED to the folder that holds {name}")
        return SHARED / name

    return path


@pytest.fixture
def rng():
    return np.random.default_rng(0)
