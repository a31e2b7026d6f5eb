"""A real Cassandra for the tests that need one: the one the environment names, or the dev cluster on 127.0.0.1.

Each test module gets a keyspace of its own with the schema applied, dropped when the module is done. A cluster that
`tfx-cassandra cluster` has not made is refused, for keyspaces of its own might have the modules' names, unless
TFX_CASSANDRA_TEST_ANY_CLUSTER=1 allows it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session
from dev_only import check_expendable

from tfx_cassandra.components import schema
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import UnavailableError


@pytest.fixture(scope='session')
def cluster_connection() -> CassandraConnection:
    """A connection to a live cluster; its keyspace need not exist."""
    connection = dataclasses.replace(CassandraConnection.from_env(), request_timeout=60.0)
    try:
        with connections.session(connection) as session:
            check_expendable(session)
            return connection
    except UnavailableError as error:
        if os.environ.get('TFX_CASSANDRA_REQUIRE_CLUSTER'):
            raise
        pytest.skip(f'no Cassandra to test against (start one with `make cluster`): {error}')


@pytest.fixture(scope='session')
def release(cluster_connection: CassandraConnection) -> tuple[int, ...]:
    """The numbers of the cluster's Cassandra release, such as (5, 0, 8)."""
    with connections.session(cluster_connection) as session:
        version = session.execute('SELECT release_version FROM system.local').one().release_version
    return tuple(map(int, re.findall(r'\d+', version)[:3]))


@pytest.fixture(scope='session')
def cassandra_5(release: tuple[int, ...]) -> None:
    """Skips what an older Cassandra lacks."""
    if release < (5,):
        pytest.skip(
            f'Cassandra {".".join(map(str, release))} has no vectors, storage-attached indexes or maxwritetime()'
        )


@pytest.fixture(scope='module')
def connection(
    cluster_connection: CassandraConnection, request: pytest.FixtureRequest
) -> Iterator[CassandraConnection]:
    """A connection whose keyspace belongs to this test module and holds the schema."""
    keyspace = re.sub(r'\W', '_', request.module.__name__.rpartition('.')[2])[:40]
    mine = dataclasses.replace(cluster_connection, keyspace=keyspace)
    with connections.session(mine) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS "{keyspace}"', timeout=120)
        schema.apply(mine, schema.SimpleReplication(1))
        yield mine
        session.execute(f'DROP KEYSPACE IF EXISTS "{keyspace}"', timeout=120)


@pytest.fixture(scope='module')
def session(connection: CassandraConnection) -> Iterator[Session]:
    """A driver session to the module's cluster; statements name the keyspace `connection.keyspace`."""
    with connections.session(connection) as opened:
        yield opened
