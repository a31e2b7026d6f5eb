"""A ring with data, a writer that never rests, and the model that results under faults are compared with."""

from __future__ import annotations

import collections
import contextlib
import datetime
import pathlib
import shlex
import threading
import time
import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import role_uses
from apache_beam.testing.test_pipeline import TestPipeline
from cassandra.cluster import Session
from fault_ring import FaultRing
from scans import read_batches, rows_of
from tfx.types import standard_artifacts

from tfx_cassandra.components import CassandraBackup, FeatureStore, WriteToCassandra, schema
from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.distribution import find_distribution
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.devcluster.naming import rmi_options
from tfx_cassandra.components.devcluster.node import JVM_OPTIONS
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.feature_store.client import FeatureValue
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

BASE_ROWS = 4000
_KEYS = 200


class MismatchError(AssertionError):
    """A result that is not the model's, and says that it is complete."""


def value_of(k: int, n: int) -> str:
    return f'{k}/{n}'


class Writer(threading.Thread):
    """Writes rows of `numbers` all the time, and knows which were tried and which acknowledged at QUORUM."""

    def __init__(self, connection: CassandraConnection, keyspace: str = 'faulty') -> None:
        super().__init__(daemon=True)
        self._connection, self._keyspace = connection, keyspace
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._tried: set[tuple[int, int]] = set()
        self._acknowledged: set[tuple[int, int]] = set()

    def run(self) -> None:
        with connections.session(self._connection) as session:
            insert = session.prepare(f'INSERT INTO {self._keyspace}.numbers (k, n, v) VALUES (?, ?, ?)')
            insert.consistency_level = 4  # QUORUM
            n = BASE_ROWS
            while not self._ended.is_set():
                key = (n % _KEYS, n)
                with self._lock:
                    self._tried.add(key)
                with contextlib.suppress(Exception):
                    session.execute(insert, (*key, value_of(*key)), timeout=5)
                    with self._lock:
                        self._acknowledged.add(key)
                n += 1
                time.sleep(0.04)

    def end(self) -> None:
        self._ended.set()
        self.join(30)

    @property
    def tried(self) -> set[tuple[int, int]]:
        with self._lock:
            return set(self._tried)

    @property
    def acknowledged(self) -> set[tuple[int, int]]:
        with self._lock:
            return set(self._acknowledged)


class Place:
    """A ring with data, a writer that never rests, and what each path gives without a fault.

    Attributes:
      ring: The ring.
      folder: A folder for files.
      writer: The writer.
      examples: The records of the training set, sorted.
      nodetool: A program that runs nodetool for the node whose address at its proxy is the first argument.
      verdict: The verdict of the A/B test, or None as long as it was not made.
    """

    def __init__(self, ring: FaultRing, folder: pathlib.Path) -> None:
        self.ring, self.folder = ring, folder
        self.verdict: bytes | None = None
        for node, host in zip(ring.cluster.ring, ring.connection.contact_points, strict=True):
            (folder / host).symlink_to(node.folder / 'data')
        self.nodetool = nodetool_script(ring, folder / 'nodetool')
        schema.apply(ring.straight, schema.NetworkReplication({'dc1': 3}))
        with connections.session(ring.straight) as session:
            for table in ('numbers', 'written', 'ingested'):
                session.execute(f'CREATE TABLE faulty.{table} (k int, n int, v text, PRIMARY KEY (k, n))')
            session.execute(role_uses.TABLE.format(keyspace='faulty'))
            self.write(session, 'numbers', base_rows())
        hours = [role_uses.NOON + datetime.timedelta(minutes=n) for n in range(0, 300, 3)]
        with FeatureStore(ring.straight) as store:
            values = [FeatureValue(f'A{n % 7}', 'temp', at, float(n)) for n, at in enumerate(hours)]
            assert not [result for result in store.write_features(values) if result.error]
        events = [{'model_id': f'A{n % 7}', 'left': at, 'late': n % 3 == 0} for n, at in enumerate(hours)]
        with TestPipeline() as pipeline:
            _ = pipeline | beam.Create(events) | WriteToCassandra(ring.straight, 'trips')
        self.writer = Writer(ring.connection)
        self.writer.start()
        self.examples = self.training_set()
        assert len(self.examples) == len(hours)

    def write(self, session: Session, table: str, keys: Iterable[tuple[int, int]]) -> None:
        """Writes rows at QUORUM by TableWriter; raises RuntimeError where one was not acknowledged."""
        keys = list(keys)
        writer = TableWriter(session, tables.describe(session, 'faulty', table), WriteOptions(consistency='QUORUM'))
        if failures := writer.write(batch_of(keys)):
            raise RuntimeError(failures[0].message)

    @property
    def least(self) -> set[tuple[int, int]]:
        """The rows of `numbers` that have to be there from now on."""
        return self.writer.acknowledged | base_rows()

    @property
    def most(self) -> set[tuple[int, int]]:
        """The rows of `numbers` that may be there by now."""
        return self.writer.tried | base_rows()

    def rows(
        self, table: str, source: CassandraConnection | CassandraBackup | None = None, **options: Any
    ) -> dict[tuple[int, int], str]:
        """Reads a table, past the proxies unless a source is given; raises MismatchError for a row that comes twice."""
        options |= {} if isinstance(source, CassandraBackup) else {'consistency': 'QUORUM'}
        return read_once(source or self.ring.straight, table, **options)

    def training_set(self) -> list[bytes]:
        """Makes a training set of point-in-time joins through the proxies; returns its records, sorted."""
        import tensorflow as tf

        folder = self.folder / uuid.uuid4().hex
        artifact = standard_artifacts.Examples()
        artifact.uri = str(folder)
        component = role_uses.CassandraExampleGen(
            self.ring.connection, role_uses.WEATHER, role_uses.TRIPS, window=role_uses.WINDOW, consistency='QUORUM',
            availability_cut_off=False,
        )  # fmt: skip
        role_uses.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
        files = sorted(map(str, folder.glob('Split-*/data_tfrecord-*')))
        return sorted(tf.data.TFRecordDataset(files, 'GZIP').as_numpy_iterator())


