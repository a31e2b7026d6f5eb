"""`tfx-cassandra snapshot`: made on a real node, read back as it is and from copies, listed and removed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapshots import in_cql, snapshots_of, values_of

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = pytest.mark.integration
KEYSPACE = 'snapshot_command'


@pytest.fixture(scope='module')
def connection(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[CassandraConnection]:
    snapshots_of(cluster_connection)
    with connections.session(cluster_connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}')
        session.execute(
            f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}"
        )
        for table in ('t', 'other'):
            session.execute(f'CREATE TABLE {KEYSPACE}.{table} (k int, c int, v text, gone int, PRIMARY KEY (k, c))')
            for n in range(40):
                session.execute(f"INSERT INTO {KEYSPACE}.{table} (k, c, v, gone) VALUES ({n}, {n % 7}, 'v{n}', 1)")
        session.execute(f'ALTER TABLE {KEYSPACE}.t DROP gone')
        session.execute(f'CREATE INDEX ON {KEYSPACE}.t (v)')
        yield dataclasses.replace(cluster_connection, keyspace=KEYSPACE)
        session.execute(f'DROP KEYSPACE {KEYSPACE}')


@pytest.fixture(scope='module')
def data(connection: CassandraConnection) -> Path:
    cluster = DevCluster.saved(default_directory())
    assert cluster is not None
    return cluster.ring[0].folder / 'data'


def run(*words: str, keyspace: bool = True) -> int:
    return cli.main(['snapshot', *words, *(['--keyspace', KEYSPACE] if keyspace else [])])


def test_a_snapshot_with_its_ring_is_read_in_place_and_from_its_copy(
    connection: CassandraConnection, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / 'copies'
    assert run('take', 'first', '--to', str(place), '--format', 'json') == 0
    shown = capsys.readouterr()
    (row,) = json.loads(shown.out)
    (folder,) = data.glob(f'{KEYSPACE}/t-*/snapshots/first')
    assert row['tables'] == 2
    assert str(folder) in row['folders']
    assert f'copy to {place}: ' in shown.err
    cql = in_cql(connection, 't')
    in_place = CassandraBackup(str(data), 'first', keyspace=KEYSPACE)
    copy = CassandraBackup(str(place), 'first', 'medusa', KEYSPACE)
    tables = [open_table(backup, 't') for backup in (in_place, copy, dataclasses.replace(copy, backup=None))]
    for table in tables:
        assert values_of(table.schema, table.sstables, table.created_at, owned=table.owned) == cql
        assert table.nodes == connection.contact_points
    # The one node owns everything; a copy is the same to a reader.
    assert {(table.digest, table.rows) for table in tables} == {(tables[0].digest, 40)}
    assert abs((tables[0].created_at - tables[1].created_at).total_seconds()) < 1
    assert run('clear', 'first') == 0
    assert not list(data.glob(f'{KEYSPACE}/*/snapshots/first'))
    assert values_of(tables[1].schema, tables[1].sstables, tables[1].created_at) == cql


def test_one_table_listed_and_removed(
    connection: CassandraConnection, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = str(tmp_path / 'copies')
    assert run('take', 'second', '--table', 'other', '--to', place) == 0
    capsys.readouterr()
    assert run('list', place, '--format', 'json', keyspace=False) == 0
    (found,) = json.loads(capsys.readouterr().out)
    own = [path for path in next(data.glob(f'{KEYSPACE}/other-*/snapshots/second')).iterdir() if path.suffix == '.db']
    assert (found['name'], found['nodes'], found['tables'], found['complete']) == ('second', 1, 1, True)
    assert found['bytes'] >= sum(path.stat().st_size for path in own)
    assert run('list', str(data), '--format', 'json', keyspace=False) == 0
    names = [row['name'] for row in json.loads(capsys.readouterr().out)]
    assert 'second' in names
    assert run('take', 'second', '--to', place) == 2
    assert f"name: got 'second', rule: one that {place} does not have yet" in capsys.readouterr().err
    assert run('clear', 'second', '--from', place) == 0
    assert not [path for path in Path(place).rglob('*') if path.is_file()]
    assert run('clear', 'second', '--from', place) == 2
    assert "got no 'second', rule: the name of a backup" in capsys.readouterr().err
    assert run('clear', 'second') == 0


def test_what_cannot_be_reached_is_printed(
    connection: CassandraConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('TFX_CASSANDRA_STATE', str(tmp_path))  # so that no dev cluster is known
    ring = tmp_path / 'ring'
    (node,) = connection.contact_points
    assert run('take', 'third', '--table', 't', '--ring', str(ring)) == 1
    assert capsys.readouterr().out == f'nodetool -h {node} snapshot -t third -kt {KEYSPACE}.t\n'
    assert list(json.loads((ring / 'tokenmap.json').read_text())) == [node]
    assert f'CREATE KEYSPACE {KEYSPACE} ' in (ring / 'schema.cql').read_text()
    assert run('clear', 'third') == 1
    assert capsys.readouterr().out == f'nodetool -h {node} clearsnapshot -t third {KEYSPACE}\n'
    assert run('take', 'third', '--to', str(tmp_path)) == 2
    assert 'to: got ' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['take', 'a/b'], "name: got 'a/b', rule: letters, digits"),
        (['take', 'a', '--table', 'none'], f'keyspace: got {KEYSPACE}.none, which the cluster lacks'),
        (['take', 'a', '--nodetool', f'{sys.executable} -c exit(3)'], ': exit code 3, rule: it works on'),
        (['take', 'a', '--nodetool', 'no-such-nodetool'], 'No such file or directory'),
        (['take', 'a', '--nodetool', 'true', '--data', '/none'], "/none: got no snapshot 'a' of"),
        (['clear', 'a', '--nodetool', ''], "nodetool: got '', rule: a command with {host}"),
    ],
)
def test_what_goes_wrong_is_one_line(
    connection: CassandraConnection, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(*words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('tfx-cassandra: error: ')
    assert message in error
