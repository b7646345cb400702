"""Formulas as MathML, which browsers draw by themselves: no script, no font and no picture to fetch.

The translation from LaTeX is docutils' own. What it does not know is a warning, and so an error of the build.
"""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

BAR = '<mo lspace="0" rspace="0" stretchy="false">|</mo>'  # of a magnitude, not of "divides"
log = logging.getLogger(__name__)


def mathml(text: str, *, block: bool) -> str:
    """The formula as a <math> element; raises MathError where a command is not known."""
    return str(latex2mathml.tex2mathml(text, as_block=block)).replace("<mo>|</mo>", BAR)


def _drawn(writer: Any, node: nodes.Element, *, block: bool) -> str:
    try:
        return mathml(node.astext(), block=block)
    except MathError as error:
        log.warning("this formula is not MathML: %s", error, location=node, type="mathml")
        return ""


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_drawn(writer, node, block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{_drawn(writer, node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Give Sphinx the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
