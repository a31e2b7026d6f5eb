"""SSTables of a ring of three: their union is what CQL says at ALL; rows that a node no longer owns do not return."""

from __future__ import annotations

import datetime
import itertools
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from nodes import running

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.snapshot import open_snapshot
from tfx_cassandra.components.sstable.sstable import SSTable

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LEAST, MOST = -(2**63), 2**63 - 1
Ranges = list[tuple[int, int]]
COLUMNS = ('k', 'c', 's', 'v', 'l')
PARTITIONS = 200


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    folder = tmp_path_factory.mktemp('ring')
    cluster = DevCluster(folder, nodes=3, subnet='127.0.133', storage_port=7133, jmx_port=7933, heap='512M')
    with running(cluster, {'hinted_handoff_enabled': False}, '-XX:TieredStopAtLevel=1'):
        yield cluster


@pytest.fixture
def session(ring: DevCluster) -> Iterator[Session]:
    connection = CassandraConnection(ring.contact_points, ring.port, request_timeout=60.0)
    with connections.session(connection) as opened:
        yield opened


def execute(session: Session, statement: str, level: int = ConsistencyLevel.QUORUM) -> list[tuple]:
    return [tuple(row) for row in session.execute(SimpleStatement(statement, consistency_level=level), timeout=60)]


def in_cql(session: Session) -> list[tuple]:
    return normal(execute(session, f'SELECT {", ".join(COLUMNS)} FROM kept.t', ConsistencyLevel.ALL))


def normal(rows: Sequence[Sequence[Any]]) -> list[tuple]:
    return sorted(((*row[:4], tuple(row[4]) if row[4] else None) for row in rows), key=repr)


def snapshots(ring: DevCluster) -> list[tuple[Any, list[SSTable]]]:
    """Takes a snapshot on each node; returns its table and SSTables."""
    tag, found = uuid.uuid4().hex, []
    for number, node in enumerate(ring.ring, 1):
        assert ring.nodetool(['snapshot', '-t', tag, 'kept'], number) == 0
        (folder,) = Path(node.folder / 'data' / 'kept').glob(f't-*/snapshots/{tag}')
        found.append(open_snapshot(folder))
    return found


def in_files(nodes: Sequence[tuple[Any, list[SSTable]]], owned: Sequence[Ranges | None] | None = None) -> list[tuple]:
    """Returns the rows of the SSTables of nodes; `owned` has the ranges of each node."""
    sstables = [one for _, its in nodes for one in its]
    ranges = None if owned is None else [own for (_, its), own in zip(nodes, owned, strict=True) for _ in its]
    now = datetime.datetime.now(datetime.timezone.utc)
    reading = Reading(nodes[0][0], sstables, now, COLUMNS, owned=ranges)
    return normal([tuple(row.values()) for batch in reading for row in batch.to_pylist()])


def write(session: Session, seed: int) -> None:
    """Writes, overwrites and deletes cells, rows, ranges and partitions."""
    rng = random.Random(seed)
    for _ in range(600):
        k, c = rng.randrange(PARTITIONS), rng.randrange(6)
        statement = rng.choice([
            f'INSERT INTO kept.t (k, c, v, l) VALUES ({k}, {c}, {rng.randrange(99)}, [{c}, {k}])',
            f'UPDATE kept.t SET v = {rng.randrange(99)}, l = l + [{c}] WHERE k = {k} AND c = {c}',
            f'UPDATE kept.t SET s = {rng.randrange(99)} WHERE k = {k}',
            f'DELETE v FROM kept.t WHERE k = {k} AND c = {c}',
            f'DELETE FROM kept.t WHERE k = {k} AND c = {c}',
            f'DELETE FROM kept.t WHERE k = {k} AND c > {c}',
            f'DELETE FROM kept.t WHERE k = {k}',
        ])  # fmt: skip
        execute(session, statement)


def test_a_node_that_missed_writes_and_one_that_was_repaired(
    ring: DevCluster, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(session, "CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
    execute(session, 'CREATE TABLE kept.t (k int, c int, s int static, v int, l list<int>, PRIMARY KEY (k, c))')
    for k, c in itertools.product(range(PARTITIONS), range(6)):
        execute(session, f'INSERT INTO kept.t (k, c, s, v) VALUES ({k}, {c}, 0, 0)', ConsistencyLevel.ALL)
    snapshots(ring)  # which flushes
    last = ring.ring[2]
    pid = last.terminate()
    assert pid is not None
    last.wait_ended(pid)
    write(session, 1)
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)  # which names another cluster
    ring.start()
    nodes = snapshots(ring)
    before = in_files(nodes[2:])
    expected = in_cql(session)
    assert len(expected) > 300
    assert in_files(nodes) == in_files(nodes[:2]) == expected
    assert before != expected
    assert set(before) - set(expected), 'rows that were deleted while the node was down'
    for number in (1, 2, 3):
        assert ring.nodetool(['repair', '-full', 'kept'], number) == 0
    nodes = snapshots(ring)
    assert in_files(nodes[2:]) == in_files(nodes) == expected


def owned_ranges(ring: DevCluster, session: Session) -> list[Ranges]:
    """Returns for each node the ranges of its own tokens, which with one copy of each row are all that it owns."""
    owners: Mapping[Any, Any] = session.cluster.metadata.token_map.token_to_host_owner
    tokens = sorted(owners)
    found: dict[str, Ranges] = {node.address: [] for node in ring.ring}
    for before, token in zip([None, *tokens], tokens, strict=False):
        start = LEAST if before is None else before.value
        found[owners[token].address].append((start, token.value))
    found[owners[tokens[0]].address].append((tokens[-1].value, MOST))
    return list(found.values())


def test_rows_that_a_node_no_longer_owns_do_not_return(ring: DevCluster, session: Session) -> None:
    """With one copy instead of three, two of the nodes keep what they no longer own, as before a cleanup."""
    execute(session, "ALTER KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    before = in_cql(session)
    for k in range(0, PARTITIONS, 3):
        execute(session, f'DELETE FROM kept.t WHERE k = {k}')
    write(session, 2)
    nodes, owned = snapshots(ring), owned_ranges(ring, session)
    expected = in_cql(session)
    assert in_files(nodes, owned) == expected
    # The deletions that only the owners know of are newer than the copies of others, and still win.
    assert in_files(nodes) == expected
    # Where the owner has forgotten its deletions, nothing but `owned` keeps the copies of others away.
    execute(session, 'ALTER TABLE kept.t WITH gc_grace_seconds = 1')
    for number in (1, 2, 3):
        assert ring.nodetool(['compact', 'kept'], number) == 0
    nodes = snapshots(ring)
    assert in_files(nodes, owned) == expected == in_cql(session)
    returned = set(in_files(nodes)) - set(expected)
    assert len(returned) > 50
    assert {row[0] for row in returned} & {row[0] for row in before}
    # The other half of the rule: what a node does own is missing without that node.
    assert len(in_files(nodes[:2], owned[:2])) < len(expected)
