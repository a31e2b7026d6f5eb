"""The site builds without a warning, names every public name, command and option, and breaks where a link does."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import click
import doc_pages
import pytest

from tfx_cassandra import components
from tfx_cassandra.components.cli.main import top

pytestmark = pytest.mark.slow  # building imports TFX and TensorFlow
TOOL = doc_pages.ROOT / 'tools/docs'


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOL, folder], capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('site') / 'html'
    done = built(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope='module')
def names(site: Path) -> set[tuple[str, str]]:
    """The site's targets: kind, and name."""
    inventory = (site / 'objects.inv').read_bytes().split(b'\n', 4)[4]
    found = set()
    for line in zlib.decompress(inventory).decode().splitlines():
        before, _, _ = line.partition(' 1 ') if ' 1 ' in line else line.partition(' -1 ')
        name, _, kind = before.rpartition(' ')
        found.add((kind, name))
    return found


def options(command: click.Command, *words: str) -> Iterator[str]:
    """Yields the site's name of each option and argument of a command and of all below it: up to the first space."""
    for parameter in command.params:
        shown = (
            [parameter.opts[0]] if isinstance(parameter, click.Option) else parameter.human_readable_name.split()[:1]
        )
        yield from (f'{"-".join(words)}.{name}' for name in shown)
    for name, child in command.commands.items() if isinstance(command, click.Group) else ():
        yield from options(child, *words, name)


def test_every_option_and_argument_is_in_the_reference(names: set[tuple[str, str]]) -> None:
    found = {name for kind, name in names if kind == 'std:cmdoption'}
    assert set(options(top, 'tfx-cassandra')) - found == set()


@pytest.mark.parametrize('name', components.__all__)
def test_every_public_name_is_in_the_reference(name: str, names: set[tuple[str, str]]) -> None:
    assert ('py:class', f'tfx_cassandra.components.{name}') in names


def test_every_page_is_a_page_of_the_site(site: Path) -> None:
    assert {
        page for page in doc_pages.PAGES if not (site / doc_pages.name(page)).with_suffix('.html').exists()
    } == set()


def test_its_first_page_needs_nothing_from_elsewhere(site: Path) -> None:
    text = (site / 'docs/index.html').read_text()
    assert 'src="http' not in text
    assert 'href="http' not in text.partition('<body')[0]


@pytest.mark.usefixtures('site')  # makes the environment
def test_a_broken_link_an_unknown_anchor_and_a_page_without_a_link_are_errors(tmp_path: Path) -> None:
    copied = tmp_path / 'checkout'
    (copied / 'docs').mkdir(parents=True)
    shutil.copy(doc_pages.ROOT / 'docs/conf.py', copied / 'docs')
    (copied / 'docs/index.md').write_text(
        '# Start\n\n```{toctree}\npage\n```\n\n[a](page.md#no-such) [b](nowhere.md)\n'
    )
    (copied / 'docs/page.md').write_text('# Page\n')
    (copied / 'ORPHAN.md').write_text('# Orphan\n')
    sphinx = [doc_pages.ROOT / '.tfx-cassandra/docs-env/bin/python', '-m', 'sphinx', '-q', '-W', '--keep-going', '-n']
    done = subprocess.run([*sphinx, '-c', 'docs', '.', 'html'], cwd=copied, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for message in ("local id not found in doc 'docs/page': 'no-such'", "target not found: 'nowhere.md'", 'ORPHAN.md'):
        assert message in done.stderr