def nodetool_script(ring: FaultRing, path: pathlib.Path) -> pathlib.Path:
    """Writes a program that runs nodetool, as quickly as it can be had."""
    cache = cache_folder()
    java = find_java(cache)
    options = rmi_options(java, find_distribution(cache, version=ring.cluster.version), cache)
    quiet = f'-Dlogback.configurationFile={ring.cluster.ring[0].folder}/logback-tools.xml'
    quick = [f'@{JVM_OPTIONS}', '-Xmx64M', '-XX:TieredStopAtLevel=1', quiet]
    command = shlex.join([str(java), *quick, *options, 'org.apache.cassandra.tools.NodeTool'])
    port = ring.cluster.jmx_port - 1
    path.write_text(f"""#!/bin/sh
number=${{1##*.1}}
shift
exec {command} -h 127.0.0.1 -p $(({port} + number)) "$@"
""")
    path.chmod(0o755)
    return path


def read_once(source: CassandraConnection | CassandraBackup, table: str, **options: Any) -> dict[tuple[int, int], str]:
    """Reads a table of the columns k, n and v; raises MismatchError for a row that comes twice."""
    batches = read_batches(source, table, columns=['k', 'n', 'v'], **options)
    rows = [row for batch in batches for row in rows_of(batch)]
    doubled = [key for key, count in collections.Counter((k, n) for k, n, _ in rows).items() if count > 1]
    if doubled:
        raise MismatchError(f'{table}: {len(doubled)} rows came twice, such as {doubled[0]}')
    return {(k, n): v for k, n, v in rows}


def base_rows() -> set[tuple[int, int]]:
    """Returns the keys of the rows that `numbers` begins with."""
    return {(n % _KEYS, n) for n in range(BASE_ROWS)}


def batch_of(keys: list[tuple[int, int]]) -> pa.RecordBatch:
    k, n = (np.array(column, np.int32) for column in zip(*keys, strict=True))
    return pa.RecordBatch.from_pydict({'k': k, 'n': n, 'v': [value_of(*key) for key in keys]})


def compare(found: dict[tuple[int, int], str], least: set[tuple[int, int]], most: set[tuple[int, int]]) -> None:
    """Raises MismatchError unless what was found has all of `least`, nothing beyond `most`, and the values written."""
    if missing := least - set(found):
        raise MismatchError(f'{len(missing)} acknowledged rows are missing, such as {min(missing)}')
    if strange := set(found) - most:
        raise MismatchError(f'{len(strange)} rows were never written, such as {min(strange)}')
    if wrong := [key for key, value in found.items() if value != value_of(*key)]:
        raise MismatchError(f'{len(wrong)} rows have other values, such as {wrong[0]}: {found[wrong[0]]!r}')
