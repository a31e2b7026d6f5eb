"""A ring of two data centers: what goes on in dc1 while dc2 is down, and what does not."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from nodes import running
from scans import read_rows

from tfx_cassandra.components import CassandraConnection, FeatureStore, ModelRegistry, schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.feature_store.client import FeatureValue
from tfx_cassandra.components.registry.registry import ModelVersion

pytestmark = [pytest.mark.integration, pytest.mark.slow]

START = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
ROWS = 500


class Ring(NamedTuple):
    """Two nodes in dc1, one in dc2; the tables have one copy in each data center."""

    cluster: DevCluster
    connection: CassandraConnection


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    cluster = DevCluster(
        tmp_path_factory.mktemp('ring'), 3, '127.0.23', storage_port=7023, jmx_port=7541, heap='512M', data_centers=2
    )
    with running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        # Clients of dc1 know its nodes alone.
        connection = CassandraConnection(cluster.contact_points[:2], keyspace='features', request_timeout=20.0)
        schema.apply(connection, schema.NetworkReplication({'dc1': 1, 'dc2': 1}))
        with FeatureStore(connection) as store:
            store.write_features(
                FeatureValue('weather', f'temp{number % 7}', START + datetime.timedelta(minutes=number), number / 2)
                for number in range(ROWS)
            )
        yield Ring(cluster, connection)


def stop(ring: Ring, number: int) -> None:
    status = ring.cluster.status()[number]
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    status.node.wait_ended(status.pid)


def test_each_node_is_in_its_data_center(ring: Ring) -> None:
    with connections.session(ring.connection) as session:
        hosts = {host.address: host.datacenter for host in session.cluster.metadata.all_hosts()}
    assert hosts == dict(zip(ring.cluster.contact_points, ('dc1', 'dc1', 'dc2'), strict=True))


def test_dc1_goes_on_while_dc2_is_down(ring: Ring) -> None:
    """LOCAL_QUORUM asks the replicas of dc1. QUORUM, and what is decided by SERIAL, asks those of both."""
    before = sorted(map(repr, read_rows(ring.connection, 'feature_store')))
    assert len(before) == ROWS
    stop(ring, 2)
    assert sorted(map(repr, read_rows(ring.connection, 'feature_store'))) == before
    with FeatureStore(ring.connection) as store:
        store.write_feature('weather', 'temp0', 99.5, START + datetime.timedelta(days=1))
        found = store.get_latest_feature('weather', 'temp0')
    assert found is not None
    assert found.value == 99.5
    with pytest.raises(Exception, match=r'QUORUM') as unavailable:
        read_rows(ring.connection, 'feature_store', consistency='QUORUM')
    assert 'QUORUM' in str(unavailable.value)
    with ModelRegistry(ring.connection) as registry:
        assert registry.list('flights') == ()
        with pytest.raises(TfxCassandraError, match='SERIAL'):
            registry.record(ModelVersion('flights', 'delay', '1', START))
