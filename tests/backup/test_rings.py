"""Snapshots of a ring of two data centers: nodes that missed writes, and rows that a node no longer owns."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from nodes import running
from snapshots import values_of

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.backup.ownership import Place, Ring
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.ring import ring_facts
from tfx_cassandra.components.errors import CoverageError

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ALL = {'dc1': 2, 'dc2': 1}
REPLICATIONS = {
    'both': ALL, 'first': {'dc1': 1}, 'second': {'dc2': 1}, 'mixed': {'dc1': 1, 'dc2': 1}, 'simple1': 1, 'simple2': 2,
}  # fmt: skip
ROWS = 300


def replication(factors: dict[str, int] | int) -> str:
    if isinstance(factors, int):
        return f"{{'class': 'SimpleStrategy', 'replication_factor': {factors}}}"
    return str({'class': 'NetworkTopologyStrategy', **factors})


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DevCluster, CassandraConnection, Session]]:
    state = tmp_path_factory.mktemp('state')
    cluster = DevCluster(
        state / 'cluster', 3, '127.0.134', storage_port=7134, jmx_port=7634, heap='512M', tokens=4, data_centers=2
    )
    with (
        running(cluster, {'hinted_handoff_enabled': False}, '-XX:TieredStopAtLevel=1'),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv('TFX_CASSANDRA_STATE', str(state))
        patch.setenv('CASSANDRA_CONTACT_POINTS', cluster.contact_points[0])
        connection = CassandraConnection(cluster.contact_points, cluster.port, request_timeout=60.0)
        with connections.session(connection) as session:
            for name, factors in REPLICATIONS.items():
                session.execute(f'CREATE KEYSPACE {name} WITH replication = {replication(factors)}')
            yield cluster, connection, session


def execute(session: Session, cql: str) -> list[tuple]:
    return [tuple(row) for row in session.execute(SimpleStatement(cql, consistency_level=ConsistencyLevel.ALL))]


def nodetool(cluster: DevCluster, *words: str) -> None:
    for node in (1, 2, 3):
        assert cluster.nodetool(list(words), node) == 0


def rows(root: Path, name: str, keyspace: str, **options: str) -> list[tuple]:
    table = open_table(CassandraBackup(str(root), name, keyspace=keyspace, **options), 't')
    k, v, *_ = values_of(table.schema, table.sstables, table.created_at, owned=table.owned)[1]
    return sorted(zip(k, v, strict=True))


def take(name: str, keyspace: str, *words: str) -> None:
    assert cli.main(['snapshot', 'take', name, '--keyspace', keyspace, *words]) == 0


@pytest.mark.parametrize('keyspace', REPLICATIONS)
def test_owned_ranges_are_those_of_describering(ring: tuple, keyspace: str) -> None:
    cluster, connection, _ = ring
    facts = ring_facts(dataclasses.replace(connection, keyspace=keyspace), ())
    nodes = {name: Place(place.tokens, place.data_center, place.rack) for name, place in facts.nodes.items()}
    found = {
        (one.end, frozenset(names)) for one, names in Ring(nodes, facts.replication).replicas() if one.end != 2**63 - 1
    }
    command = [sys.executable, '-m', cli.__name__, 'cluster', 'nodetool', '--directory', str(cluster.directory)]
    said = subprocess.run([*command, '--', 'describering', keyspace], check=True, capture_output=True, text=True).stdout
    described = re.findall(r'TokenRange\(start_token:(-?\d+), end_token:(-?\d+), endpoints:\[([^]]*)\]', said)
    assert len(described) == 12
    assert found == {(int(end), frozenset(names.split(', '))) for _, end, names in described}


def test_rows_that_a_node_no_longer_owns_do_not_return(ring: tuple, tmp_path: Path) -> None:
    cluster, _, session = ring
    root = cluster.ring[0].folder.parent
    session.execute(f'CREATE KEYSPACE moved WITH replication = {replication(ALL)}')
    session.execute('CREATE TABLE moved.t (k int PRIMARY KEY, v int) WITH gc_grace_seconds = 0')
    for k in range(ROWS):
        execute(session, f'INSERT INTO moved.t (k, v) VALUES ({k}, 1)')
    nodetool(cluster, 'flush', 'moved')
    session.execute(f'ALTER KEYSPACE moved WITH replication = {replication({"dc1": 1})}')
    for k in range(100):
        execute(session, f'DELETE FROM moved.t WHERE k = {k}')
    time.sleep(1.1)  # so that the deletions may be forgotten
    nodetool(cluster, 'flush', 'moved')
    nodetool(cluster, 'compact', 'moved')
    place = tmp_path / 'copies'
    take('moved', 'moved', '--to', str(place))
    wanted = sorted(execute(session, 'SELECT k, v FROM moved.t'))
    assert [k for k, _ in wanted] == list(range(100, ROWS))
    for replicas in ('all', 'one'):
        assert rows(root, 'moved', 'moved', replicas=replicas) == wanted
        assert rows(place, 'moved', 'moved', layout='medusa', replicas=replicas) == wanted
    for path in root.glob('*/data/moved/*/snapshots/moved/ring.json'):
        path.unlink()
    assert len(rows(root, 'moved', 'moved')) == ROWS  # without the ring they would


def test_a_node_that_missed_writes(ring: tuple) -> None:
    cluster, _, session = ring
    root = cluster.ring[0].folder.parent
    session.execute('CREATE TABLE both.t (k int PRIMARY KEY, v int)')
    for k in range(ROWS):
        execute(session, f'INSERT INTO both.t (k, v) VALUES ({k}, 1)')
    # What is written meanwhile reaches the first data center alone.
    session.execute(f'ALTER KEYSPACE both WITH replication = {replication({"dc1": 2})}')
    for k in range(50):
        execute(session, f'DELETE FROM both.t WHERE k = {k}')
        execute(session, f'UPDATE both.t SET v = 2 WHERE k = {k + 50}')
    session.execute(f'ALTER KEYSPACE both WITH replication = {replication(ALL)}')
    take('missed', 'both')
    wanted = [(k, 2 if k < 100 else 1) for k in range(50, ROWS)]
    assert rows(root, 'missed', 'both') == wanted
    # From one replica each row comes once, and some as they were on the node that has missed writes.
    one = rows(root, 'missed', 'both', replicas='one')
    assert len({k for k, _ in one}) == len(one)
    assert ROWS - 50 < len(one) < ROWS
    assert set(wanted) - set(one)
    assert sorted(execute(session, 'SELECT k, v FROM both.t')) == wanted


def test_a_missing_node_is_named(ring: tuple) -> None:
    cluster, _, session = ring
    root = cluster.ring[0].folder.parent
    session.execute('CREATE TABLE mixed.t (k int PRIMARY KEY, v int)')
    for k in range(ROWS):
        execute(session, f'INSERT INTO mixed.t (k, v) VALUES ({k}, {k})')
    take('whole', 'mixed')
    wanted = [(k, k) for k in range(ROWS)]
    assert rows(root, 'whole', 'mixed') == rows(root, 'whole', 'mixed', replicas='one') == wanted
    for path in root.glob('node3/data/mixed/*/snapshots/whole/manifest.json'):
        path.rename(path.with_name('gone'))
    with pytest.raises(CoverageError, match=r'no files of node 127\.0\.134\.3, which owned \(-9223372036854775808, '):
        rows(root, 'whole', 'mixed')
    assert rows(root, 'whole', 'mixed', replicas='one') == wanted
    for path in root.glob('node2/data/mixed/*/snapshots/whole/manifest.json'):
        path.rename(path.with_name('gone'))
    with pytest.raises(CoverageError, match=r'of which there are no files: \(-?\d+, '):
        rows(root, 'whole', 'mixed', replicas='one')
