"""Writing at QUORUM to a ring of three while nodes are killed: what was acknowledged is there, the rest has failed."""

from __future__ import annotations

import datetime
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from nodes import running
from scans import read_rows

from tfx_cassandra.components import CassandraConnection, schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = [pytest.mark.integration, pytest.mark.slow]

START = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
SCHEMA = pa.schema([
    ('model_id', pa.string()), ('feature_name', pa.string()), ('timestamp', pa.timestamp('ms', 'UTC')),
    ('value', pa.float64()),
])  # fmt: skip
ROWS, PARTITIONS, CHUNK = 60_000, 100, 3000


class Ring(NamedTuple):
    """Three nodes with all rows each."""

    cluster: DevCluster
    connection: CassandraConnection


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    cluster = DevCluster(tmp_path_factory.mktemp('ring'), 3, '127.0.24', storage_port=7024, jmx_port=7641, heap='512M')
    with running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, keyspace='features', request_timeout=10.0)
        schema.apply(connection, schema.NetworkReplication({'dc1': 3}))
        yield Ring(cluster, connection)


def kill(ring: Ring, number: int) -> None:
    status = ring.cluster.status()[number]
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    status.node.wait_ended(status.pid)


def chunk(start: int, model: str) -> pa.RecordBatch:
    numbers = range(start, start + CHUNK)
    return pa.RecordBatch.from_pydict(
        {
            'model_id': [model] * CHUNK,
            'feature_name': [f'f{number % PARTITIONS}' for number in numbers],
            'timestamp': [START + datetime.timedelta(seconds=number // PARTITIONS) for number in numbers],
            'value': [float(number) for number in numbers],
        },
        schema=SCHEMA,
    )


def values(ring: Ring, model: str) -> list[float]:
    columns = ['model_id', 'value']
    rows = read_rows(ring.connection, 'feature_store', columns=columns, consistency='QUORUM')
    return sorted(value for of_model, value in rows if of_model == model)


def writing(ring: Ring, session: Any) -> TableWriter:
    table = tables.describe(session, 'features', 'feature_store')
    return TableWriter(session, table, WriteOptions(consistency='QUORUM'))


def test_one_node_is_killed_while_rows_are_written(ring: Ring) -> None:
    with connections.session(ring.connection) as session:
        writer = writing(ring, session)
        killing = threading.Timer(0.2, kill, (ring, 2))
        failures = []
        for start in range(0, ROWS, CHUNK):
            if start == 4 * CHUNK:
                killing.start()
            failures += writer.write(chunk(start, 'one'))
        killing.join()
    assert failures == []
    assert ring.cluster.status()[2].pid is None
    assert values(ring, 'one') == [float(number) for number in range(ROWS)]


def test_two_nodes_are_down(ring: Ring) -> None:
    acknowledged: set[int] = set()
    with connections.session(ring.connection) as session:
        writer = writing(ring, session)
        killing = threading.Timer(0.05, kill, (ring, 1))
        failed: dict[int, str] = {}
        for start in range(0, 6 * CHUNK, CHUNK):
            if start == 2 * CHUNK:
                killing.start()
            failures = writer.write(chunk(start, 'two'))
            failed |= {start + failure.row: failure.message for failure in failures}
            acknowledged |= set(range(start, start + CHUNK)) - set(failed)
        killing.join()
    assert acknowledged >= set(range(2 * CHUNK))
    assert set(range(3 * CHUNK, 6 * CHUNK)) <= set(failed)
    assert all('\n' not in message for message in failed.values())
    assert any('Unavailable' in message for message in failed.values())
    ring.cluster.start()
    assert set(values(ring, 'two')) >= {float(number) for number in acknowledged}
    # What failed is written again, and nothing is there twice.
    with connections.session(ring.connection) as session:
        writer = writing(ring, session)
        for start in range(2 * CHUNK, 6 * CHUNK, CHUNK):
            assert writer.write(chunk(start, 'two')) == []
    assert values(ring, 'two') == [float(number) for number in range(6 * CHUNK)]
