"""What the rows of an evaluation say of its networks: their checkpoints know it, `evaluation.evaluate` does not."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxprune import names, pruning
from jaxprune.checkpoints import Checkpoint
from jaxprune.results import schema
from jaxprune.results.versions import SCHEMA_VERSION
from jaxprune.study.candidates import Candidate, fraction_removed, sizes
from jaxprune.study.configuration import granularity

STUDY = "evaluation"
# Names the method of a network that has masks and does not say where from.
UNKNOWN_METHOD = "pruned"
# What of the record of an evaluation changes no number.
_PASSING = ("command", "created", "versions", "device", "cores", "batch_size")
_HASH_DIGITS = 12


def complete_rows(
    measured: Sequence[Mapping[str, Any]],
    checkpoints: Mapping[str, Checkpoint],
    paths: Mapping[str, str],
    record: Mapping[str, Any],
    *,
    image_size: int,
) -> list[dict[str, Any]]:
    """Returns the rows of `evaluation.evaluate` with all that `results.schema` asks for, so that a report reads them.

    A pruned network and the dense one of its architecture are one arm, which a report compares. Where several networks
    would be the same then, those that were pruned from one of the given checkpoints are an arm with it, and where that
    does not tell them apart either, each is an arm by its own name.
    """
    about = {name: _network(checkpoint, image_size) for name, checkpoint in checkpoints.items()}
    arms = _arms(about, checkpoints, paths)
    content = {name: value for name, value in record.items() if name not in _PASSING}
    shared = {
        "schema_version": SCHEMA_VERSION,
        "study": STUDY,
        "config_hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_HASH_DIGITS],
        "dataset": record["dataset"]["name"],
    }
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    from_here = {"device": record["device"], "versions": versions}
    rows = []
    for row in measured:
        name = row["classifier"]
        rows.append(shared | {"arm": arms[name]} | about[name] | row | from_here)
        schema.check(rows[-1], f"the row of {name}", strict=True)
    return rows


def _network(checkpoint: Checkpoint, image_size: int) -> dict[str, Any]:
    """Returns what a checkpoint says of its network, and what its masks and arrays do."""
    classifier, masks, said = checkpoint
    method = said.get("method")
    if not isinstance(method, str) or not method:
        method = names.DENSE if masks is None else UNKNOWN_METHOD
    method = pruning.canonical_name(method)
    is_dense = method == names.DENSE
    # Where channels were taken out there are no masks to tell.
    achieved = 0.0 if is_dense else fraction_removed(masks) if jax.tree.leaves(masks) else None
    stage = names.STAGE_DENSE if is_dense else names.STAGE_PRUNED
    if classifier.temperature is not None:
        stage = names.STAGE_SEPARATOR.join((stage, names.STAGE_TEMPERATURE))
    seed, sparsity = said.get("seed"), said.get("sparsity")
    is_known = isinstance(sparsity, int | float) and not isinstance(sparsity, bool) and 0 <= sparsity <= 1
    return {
        "model": classifier.name,
        "seed": seed if type(seed) is int and seed >= 0 else 0,
        "method": method,
        "granularity": _granularity(method),
        "sparsity": 0.0 if is_dense else float(sparsity) if is_known else achieved or 0.0,
        **sizes(Candidate(classifier, masks, achieved), image_size),
        "stage": stage,
        **({} if classifier.temperature is None else {"temperature": float(classifier.temperature)}),
    }


def _granularity(method: str) -> str:
    is_known = method in (names.DENSE, *pruning.METHODS)
    return granularity(method) if is_known else names.GRANULARITY_WEIGHTS


def _arms(
    about: Mapping[str, Mapping[str, Any]], checkpoints: Mapping[str, Checkpoint], paths: Mapping[str, str]
) -> dict[str, str]:
    """Returns the arm of each network, so that no two networks are the same."""
    name_of = {os.path.realpath(path): name for name, path in paths.items()}
    sources = {name: str(each.metadata.get("source", "")) for name, each in checkpoints.items()}
    by_source = {name: name_of.get(os.path.realpath(source), name) for name, source in sources.items()}
    keys = [field for field in names.IDENTITY if field in next(iter(about.values()))]
    for arms in ({name: each["model"] for name, each in about.items()}, by_source):
        if len({(arms[name], *(each[key] for key in keys)) for name, each in about.items()}) == len(about):
            return arms
    return {name: name for name in about}
