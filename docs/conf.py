"""Sphinx configuration of jaxprune's documentation: `python -m sphinx -W --keep-going docs build/docs`.

The pages fetch nothing: the theme brings its own style, and formulas become MathML when the pages are built.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

import jaxprune  # noqa: E402  (found through the path above)

project = "jaxprune"
author = "The jaxprune authors"
copyright = author
release = version = jaxprune.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "exports", "links", "mathml"]

html_theme = "furo"
html_title = f"jaxprune {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

# A link to a function or module that does not exist fails the build; the types in signatures are other people's.
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|exc)", ".*")]
