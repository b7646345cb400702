"""How Sphinx builds the documentation: `make docs`, with every warning an error."""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPELLED = re.compile(r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[(.*?)\]\]")
sys.path.insert(0, str(HERE / "extensions"))

project = "polykern"
author = "the authors of polykern"
copyright = f"{author}, Apache-2.0"
release = version = installed("polykern")

extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml"]
exclude_patterns = ["extensions"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = False
keep_warnings = True

myst_enable_extensions = ["amsmath", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
python_display_short_literal_types = True
add_module_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "polykern"
html_static_path = ["static"]
html_css_files = ["plain.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_domain_indices = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}
smartquotes = False  # "--device" is two hyphens
pygments_style = "sas"
pygments_dark_style = "github-dark"


def _plain(app: Any, what: str, name: str, it: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with tables: given to autodoc as what they mean."""
    from plain import restructured

    lines[:] = restructured(lines)


def _arrays(
    app: Any, what: str, name: str, it: Any, options: Any, given: str | None, back: str | None
) -> tuple[str, str | None] | None:
    """NDArray[...] as it is written, not as Python spells it out."""
    if not given:
        return None
    return SPELLED.sub(r"NDArray[\1]", given), back and SPELLED.sub(r"NDArray[\1]", back)


def _skipped(app: Any, what: str, name: str, it: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a named tuple stand in its own table."""
    return True if (getattr(it, "__doc__", None) or "").startswith("Alias for field number") else None


def _generate(app: Any) -> None:
    """The pages that are read off the packages."""
    import commands
    import gallery
    import names

    names.write(HERE / "generated")
    commands.write(HERE / "generated")
    gallery.write(HERE, HERE / "generated" / "gallery.md")


def _linked(app: Any, error: Exception | None) -> None:
    """Every link of the pages leads somewhere."""
    from sphinx.util import logging

    from links import broken

    if error is None and app.builder.format == "html":
        for line in broken(Path(app.outdir)):
            logging.getLogger("links").warning("%s", line, type="links")


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("builder-inited", _generate)
    app.connect("autodoc-process-docstring", _plain)
    app.connect("autodoc-process-signature", _arrays)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("build-finished", _linked)
