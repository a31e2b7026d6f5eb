"""A commit log whose disk is full: no write is lost that was acknowledged, and each that is not fails loudly."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fault_place import MismatchError, read_once
from fault_results import Outcome, note, outcome_of
from nodes import running

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to mount a small file system'),
]

SUBNET = '127.0.55'
QUICK_JAVA = '-XX:TieredStopAtLevel=1'
MEGABYTES = 24
BATCH = 100  # rows of 4 kB
SETTINGS = {
    # A write is acknowledged when it is on the disk, which is smaller than the node believes.
    'commitlog_sync': 'batch',
    'commitlog_sync_period': '0ms',
    'commitlog_segment_size': '1MiB',
    'commitlog_total_space': '512MiB',
    'commitlog_compression': [{'class_name': 'LZ4Compressor'}],
    'write_request_timeout': '2s',
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[DevCluster]:
    """A cluster, not yet started, whose commit log has a disk of its own."""
    cluster = DevCluster(tmp_path, 1, SUBNET, storage_port=7055, jmx_port=7545, heap='384M')
    folder = cluster.ring[0].folder / 'commitlog'
    folder.mkdir(parents=True)
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={MEGABYTES}m', 'tmpfs', str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip('no file system can be mounted here')
    try:
        yield cluster
    finally:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


def text_of(n: int) -> str:
    return np.random.default_rng(n).bytes(2000).hex()


def write(connection: CassandraConnection, first: int) -> None:
    """Writes rows; raises TfxCassandraError where one is not acknowledged."""
    k = np.arange(first, first + BATCH, dtype=np.int32)
    batch = pa.RecordBatch.from_pydict({'k': k % 10, 'n': k, 'v': list(map(text_of, k))})
    with connections.session(connection) as session:
        writer = TableWriter(session, tables.describe(session, 'small', 'numbers'), WriteOptions(consistency='ONE'))
        if failures := writer.write(batch):
            raise TfxCassandraError(failures[0].message)


def check(connection: CassandraConnection, acknowledged: list[int], tried: int) -> None:
    """Reads the table; raises MismatchError unless it has every acknowledged row, and none that was not written."""
    found = read_once(connection, 'numbers', consistency='ONE')
    least = {(n % 10, n) for first in acknowledged for n in range(first, first + BATCH)}
    if missing := least - set(found):
        raise MismatchError(f'{len(missing)} acknowledged rows are missing, such as {min(missing)}')
    if wrong := [n for (k, n), v in found.items() if (k, v) != (n % 10, text_of(n)) or n >= tried]:
        raise MismatchError(f'{len(wrong)} rows are not what was written, such as {wrong[0]}')


def fill(connection: CassandraConnection) -> tuple[list[int], int, Outcome]:
    """Writes until a write is not acknowledged; returns the batches that were, how many rows were tried, the error."""
    acknowledged: list[int] = []
    for first in range(0, MEGABYTES << 20, BATCH):
        outcome = outcome_of(lambda first=first: write(connection, first))
        if outcome.kind != 'equal':
            return acknowledged, first + BATCH, outcome
        acknowledged.append(first)
    raise AssertionError('the disk was never full')


@pytest.mark.parametrize('policy', ['stop_commit', 'stop'])
def test_what_was_acknowledged_is_there_when_the_disk_is_free_again(small: DevCluster, policy: str) -> None:
    connection = CassandraConnection(small.contact_points, keyspace='small', request_timeout=5.0, connect_timeout=3.0)
    node, fault = small.ring[0], f'commit log full ({policy})'
    with running(small, {**SETTINGS, 'commit_failure_policy': policy}, QUICK_JAVA):
        with connections.session(connection) as session:
            session.execute(
                "CREATE KEYSPACE small WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            session.execute('CREATE TABLE small.numbers (k int, n int, v text, PRIMARY KEY (k, n))')
        acknowledged, tried, written = fill(connection)
        note('write', fault, written)
        assert written.kind == 'error', written
        assert acknowledged
        reading = outcome_of(lambda: check(connection, acknowledged, tried))
        note('read', fault, reading)
        assert reading.kind != 'wrong', reading

        subprocess.run(['mount', '-o', f'remount,size={8 * MEGABYTES}m', str(node.folder / 'commitlog')], check=True)
        if (pid := node.pid()) is not None:
            os.kill(pid, signal.SIGKILL)
            node.wait_ended(pid)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
            # The section that did not fit holds nothing that was acknowledged, and a node does not start over it.
            patch.setenv('JAVA_TOOL_OPTIONS', f'{QUICK_JAVA} -Dcassandra.commitlog.ignorereplayerrors=true')
            small.start()
        patient = dataclasses.replace(connection, request_timeout=60.0)
        recovered = outcome_of(lambda: check(patient, acknowledged, tried))
        note('read after a restart', fault, recovered)
        assert recovered == Outcome('equal')
        write(patient, tried)
        check(patient, [*acknowledged, tried], tried + BATCH)
