"""The docstrings' light Markdown as reStructuredText: formulas in `$$`, indented code, bars and stars in prose."""

import re

_BEFORE_NAPOLEON = 400
_CODE = re.compile(r"(`[^`]*`)")
# A bar would be a substitution, a trailing underscore a link, and the stars of an argument `**options:` strong print.
_SPECIAL = re.compile(r"\||(?<=\w)_(?=\W|$)|\*(?=\*?\w+:)")
_ARRAY_LIKE = re.compile(r"~?(?:[\w.]*\.)?Array \| [\w.~]*ndarray \| [^=,)\]]*?complex")
_ARRAY = re.compile(r"~?jax(?:lib\._jax)?\.Array")
_INDENT = 4


def to_restructured_text(text: str) -> str:
    """Returns a docstring in which only its formulas, code and bars differ."""
    text = re.sub(r"^( *)\$\$(.+?)\$\$$", _formula, text, flags=re.M | re.S)
    lines, after_colon, in_code = [], False, False
    for line in text.split("\n"):
        if line.strip():
            in_code = line.startswith(" " * _INDENT) and (in_code or after_colon)
            if in_code and after_colon:
                lines += ["::", ""]
        literal = in_code or line.lstrip().startswith((">>>", "...", ".. math"))
        lines.append(line if literal else _escape(line))
        if line.strip():
            after_colon = line.endswith(":") and not in_code
    return "\n".join(lines)


def _formula(match: re.Match) -> str:
    indent, formula = match.groups()
    return f"{indent}.. math:: {' '.join(formula.split())}\n"


def _escape(line: str) -> str:
    """Returns prose that means the same in reStructuredText."""
    parts = _CODE.split(line)
    return "".join(part if index % 2 else _SPECIAL.sub(r"\\\g<0>", part) for index, part in enumerate(parts))


def _process(app, what, name, thing, options, lines):
    lines[:] = to_restructured_text("\n".join(lines)).split("\n")


def _skip_fields(app, what, name, thing, skip, options):
    """Skips the fields of named tuples, whose docstrings say only their number."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def _shorten(app, what, name, thing, options, signature, returns):
    """Writes `ArrayLike` and `Array` where annotations are written out in full."""
    return tuple(text and _ARRAY.sub("Array", _ARRAY_LIKE.sub("ArrayLike", text)) for text in (signature, returns))


def setup(app):
    """Adds the conversion, in front of the one that reads `Args:` and `Raises:`."""
    app.connect("autodoc-process-docstring", _process, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
