"""The quick start, the tutorials and other pages of commands run as a reader would type them: a page is a session."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import doc_pages
import pytest

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = pytest.mark.integration
QUICK = ('docs/quick-start.md', 'docs/ingest.md')
# A tutorial imports TFX and TensorFlow several times.
PAGES = [
    pytest.param(
        page, marks=[] if page.relative_to(doc_pages.ROOT).as_posix() in QUICK else [pytest.mark.slow], id=page.stem
    )
    for page in [*map(doc_pages.ROOT.joinpath, QUICK), *sorted(doc_pages.ROOT.glob('docs/tutorials/*.md'))]
]


def script(page: Path) -> str:
    """Returns a page as one script: files that it says to save, and commands."""
    parts = ['set -euo pipefail']
    for block in doc_pages.blocks(page):
        if block.not_run:
            continue
        if block.language == 'bash':
            parts.append(block.text)
        else:
            assert block.file, f'{block.page}:{block.line}: no "Save this as `FILE`" before the block'
            parts.append(f"cat >{block.file} <<'END-OF-FILE'\n{block.text}END-OF-FILE\n")
    return '\n'.join(parts)


@pytest.mark.parametrize('page', PAGES)
def test_a_tutorial_runs_from_its_first_block_to_its_last(
    page: Path, cluster_connection: CassandraConnection, tmp_path: Path
) -> None:
    text = script(page)
    keyspace = text.partition('export CASSANDRA_KEYSPACE=')[2].split()[0]
    lane = (doc_pages.ROOT / '.venv/.made-from').read_text().split()[1]
    environ = {
        **os.environ,
        'CASSANDRA_CONTACT_POINTS': ','.join(cluster_connection.contact_points),
        'CASSANDRA_PORT': str(cluster_connection.port),
        'LANE': lane,
        'TMPDIR': str(tmp_path),
    }
    try:
        with connections.session(cluster_connection) as session:
            session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
        done = subprocess.run(
            ['bash', '-c', text], cwd=doc_pages.ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    finally:
        with connections.session(cluster_connection) as session:
            session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
