"""The parts of `rows.jsonl`: files in `rows/`, one per seed, arm and corruption, that say whether they are whole.

A part holds one row per line. Its last row has one field more than in `rows.jsonl`,

    "part": {"rows": 5, "sha256": "..."}

with the number of its rows and the SHA-256 of its lines without this field. `rows.jsonl` is made of the parts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxprune import files
from jaxprune.results import schema, versions

FOLDER = "rows"
_FIELD = "part"
_CURE = "delete that file, and the run measures it again"
_SEAL = re.compile(rb', "part": \{"rows": (\d{1,9}), "sha256": "([0-9a-f]{64})"\}\}\n\Z')


def encode(rows: Sequence[Mapping[str, Any]], where: str) -> bytes:
    """Returns the content of a part.

    Raises `ValueError` if there are no rows, or one does not keep to the schema.
    """
    if not rows:
        raise ValueError(f"{where} would hold no rows")
    for row in rows:
        schema.check(row, f"a row of {where}", strict=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    seal = json.dumps({"rows": len(rows), "sha256": files.checksum(text)})
    return (text[: -len("}\n")] + f', "{_FIELD}": {seal}}}\n').encode()


def lines(content: bytes, where: str) -> list[bytes]:
    """Returns the lines of a part as they go into `rows.jsonl`, each with its end.

    A part that was written before there were check sums has none; it must at least end with a whole line.

    Raises `ValueError` if the part is empty, cut short, or its number of rows or check sum is wrong.
    """
    _refuse_empty(content, where)
    found = _SEAL.search(content)
    text = content if found is None else content[: found.start()] + b"}\n"
    *ended, rest = text.split(b"\n")
    if rest:
        raise ValueError(_cut_short(where, len(ended) + 1, "it does not end"))
    if found is not None and (int(found[1]), found[2].decode()) != (len(ended), files.checksum(text)):
        raise ValueError(
            f"{where} is damaged: its {len(ended)} rows are not the {int(found[1])} of its check sum; {_CURE}"
        )
    return [line + b"\n" for line in ended]


def decode(content: bytes, where: str) -> list[dict[str, Any]]:
    """Returns the rows of a part, each checked against the schema.

    Raises `ValueError`, naming the line where that is known, if the part is damaged or of a later schema.
    """
    _refuse_empty(content, where)
    rows = []
    # Line by line first, which says more of a damage than a check sum does.
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(_cut_short(where, number, error)) from None
        if not isinstance(rows[-1], dict):
            kind = type(rows[-1]).__name__
            raise ValueError(f"{where} line {number} holds a {kind} where a JSON object is needed; {_CURE}")
    if not content.endswith(b"\n"):
        raise ValueError(_cut_short(where, len(rows), "it does not end"))
    is_sealed = _SEAL.search(content) is not None
    if is_sealed:
        del rows[-1][_FIELD]
    elif any(_FIELD in row for row in rows):
        raise ValueError(f"{where} is damaged: its check sum cannot be read; {_CURE}")
    for number, row in enumerate(rows, start=1):
        try:
            rows[number - 1] = row = versions.upgraded(row, f"{where} line {number}")
            # Without a check sum, a field of an unknown name may be a damaged one.
            schema.check(row, f"{where} line {number}", strict=not is_sealed, cure=_CURE)
        except ValueError as error:
            raise ValueError(str(error) if _CURE in str(error) else f"{error} (or {_CURE})") from None
    lines(content, where)
    return rows


def _refuse_empty(content: bytes, where: str) -> None:
    if not content:
        raise ValueError(f"{where} is empty; {_CURE}")


def _cut_short(where: str, line: int, cause: Any) -> str:
    return f"{where} line {line} is damaged ({cause}), probably cut short; {_CURE}"
