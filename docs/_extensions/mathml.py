"""Formulas as MathML, written when the pages are built, so that no page loads a script."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

_DOTS = re.compile(r"\\dots(?![a-z])")  # the one common command that docutils does not know
_logger = logging.getLogger(__name__)


def _mathml(node, *, as_block: bool) -> str:
    formula = _DOTS.sub(r"\\ldots", node.astext())
    try:
        return latex2mathml.tex2mathml(formula, as_block=as_block)
    except MathError as error:
        _logger.warning("the formula %r cannot be written as MathML: %s", formula, error, location=node)
        return ""


def _visit_inline(self, node):
    self.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _visit_block(self, node):
    self.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Adds the renderer "mathml"."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
