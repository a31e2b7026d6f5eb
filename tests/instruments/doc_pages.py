"""The Markdown pages of the documentation: their blocks, and the commands that they show."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
# Declared by the job servers in Java, which take what Python does not know; `make test-engines` gives both.
OF_JOB_SERVERS = {'--storage_level', '--parallelism'}
_NOT_RUN = re.compile(r'<!-- not run: (.*?) -->', re.DOTALL)


class Block(NamedTuple):
    """A block of code.

    Attributes:
      page: Its page, relative to the root.
      line: Of its first line, from 1.
      language: 'python', 'bash', ...; '' where none is given, also of an indented block.
      text: Its content.
      not_run: Why it is not run, from the comment `<!-- not run: REASON -->` before it; '' for all others.
      file: The file that the paragraph before it says to save it as: 'Save this as `FILE`'; '' for all others.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str
    file: str


def name(page: Path) -> str:
    """Returns a page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of code of a page, in order."""
    found, not_run, paragraph = [], '', ''
    for token in _tokens(page):
        if token.type == 'html_block':
            not_run = ' '.join(' '.join(_NOT_RUN.findall(token.content)).split())
        elif token.type == 'inline':
            paragraph = token.content
        elif token.type in ('fence', 'code_block') and token.map:
            file = re.search(r'[Ss]ave this\s+as\s+`([^`]+)`', paragraph)
            line = token.map[0] + (2 if token.type == 'fence' else 1)
            found.append(
                Block(name(page), line, token.info.strip(), token.content, not_run, file.group(1) if file else '')
            )
        if token.type in ('fence', 'code_block', 'paragraph_open'):
            not_run = ''
    return found


def code_spans(page: Path) -> list[str]:
    """Returns what stands between backquotes in the text of a page."""
    children = [child for token in _tokens(page) for child in token.children or ()]
    return [' '.join(child.content.split()) for child in children if child.type == 'code_inline']


def command_lines(block: Block) -> Iterator[str]:
    """Yields what a reader types: each line, or where some have the prompt `$`, those; continued lines are one."""
    lines = re.sub(r'\\\n\s*', '', block.text).splitlines()
    prompted = [line[2:] for line in lines if line.startswith('$ ')]
    yield from prompted or (line.strip() for line in lines)


def manifests(page: Path) -> Iterator[dict[str, Any]]:
    """Yields the documents in a page's blocks of YAML."""
    for block in blocks(page):
        if block.language == 'yaml':
            yield from yaml.safe_load_all(block.text)


def containers(manifest: Any) -> Iterator[dict[str, Any]]:
    """Yields the containers of a manifest of Kubernetes, wherever it has pods."""
    for key, value in manifest.items() if isinstance(manifest, dict) else ():
        if key == 'containers':
            yield from value
        else:
            yield from containers(value)


def pipeline_commands(page: Path) -> list[list[str]]:
    """Returns the command lines of `python my_pipeline.py` of a page, those of its manifests after its blocks."""
    shells = [line for block in blocks(page) if block.language == 'sh' for line in command_lines(block)]
    shown = [shlex.split(line, comments=True) for line in shells if line.startswith('python my_pipeline.py')]
    started = [container.get('args', []) for manifest in manifests(page) for container in containers(manifest)]
    return [*shown, *(command for command in started if command[:1] == ['python'])]


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt('commonmark').enable('table').parse(page.read_text())


def beam_options() -> set[str]:
    """Returns the options of Beam's pipelines."""
    parser = argparse.ArgumentParser(conflict_handler='resolve')
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return {*parser._option_string_actions}
