"""API pages that follow the code, and the directives they use.

`exports` documents what a module exports, `summary-table` a table of functions; the page of each room is written here.
"""

import functools
import importlib
import inspect
import pathlib
import re
import types

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

import jaxprune

# Public, though loaded by their full names only.
_UNLISTED_MODULES = {"metrics": ("jaxprune.metrics.plots",), "evaluation": ("jaxprune.evaluation.corrupted_sets",)}
_LONGEST_VALUE = 100  # characters of a constant that are worth showing


def exports_of(module) -> dict[str, object]:
    """Returns the public names of a module: its `__all__`, or what it defines itself."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__ if name != "__version__"}
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_") and (name.isupper() or getattr(thing, "__module__", None) == module.__name__)
    }


def kind_of(thing) -> str:
    """Returns "module", "class", "function" or "constant"."""
    if isinstance(thing, types.ModuleType):
        return "module"
    if inspect.isclass(thing):
        return "class"
    return "function" if callable(thing) and hasattr(thing, "__name__") else "constant"


def undocumented(module) -> list[str]:
    """Returns the exports without a docstring; constants are shown by their value instead."""
    things = {name: thing for name, thing in exports_of(module).items() if kind_of(thing) != "constant"}
    return [f"{module.__name__}.{name}" for name, thing in things.items() if not _own_docstring(thing)]


def _own_docstring(thing) -> str:
    text = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    # What NamedTuple and dataclass write by themselves says nothing.
    generated = f"{getattr(thing, '__name__', '')}("
    return "" if not text or text.startswith(generated) else text


class Exports(SphinxDirective):
    """Documents every public name of the module given as argument: classes, functions, constants, sub-modules."""

    required_arguments = 1

    def run(self):
        """Returns the nodes."""
        module = importlib.import_module(self.arguments[0])
        lines = StringList(_module_lines(module, seen=set()), source=self.get_source_info()[0])
        container = nodes.container()
        self.state.nested_parse(lines, self.content_offset, container)
        return container.children


def _module_lines(module, seen: set[int]) -> list[str]:
    missing = undocumented(module)
    if missing:
        raise ExtensionError(f"exported without a docstring: {', '.join(missing)}")
    lines = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    lines += [f".. py:currentmodule:: {module.__name__}", ""]
    things = exports_of(module)
    fresh = {name: thing for name, thing in things.items() if kind_of(thing) == "constant" or id(thing) not in seen}
    seen.update(map(id, fresh.values()))
    order = {"function": 0, "class": 1, "constant": 2, "module": 3}
    for name, thing in sorted(fresh.items(), key=lambda item: order[kind_of(item[1])]):
        kind = kind_of(thing)
        if kind == "module":
            lines += [f".. rubric:: {thing.__name__}", "", *_module_lines(thing, seen)]
        elif kind == "constant":
            lines += [f".. py:data:: {name}", "", f"   {_value(thing)}", ""]
        else:
            _show_jitted_methods(thing)
            members = ["   :members:"] if kind == "class" else []
            lines += [f".. auto{kind}:: {module.__name__}.{name}", *members, ""]
    return lines


def _show_jitted_methods(thing) -> None:
    """Replaces, in this process, jitted methods by the functions they wrap: autodoc takes them for data."""
    if inspect.isclass(thing):
        for name, method in list(vars(thing).items()):
            if hasattr(method, "__wrapped__") and not isinstance(method, classmethod | staticmethod):
                setattr(thing, name, method.__wrapped__)


def _value(thing) -> str:
    if isinstance(thing, dict):
        return "Table with the entries " + ", ".join(f"``{name}``" for name in thing) + "."
    text = repr(thing)
    if isinstance(thing, types.UnionType):
        text = " | ".join(member.__name__ for member in thing.__args__)
    return f"``{text}``" if len(text) <= _LONGEST_VALUE else f"A {type(thing).__name__} of {len(thing)} entries."


class SummaryTable(SphinxDirective):
    """A table of the entries of a dict such as `jaxprune.pruning.FILTERS`: names and the first line of the docstring.

    Entries that are records name the field that holds the function or the text: `jaxprune.pruning.METHODS description`.
    """

    required_arguments = 1
    optional_arguments = 1

    def run(self):
        """Returns the table."""
        module, _, name = self.arguments[0].rpartition(".")
        entries = getattr(importlib.import_module(module), name)
        body = nodes.tbody()
        for entry, function in entries.items():
            for field in self.arguments[1:]:
                function = getattr(function, field)
            text = function if isinstance(function, str) else inspect.getdoc(_documented(function))
            summary = text.split("\n\n")[0].replace("\n", " ").removeprefix("Returns ")
            body += nodes.row("", _cell(f"`{entry}`"), _cell(summary))
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (25, 75)), body, cols=2)
        return [nodes.table("", group)]


def _documented(function):
    """Returns the function that a partial application of functions is about: an argument if one is a function."""
    while isinstance(function, functools.partial):
        function = next(filter(callable, function.args), function.func)
    return function


def _cell(text: str) -> nodes.entry:
    paragraph = nodes.paragraph()
    for index, part in enumerate(re.split(r"`([^`]*)`", text)):
        paragraph += nodes.literal(part, part) if index % 2 else nodes.Text(part)
    return nodes.entry("", paragraph)


def _write_pages(app, config) -> None:
    """Writes a page for each room into `api/`, and removes those of rooms that are gone."""
    folder = pathlib.Path(app.srcdir) / "api"
    rooms = sorted(exports_of(jaxprune))
    pages = {folder / f"{room}.rst": _page(f"jaxprune.{room}", _UNLISTED_MODULES.get(room, ())) for room in rooms}
    for page in set(folder.glob("*.rst")) - set(pages):
        page.unlink()
    for page, text in pages.items():
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def _page(title: str, modules: tuple[str, ...]) -> str:
    lines = [title, "=" * len(title), "", f".. exports:: {title}", ""]
    for module in modules:
        lines += [f".. rubric:: {module}", "", f".. exports:: {module}", ""]
    return "\n".join(lines)


def setup(app):
    """Adds the directives."""
    app.add_directive("exports", Exports)
    app.add_directive("summary-table", SummaryTable)
    app.connect("config-inited", _write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
