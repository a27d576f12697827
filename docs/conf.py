"""The site: README, the pages of docs/ as they lie here, and the API from docstrings; ``make docs`` builds it.

Sphinx reads from the top level, so that one relative link works on GitHub and in the site. Nothing is fetched.
"""

from pathlib import Path

from sphinx.application import Sphinx

import prunekit

HOME = "docs/index"
TOP = Path(__file__).parents[1]

project, author, copyright = "prunekit", "the prunekit authors", "2026, the prunekit authors"
version = release = prunekit.__version__
root_doc = HOME
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [each.name for each in TOP.iterdir() if each.is_dir() and each.name != "docs"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme, html_title = "furo", f"prunekit {release}"
html_static_path = html_css_files = ["wide.css"]
html_copy_source = html_show_sourcelink = False
myst_heading_anchors = 4  # named as GitHub names them
nb_execution_mode = "force"  # the notebook lies here without outputs
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # it writes files

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
napoleon_use_ivar = True  # attributes that a docstring lists are not described twice


def setup(app: Sphinx) -> None:
    """Lead from the top of the site to its home, which lies beside the pages."""

    def lead(app: Sphinx, error: Exception | None) -> None:
        to = f'<!doctype html><title>prunekit</title><meta http-equiv="refresh" content="0; url={HOME}.html">'
        Path(app.outdir, "index.html").write_text(to)

    app.connect("build-finished", lead)
