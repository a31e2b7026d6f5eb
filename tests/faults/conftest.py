"""One node of the fault tests' own, and a proxy before it whose faults the tests order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session
from cql_proxy import CqlProxy
from nodes import running

from tfx_cassandra.components import schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))  # each has a node of its own
_SUBNET = f'127.0.{22 + _WORKER}'
TOMBSTONES_FAIL = 10_000  # a read that meets more of them is refused; a node's default is 100,000


@pytest.fixture(scope='session')
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraConnection]:
    """A connection to a node that refuses reads of too many tombstones; its keyspace holds the schema."""
    cluster = DevCluster(
        tmp_path_factory.mktemp('node'), subnet=_SUBNET, storage_port=7022, jmx_port=7561 + _WORKER, heap='1G'
    )
    with running(cluster, {'tombstone_failure_threshold': TOMBSTONES_FAIL}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, cluster.port, keyspace='faults')
        schema.apply(connection, schema.SimpleReplication(1))
        yield connection


@pytest.fixture(scope='session')
def session(node: CassandraConnection) -> Iterator[Session]:
    """A driver session to the node, past the proxy; statements name the keyspace `faults`."""
    with connections.session(node) as opened:
        yield opened


@pytest.fixture(scope='session')
def running_proxy(node: CassandraConnection) -> Iterator[CqlProxy]:
    with CqlProxy(f'{_SUBNET}.101', node.port, (node.contact_points[0], node.port)) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: CqlProxy) -> CqlProxy:
    """The proxy without a rule and with an empty record."""
    running_proxy.reset()
    return running_proxy


@pytest.fixture
def proxied(node: CassandraConnection, proxy: CqlProxy) -> CassandraConnection:
    """A connection to the node that leads through the proxy."""
    return dataclasses.replace(node, contact_points=(f'{_SUBNET}.101',))
