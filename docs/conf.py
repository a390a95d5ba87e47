"""Configuration of Sphinx. `make docs` runs the tutorials and builds with -W: a warning is an error.

TUTORIALS=off in the environment builds the pages of the tutorials without running them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import scatacformer

project = "scatacformer"
author = "scatacformer developers"
copyright = f"2026, {author}"
version = release = scatacformer.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# outputs are kept between builds: a page is run again when its code changes (make clean removes them)
nb_execution_mode = os.environ.get("TUTORIALS", "cache")
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
nb_execution_excludepatterns = os.environ.get("TUTORIALS_SKIP", "").split()  # "tutorials/09*": built without outputs
nb_execution_in_temp = True
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"  # progress bars and log messages
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "scatacformer"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "repository_url": "https://github.com/scatacformer/scatacformer",
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_issues_button": True,
    "show_navbar_depth": 1,
    "max_navbar_depth": 1,  # the names of 200 functions do not fit into a sidebar; they are in the API page
    "show_toc_level": 2,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _literals_in_properties(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # napoleon takes what stands before a colon in a property's docstring for its type, unless it is in a literal
    if what == "property":
        lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]


def _copy_tutorials(app: Any) -> None:
    # Sphinx reads pages of its own folder alone; a page that did not change keeps its time, and is not read again
    target = Path(app.srcdir) / "tutorials"
    target.mkdir(exist_ok=True)
    pages = {page.name: page.read_bytes() for page in Path(app.srcdir).parent.glob("tutorials/*.md")}
    for old in target.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, content in pages.items():
        if not (target / name).is_file() or (target / name).read_bytes() != content:
            (target / name).write_bytes(content)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", _copy_tutorials, priority=100)
    app.connect("autodoc-process-docstring", _literals_in_properties, priority=400)  # napoleon has 500
