"""Every version that rows have had, and how each becomes the next: rows that were published stay readable.

Version 1 knew one architecture and methods that mask weights. Version 2 added `arm`, `granularity`, `size_bytes` and
the multiply-accumulates; since then only fields that may be absent, steps of stages and null sizes have come, which
every row of version 2 agrees with. `jaxprune evaluate --out` once wrote rows without a version, sizes and a method.
"""

from collections.abc import Mapping
from typing import Any

from jaxprune import names

SCHEMA_VERSION = 2
_BYTES_OF_FLOAT32 = 4
_UNKNOWN_SIZES = (
    *("sparsity_achieved", "num_parameters", "num_nonzero"),
    *("size_bytes", "multiply_accumulates", "multiply_accumulates_nonzero"),
)


def _from_unversioned(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of an evaluation: nothing is known of its network but a name."""
    network = {
        "study": "evaluation",
        "config_hash": "unknown",
        "dataset": "unknown",
        "arm": row["classifier"],
        "model": row["classifier"],
        "seed": 0,
        "method": names.DENSE,
        "granularity": names.GRANULARITY_NONE,
        "sparsity": 0.0,
        **dict.fromkeys(_UNKNOWN_SIZES),
        "stage": names.STAGE_DENSE,
    }
    return {"schema_version": 2, **network, **row}


def _from_1(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of a study of one architecture, whose parameters were float32 and whose methods mask weights."""
    is_dense = row["method"] == names.DENSE
    return row | {
        "schema_version": 2,
        "arm": row["model"],
        "granularity": names.GRANULARITY_NONE if is_dense else names.GRANULARITY_WEIGHTS,
        "size_bytes": _BYTES_OF_FLOAT32 * row["num_parameters"],
        "multiply_accumulates": None,
        "multiply_accumulates_nonzero": None,
    }


# Version -> what makes a row of it one of the next, and the fields that it needs for that.
UPGRADES = {None: (_from_unversioned, ("classifier",)), 1: (_from_1, ("model", "method", "num_parameters"))}


def upgraded(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a row of any version as one of the present; a row of the present version as it is.

    Raises `ValueError`, beginning with `where`, for a version that this jaxprune does not know, or a row that lacks
    what its version has.
    """
    row = dict(row)
    while (version := row.get("schema_version")) != SCHEMA_VERSION or isinstance(version, bool):
        is_number = isinstance(version, int) and not isinstance(version, bool)
        if is_number and version > SCHEMA_VERSION:
            raise ValueError(
                f"{where} has schema_version {version}, newer than the {SCHEMA_VERSION} that this jaxprune reads; "
                "upgrade jaxprune (pip install --upgrade jaxprune)"
            )
        if not (version is None or is_number) or version not in UPGRADES:
            raise ValueError(
                f"{where} has schema_version {version!r}; there are 1 to {SCHEMA_VERSION}: restore the row as it was "
                "written, or run the study again in a new folder"
            )
        upgrade, needed = UPGRADES[version]
        missing = [name for name in needed if name not in row]
        if missing:
            of = f"schema_version {version}" if version else "no schema_version"
            raise ValueError(f"{where} has {of} and lacks {', '.join(missing)}; run the study again in a new folder")
        row = upgrade(row)
    return row
