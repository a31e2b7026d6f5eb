"""Every command, option and make target that the pages show exists, and every one that exists is shown."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import doc_pages
import pytest

from tfx_cassandra.components.cli.main import top

PROGRAM = 'tfx-cassandra'
MAKEFILE = (doc_pages.ROOT / 'Makefile').read_text()
TARGETS = set(re.findall(r'^([a-z][a-z-]*):', MAKEFILE, re.MULTILINE))
SHELL = {'', 'bash', 'console', 'sh', 'text'}
# Of Beam, which the pages name.
OTHER_OPTIONS = {'--environment_type'}
OF_ENGINES = ('docs/engines.md', 'docs/scaling.md')  # whose options are Beam's and its job servers', too
pages = pytest.mark.parametrize('page', doc_pages.PAGES, ids=doc_pages.name)


def parsed(words: list[str], *, whole: bool = True) -> None:
    """Parses a command line as the program would, and runs nothing.

    Args:
      words: What follows the program's name.
      whole: Whether required arguments and a subcommand have to be there.

    Raises:
      click.ClickException: It is not a command line of the program.
    """
    command: click.Command = top
    context = click.Context(top, info_name=PROGRAM)
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0] == '--help':
            return
        child = command.get_command(context, rest[0])
        if child is None:
            raise click.UsageError(f'no such command: {rest[0]}')
        command, context = child, click.Context(child, info_name=rest.pop(0), parent=context)
    if '--help' in rest:
        return
    try:
        command.make_context(command.name, rest, parent=context.parent)
    except (click.MissingParameter, click.BadOptionUsage):  # also an option without its value
        if whole:
            raise


def alternatives(words: list[str]) -> Iterator[list[str]]:
    """Yields a command line once for each word of `a|b`, without a `...` that is no option's value."""
    choices = [word.split('|') if re.fullmatch(r'[\w-]+(\|[\w-]+)+', word) else [word] for word in words]
    for chosen in itertools.product(*choices):
        yield [word for before, word in itertools.pairwise(['', *chosen]) if word != '...' or before.startswith('-')]


def words_of(line: str) -> list[str]:
    """Returns the words of a command up to a pipe, a redirection or a comment; [] if it is not the program's."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars='|&;<>')
    lexer.whitespace_split, lexer.commenters = True, '#'
    words = list(itertools.takewhile(lambda word: word not in ('|', '||', '&', '&&', ';', '>', '>>', '<'), lexer))
    return words[1:] if words and words[0].rpartition('/')[2] == PROGRAM else []


def of_blocks(page: Path) -> Iterator[str]:
    for block in doc_pages.blocks(page):
        if block.language in SHELL:
            yield from doc_pages.command_lines(block)


def of_text(page: Path) -> Iterator[list[str]]:
    """Yields the words of command lines within the text, also of those without the program's name."""
    for span in doc_pages.code_spans(page):
        words = span.split()
        if words[0].rpartition('/')[2] == PROGRAM or (len(words) > 1 and words[0] in top.commands):
            yield from alternatives(shlex.split(span)[words[0] not in top.commands :])


@pages
def test_command_lines_of_blocks_are_parsed_by_the_commands(page: Path) -> None:
    for line in of_blocks(page):
        for words in alternatives(words_of(line)) if PROGRAM in line else ():
            try:
                parsed(words)
            except click.ClickException as error:
                pytest.fail(f'{line}: {error.format_message()}')


@pages
def test_command_lines_of_the_text_are_parsed_by_the_commands(page: Path) -> None:
    for words in of_text(page):
        try:
            parsed(words, whole=False)
        except click.ClickException as error:
            pytest.fail(f'{words}: {error.format_message()}')


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('cluster begin', 'no such command: begin'),
        ('scan t --outt x', '--outt'),
        ('scan t --splits many', "'many' is not a valid integer"),
        ('scan t --to csv', "'csv' is not one of"),
        ('scan', "Missing argument 'TABLE'"),
    ],
)
def test_a_wrong_command_line_is_found(line: str, message: str) -> None:
    with pytest.raises(click.ClickException) as raised:
        parsed(line.split())
    assert message in raised.value.format_message()


def known_options() -> set[str]:
    def below(command: click.Command) -> Iterator[str]:
        for parameter in command.params:
            yield from parameter.opts
        for child in command.commands.values() if isinstance(command, click.Group) else ():
            yield from below(child)

    scripts = [*doc_pages.ROOT.glob('benchmarks/**/*.py'), *doc_pages.ROOT.glob('pipelines/**/*.py')]
    tools = [path for path in doc_pages.ROOT.glob('tools/*') if path.is_file()]
    declared = re.compile(
        r"add_argument\(\s*'(--[a-z-]+)'|^\s*(--[a-z-]+)\)", re.MULTILINE
    )  # argparse, and bash's case
    found = {a or b for path in [*scripts, *tools] for a, b in declared.findall(path.read_text())}
    return {*below(top), *found, *OTHER_OPTIONS}


@pages
def test_options_of_the_text_exist(page: Path) -> None:
    spans = (span for span in doc_pages.code_spans(page) if re.match(r'--[a-z]', span))
    options = {re.split(r'[ =]', span)[0] for span in spans}
    of_engines = (
        {*doc_pages.beam_options(), '--artifacts-dir', *doc_pages.OF_JOB_SERVERS}
        if doc_pages.name(page) in OF_ENGINES
        else set()
    )
    assert options <= known_options() | of_engines


@pages
def test_make_targets_exist(page: Path) -> None:
    shown = [*of_blocks(page), *doc_pages.code_spans(page)]
    named = {target for line in shown for target in re.findall(r'(?:^|&& )make ([a-z][a-z-]*)', line)}
    assert named <= TARGETS


def test_every_make_target_is_named() -> None:
    text = '\n'.join(page.read_text() for page in doc_pages.PAGES if page.name != 'CHANGELOG.md')
    assert {target for target in TARGETS - {'help'} if not re.search(rf'make {target}(?![\w-])', text)} == set()
