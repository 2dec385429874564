"""Builds the site: `make docs`.

Where the text is the README's or a docstring's, it is taken from there.  Nothing is fetched: the links
between pages are checked by the build and by ``check_links.py``, those to the world by `make docs-links`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from itertools import groupby
from typing import Any

from docutils import nodes

# The docstrings' annotations name what is imported for the type checker alone.  So that they can be read, the
# package is imported as it sees it, and the libraries as ever.
for name in ("torch", "torchvision", "huggingface_hub"):
    import_module(name)
typing.TYPE_CHECKING = True
for name in (
    "densenet",
    "api.convert",
    "api.export",
    "api.many",
    "api.push",
    "api.verify",
    "api.verify_exported",
    "executors",
    "layouts",
):
    import_module(f"densenet_convert.{name}")
typing.TYPE_CHECKING = False

project = "densenet-convert"
author = "the densenet-convert authors"
copyright = f"2026, {author}"  # noqa: A001 (Sphinx's word)
version = release = version(project)
html_title = f"{project} {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
# Of what is fenced without a language.
highlight_language = "text"
# Two hyphens are an option's.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Their types are in the signature.
napoleon_custom_sections = [("Attributes", "params_style")]

nitpicky = True
# Names of other projects, whose inventories would have to be fetched.
OTHERS = "torch|huggingface_hub|pathlib|collections|concurrent|futures|os|re|typing"
nitpick_ignore_regex = [("py:.*", rf"({OTHERS})\..*")]

linkcheck_anchors_ignore_for_url = ["https://github.com/.*"]

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_show_sphinx = False
html_copy_source = False


def drawings(lines: list[str]) -> Iterator[str]:
    """The same lines, where a flow or a tree of a module's docstring is shown as it is drawn."""
    for is_blank, group in groupby(lines, key=lambda line: not line.strip()):
        block = list(group)
        if not is_blank and any(line.startswith(("    ", "|- ", "`- ")) for line in block):
            yield from ("::", "")
            block = [f"    {line}" for line in block]
        yield from block


def show_drawings(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Autodoc's event, once for each docstring."""
    if what == "module":
        lines[:] = drawings(lines)


def show_defaults(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Autodoc's event, once for each signature: Sphinx can't parse what stands for an empty dict."""
    return signature and signature.replace("<factory>", "{}"), returns


def show_examples(_app: Any, _context: Any, lines: list[str]) -> None:
    """sphinx-click's event, once for each command: what help prints as it stands are commands to copy."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("|   "):
            shown += [] if shown[-1].startswith("    ") else [".. code-block:: text", ""]
            shown.append(f"    {line.removeprefix('|   ')}")
        elif line.startswith("| "):
            shown += ["", line.removeprefix("| "), ""]
        else:
            shown.append(line)
    lines[:] = shown


def show_dashes(_app: Any, doctree: nodes.document) -> None:
    """Sphinx's event, once for each page: the dash after a parameter's name, which smartquotes would draw."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app: Any) -> None:
    """Sphinx calls it."""
    app.connect("doctree-read", show_dashes)
    app.connect("sphinx-click-process-description", show_examples)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("autodoc-process-docstring", show_drawings)
