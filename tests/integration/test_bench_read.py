"""`make bench-read` on a tiny table: it loads, measures two readers, and says what they reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def bench(connection: CassandraConnection, folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / 'benchmarks/read/run.py'), '--keyspace', connection.keyspace, *options]
    where = {'CASSANDRA_CONTACT_POINTS': ','.join(connection.contact_points), 'CASSANDRA_PORT': str(connection.port)}
    return subprocess.run(command, cwd=folder, env={**os.environ, **where}, capture_output=True, text=True)


@pytest.mark.slow
def test_two_readers_on_a_tiny_table(connection: CassandraConnection, session: Session, tmp_path: Path) -> None:
    options = ['--rows', '2400', '--rounds', '2', '--only', 'raw', 'driver', '--json', str(tmp_path / 'runs.json')]
    first = bench(connection, tmp_path, *options)
    assert first.returncode == 0, first.stderr
    assert 'WRONG' not in first.stdout
    assert f'load {connection.keyspace}.feature_store_2400' in first.stderr
    content = json.loads((tmp_path / 'runs.json').read_text())
    # Two readers, two tables, two rounds.
    assert sorted((run['reader'], run['table_rows'], run['rows']) for run in content['runs']) == sorted(
        [(reader, rows, rows) for reader in ('driver', 'raw') for rows in (600, 2400)] * 2
    )
    # Half the rows have a map, and what is not there was not written.
    rows = session.execute(f'SELECT metadata FROM {connection.keyspace}.feature_store_2400')
    assert sum(row.metadata is not None for row in rows) == 1200

    again = bench(
        connection, tmp_path, '--rows', '2400', '--rounds', '1', '--only', 'raw', '--layouts', 'feature_store'
    )
    assert again.returncode == 0, again.stderr
    assert 'load ' not in again.stderr


def test_a_cluster_that_is_not_there_is_one_line(connection: CassandraConnection, tmp_path: Path) -> None:
    away = CassandraConnection(('127.0.0.250',), keyspace=connection.keyspace)
    result = bench(away, tmp_path, '--rows', '10', '--only', 'raw')
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith('error: contact_points: got 127.0.0.250:9042')
