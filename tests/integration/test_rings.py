"""Every row once on rings of other shapes, at the ring's ends and where one node's range meets the next one's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from murmur3 import key_of
from nodes import running
from scans import looped_rows, read_rows

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN

pytestmark = pytest.mark.integration

ENDS = [MIN_TOKEN, MIN_TOKEN + 1, MIN_TOKEN + 2, -1, 0, 1, MAX_TOKEN - 1, MAX_TOKEN]
ANYWHERE, ROWS = 400, 3
# (nodes, tokens of each)
RINGS = [(1, 1), pytest.param((1, 16), marks=pytest.mark.slow), pytest.param((1, 256), marks=pytest.mark.slow), (3, 16)]


class Ring(NamedTuple):
    """A running ring, and the tokens that its table `t` has keys for, each in two partitions of ROWS rows."""

    connection: CassandraConnection
    session: Session
    tokens: list[int]


@pytest.fixture(scope='module', params=RINGS, ids='{0[0]}x{0[1]}'.format)
def ring(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    nodes, tokens = request.param
    cluster = DevCluster(
        tmp_path_factory.mktemp('ring'), nodes, '127.0.21', storage_port=7021, jmx_port=7521, heap='512M', tokens=tokens
    )
    # These nodes live for seconds: leaving out Java's second compiler halves what their start costs.
    with running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, cluster.port, keyspace='k', request_timeout=60.0)
        with connections.session(connection) as session:
            yield Ring(connection, session, _filled(session, nodes))


def _filled(session: Session, nodes: int) -> list[int]:
    session.execute(f"CREATE KEYSPACE k WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': {nodes}}}")
    session.execute('CREATE TABLE k.t (key blob, n int, v text, PRIMARY KEY (key, n))')
    vnodes = [token.value for token in session.cluster.metadata.token_map.ring]
    generator = random.Random(0)
    anywhere = [generator.randrange(MIN_TOKEN, MAX_TOKEN) for _ in range(ANYWHERE)]
    tokens = sorted({*ENDS, *anywhere, *(token + step for token in vnodes for step in (-1, 0, 1))})
    insert = session.prepare('INSERT INTO k.t (key, n, v) VALUES (?, ?, ?)')
    rows = [(key_of(token, salt), n, f'{token} {n}') for token in tokens for salt in (0, 1) for n in range(ROWS)]
    execute_concurrent_with_args(session, insert, rows, concurrency=200)
    return tokens


def test_the_keys_are_where_they_should_be(ring: Ring) -> None:
    found = {row[0] for row in ring.session.execute('SELECT token(key) FROM k.t')}
    # No row has the least token: its hash is mapped to the greatest.
    assert found == set(ring.tokens) - {MIN_TOKEN}


@pytest.mark.parametrize(
    'options', [{}, {'splits': 1}, {'splits': 700}, {'page_rows': 4, 'consistency': 'ONE'}], ids=str
)
def test_every_row_once(ring: Ring, options: dict) -> None:
    got = read_rows(ring.connection, 't', columns=['key', 'n', 'v'], **options)
    assert len(got) == 2 * ROWS * len(ring.tokens)
    assert got == looped_rows(ring.session, ring.connection, 't', 'key, n, v')
