"""How Sphinx makes the site of README.md, the other pages at the root, and docs/ (`make docs`).

The source folder is the root of the checkout, so that links between its pages work on a code host and on the site.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import typing
from pathlib import Path
from typing import Any

import click
from pygments.lexers import SqlLexer
from sphinx.application import Sphinx

for library in ('absl', 'apache_beam'):
    logging.getLogger(library).setLevel(logging.WARNING)

project = 'tfx-cassandra'
author = 'the tfx-cassandra authors'
copyright = author
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_click']
root_doc = 'docs/index'
include_patterns = ['*.md', 'docs/**']
exclude_patterns = ['.*', 'build', 'dist']

html_theme = 'furo'
html_title = project
html_copy_source = False
html_show_sphinx = False
html_static_path: list[str] = []

# Markdown as code hosts have it, with GitHub's anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions: list[str] = []

# The package's annotations are names of the modules that define them. What other projects define has no page here.
nitpick_ignore_regex = [('py:.*', r'(?!tfx_cassandra\.).*')]
autodoc_class_signature = 'mixed'
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
autodoc_default_options = {'members': True, 'exclude-members': 'SPEC_CLASS, EXECUTOR_SPEC, DRIVER_CLASS'}
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False


def _as_written(_: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Shows the example that ends a command's help as it stands; sphinx-click takes it for reStructuredText."""
    command: Any = context.command
    lines[:] = ['.. code-block:: text', '', *(f'   {line}' for line in (command.epilog or '').splitlines()), '']


def _without_rules(_: Sphinx, function: Any, __: bool) -> None:
    """Shows the types of arguments without the rules that check them (`Annotated`)."""
    with contextlib.suppress(NameError, TypeError, AttributeError):  # names that type checkers alone know
        inspect.unwrap(function).__annotations__ = typing.get_type_hints(inspect.unwrap(function))


def _tables_as_written(_: Sphinx, kind: str, __: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Shows a module's docstring that has a table or code as it stands, after its first line."""
    if kind == 'module' and any(line.startswith('  ') for line in lines):
        lines[1:] = ['', '.. code-block:: text', '', *(f'   {line}' for line in lines[1:]), '']


def _start_page(app: Sphinx, error: Exception | None) -> None:
    """Leads from the folder of the site to its first page."""
    if error is None:
        page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html"><a href="{root_doc}.html">{project}</a>\n'
        Path(app.outdir, 'index.html').write_text(page)


def _other_pages(app: Sphinx, page: str, content: list[str]) -> None:
    """Lists on the first page, in place of OTHER PAGES, each page of docs/ that it does not name."""
    if page == root_doc:
        named = content[0].splitlines()
        others = sorted({path.stem for path in Path(app.srcdir, 'docs').glob('*.md')} - {'index', *named})
        content[0] = content[0].replace('OTHER PAGES', '\n'.join(others))


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.add_lexer('cql', SqlLexer)
    app.connect('autodoc-before-process-signature', _without_rules)
    app.connect('autodoc-process-docstring', _tables_as_written)
    app.connect('sphinx-click-process-epilog', _as_written)
    app.connect('source-read', _other_pages)
    app.connect('build-finished', _start_page)
