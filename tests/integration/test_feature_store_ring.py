"""Reads of a feature store on a ring of three, one node of which is stopped: speculative reads do not wait for it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import signal
import time
from collections.abc import Iterator

import pytest
from counted import counted
from nodes import running

from tfx_cassandra.components import CassandraConnection, FeatureStore, schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.errors import TfxCassandraError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.timezone.utc)
KEYS, WAIT = 120, 2.0  # keys of a third each on a node's first replica; seconds until a request times out
DELAY = datetime.timedelta(milliseconds=100)
ATTEMPTS = ('tfx_cassandra_request_attempts_total', ())


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DevCluster, CassandraConnection]]:
    """Three nodes with all rows each."""
    cluster = DevCluster(tmp_path_factory.mktemp('ring'), 3, '127.0.25', storage_port=7025, jmx_port=7651, heap='512M')
    with running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, keyspace='features', request_timeout=WAIT)
        schema.apply(dataclasses.replace(connection, request_timeout=60.0), schema.NetworkReplication({'dc1': 3}))
        with FeatureStore(connection) as store:
            for key in range(KEYS):
                store.write_feature(f'm{key}', 'f', float(key), NOON, consistency='ALL')
        yield cluster, connection


@contextlib.contextmanager
def stopped(cluster: DevCluster, number: int) -> Iterator[None]:
    """A node that holds its connections and answers nothing."""
    pid = cluster.status()[number].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def read(store: FeatureStore, key: int) -> float | None:
    """Reads a value; returns the seconds, or None if no answer came in time."""
    began = time.monotonic()
    try:
        found = store.get_latest_feature(f'm{key}', 'f', consistency='LOCAL_ONE')
    except TfxCassandraError:
        return None
    assert found is not None
    assert found.value == float(key)
    return time.monotonic() - began


def test_speculative_reads_do_not_wait_for_a_stopped_node(ring: tuple[DevCluster, CassandraConnection]) -> None:
    cluster, connection = ring
    with (
        FeatureStore(connection) as patient,
        FeatureStore(connection, speculative_after=DELAY) as eager,
        stopped(cluster, 2),
    ):
        with counted() as of_reads:
            seconds = [read(eager, key) for key in range(KEYS)]
        waited = [key for key in range(12) if (took := read(patient, key)) is None or took > WAIT / 2]
        with counted() as of_writes:
            timed_out = sum(not written(eager, key) for key in range(12))
    assert None not in seconds
    quick = sorted(took for took in seconds if took is not None)
    assert quick[int(0.99 * KEYS)] < WAIT / 2, quick[-5:]
    # A third of the reads goes to the stopped node first.
    assert KEYS / 6 < of_reads[ATTEMPTS] < KEYS * 2 / 3
    assert waited
    # A write that the stopped node has is not sent to another one.
    assert timed_out
    assert ATTEMPTS not in of_writes


def written(store: FeatureStore, key: int) -> bool:
    """Writes a value; returns whether it was acknowledged in time."""
    try:
        store.write_feature(f'm{key}', 'f', float(key), NOON, consistency='LOCAL_QUORUM')
    except TfxCassandraError:
        return False
    return True
