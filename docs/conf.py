"""Settings of Sphinx: `make docs` builds the site into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hrmas_sparse import __version__  # noqa: E402

project = "hrmas_sparse"
author = "the hrmas_sparse authors"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon",
              "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "package.md", "images.py"]
html_theme = "furo"
html_title = f"hrmas_sparse {version}"
html_extra_path = ["ti46-table-a.html"]
html_static_path = ["site.css"]
html_css_files = ["site.css"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
suppress_warnings = ["myst.xref_missing", "myst.header"]
napoleon_numpy_docstring, napoleon_google_docstring = True, False
napoleon_use_rtype, napoleon_use_ivar = False, True
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_math_renderer = "mathml"


def setup(app):
    """Write formulas as MathML, which browsers draw by themselves: the site needs no script from elsewhere."""
    from docutils import nodes
    from latex2mathml.converter import convert

    def inline(writer, node):
        writer.body.append(convert(node.astext()))
        raise nodes.SkipNode

    def display(writer, node):
        formula = node.astext().replace("{aligned}", "{split}")     # which the converter knows
        writer.body.append(f'<div class="formula">{convert(formula, display="block")}</div>')
        raise nodes.SkipNode

    app.registry.add_html_math_renderer("mathml", (inline, None), (display, None))
