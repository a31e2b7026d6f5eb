"""`make bench-sstable` on tiny tables: it makes them, measures three readers, and says what they reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from snapshots import snapshots_of

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_readers_of_files_and_of_the_server_give_the_same_rows(
    cluster_connection: CassandraConnection, cassandra_5: None, tmp_path: Path
) -> None:
    snapshots = snapshots_of(cluster_connection)  # skips where the cluster is another one
    keyspace = f'bench_{uuid.uuid4().hex[:8]}'
    command = [sys.executable, str(ROOT / 'benchmarks/sstable/run.py'), '--keyspace', keyspace, '--rows', '8000']
    command += ['--rounds', '2', '--only', 'arrow', 'parquet', 'raw', '--json', str(tmp_path / 'runs.json')]
    where = {'CASSANDRA_CONTACT_POINTS': ','.join(cluster_connection.contact_points)}
    try:
        found = subprocess.run(command, cwd=ROOT, env={**os.environ, **where}, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        assert 'WRONG' not in found.stdout
        runs = json.loads((tmp_path / 'runs.json').read_text())['runs']
        rows = {'one': 8000, 'four': 2000, 'columns': 2000, 'large': 32000}
        assert {(run['table'], run['rows']) for run in runs} == set(rows.items())
        assert len(runs) == 2 * (3 * 3 + 1)
        assert 'one SSTable to Arrow / raw CQL pages' in found.stdout
    finally:
        snapshots.run('clearsnapshot', '--all', '--', keyspace)
        with connections.session(cluster_connection) as session:
            session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
