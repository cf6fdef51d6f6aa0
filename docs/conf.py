"""Settings of Sphinx: `make docs` builds the site into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hrmas_sparse import __version__  # noqa: E402

project = "hrmas_sparse"
author = "the hrmas_sparse authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon",
              "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "package.md"]
html_theme = "furo"
html_title = f"hrmas_sparse {version}"
html_extra_path = ["ti46-table-a.html"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.xref_missing", "myst.header"]
napoleon_numpy_docstring, napoleon_google_docstring = True, False
napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# The site is self-contained: formulas are drawn by the browser's MathML, from Sphinx's own text.
