"""What is done while a node fails, and the model that its result is compared with.

A path is a function of a Place and a seed. It raises what the package raises, and MismatchError where the package said
that all is well while a row is missing, doubled, or another one than was written.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import io
import json
import pathlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable
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

from tfx_cassandra.components import FeatureStore, InferenceLogger, ModelRegistry, WriteToCassandra, schema
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.feature_store.client import FeatureValue
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

BASE_ROWS = 4000
_KEYS = 200
_DAY = datetime.timedelta(days=1)


class MismatchError(AssertionError):
    """A result that is not the model's, and says that it is complete."""


def value_of(k: int, n: int) -> str:
    return f'{k}/{n}'


class Writer(threading.Thread):
    """Writes rows of `numbers` all the time, and knows which were tried and which acknowledged at QUORUM."""

    def __init__(self, ring: FaultRing) -> None:
        super().__init__(daemon=True)
        self._ring = ring
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._tried: set[tuple[int, int]] = set()
        self._acknowledged: set[tuple[int, int]] = set()

    def run(self) -> None:
        with connections.session(self._ring.connection) as session:
            insert = session.prepare('INSERT INTO faulty.numbers (k, n, v) VALUES (?, ?, ?)')
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
                time.sleep(0.02)

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
    """

    def __init__(self, ring: FaultRing, folder: pathlib.Path) -> None:
        self.ring, self.folder = ring, folder
        schema.apply(ring.straight, schema.NetworkReplication({'dc1': 3}))
        with connections.session(ring.straight) as session:
            for table in ('numbers', 'written', 'ingested'):
                session.execute(f'CREATE TABLE faulty.{table} (k int, n int, v text, PRIMARY KEY (k, n))')
            session.execute(role_uses.TABLE.format(keyspace='faulty'))
            self.write(session, 'numbers', [(n % _KEYS, n) for n in range(BASE_ROWS)])
        hours = [role_uses.NOON + datetime.timedelta(minutes=n) for n in range(0, 300, 3)]
        with FeatureStore(ring.straight) as store:
            values = [FeatureValue(f'A{n % 7}', 'temp', at, float(n)) for n, at in enumerate(hours)]
            assert not [result for result in store.write_features(values) if result.error]
        events = [{'model_id': f'A{n % 7}', 'left': at, 'late': n % 3 == 0} for n, at in enumerate(hours)]
        with TestPipeline() as pipeline:
            _ = pipeline | beam.Create(events) | WriteToCassandra(ring.straight, 'trips')
        self.writer = Writer(ring)
        self.writer.start()
        self.examples = self.training_set()
        assert len(self.examples) == len(hours)

    def write(self, session: Session, table: str, keys: Iterable[tuple[int, int]]) -> None:
        """Writes rows at QUORUM by TableWriter; raises RuntimeError where one was not acknowledged."""
        keys = list(keys)
        writer = TableWriter(session, tables.describe(session, 'faulty', table), WriteOptions(consistency='QUORUM'))
        if failures := writer.write(batch_of(keys)):
            raise RuntimeError(failures[0].message)

    def rows(self, table: str, through: bool = False, **options: Any) -> dict[tuple[int, int], str]:
        """Reads a table past the proxies, or `through` them; raises MismatchError for a row that comes twice."""
        connection = self.ring.connection if through else self.ring.straight
        batches = read_batches(connection, table, columns=['k', 'n', 'v'], consistency='QUORUM', **options)
        rows = [row for batch in batches for row in rows_of(batch)]
        doubled = [key for key, count in collections.Counter((k, n) for k, n, _ in rows).items() if count > 1]
        if doubled:
            raise MismatchError(f'{table}: {len(doubled)} rows came twice, such as {doubled[0]}')
        return {(k, n): v for k, n, v in rows}

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


def read(place: Place, seed: int) -> None:
    base = {(n % _KEYS, n) for n in range(BASE_ROWS)}
    least = place.writer.acknowledged | base
    found = place.rows('numbers', through=True, page_rows=500)
    compare(found, least, place.writer.tried | base)


def join(place: Place, seed: int) -> None:
    if place.training_set() != place.examples:
        raise MismatchError('the training set has other examples than without a fault')


def write(place: Place, seed: int) -> None:
    keys = [(n % 50, seed * 10_000 + n) for n in range(3000)]
    failed = place.folder / f'failed-{seed}'
    rows = [{'k': k, 'n': n, 'v': value_of(k, n)} for k, n in keys]
    with TestPipeline() as pipeline:
        writing = WriteToCassandra(place.ring.connection, 'written', consistency='QUORUM', max_errors=len(rows))
        result = pipeline | beam.Create(rows) | writing
        _ = (
            result.failed
            | beam.Map(lambda row: json.dumps([row.row['k'], row.row['n']]))
            | beam.io.WriteToText(str(failed))
        )
    refused = {tuple(json.loads(line)) for path in failed.parent.glob(f'{failed.name}-*') for line in path.open()}
    place.ring.wait_whole()
    found = {key: v for key, v in place.rows('written').items() if key[1] // 10_000 == seed}
    compare(found, set(keys) - refused, set(keys))
    if refused:
        raise TfxCassandraError(f'{len(refused)} rows named as failed')


def ingest(place: Place, seed: int) -> None:
    keys = [(n % 50, seed * 10_000 + n) for n in range(3000)]
    file, checkpoint = place.folder / f'{seed}.jsonl', place.folder / f'{seed}.checkpoint'
    file.write_text(''.join(json.dumps({'k': k, 'n': n, 'v': value_of(k, n)}) + '\n' for k, n in keys))
    connection = place.ring.connection
    where = ['--contact-points', ','.join(connection.contact_points), '--keyspace', 'faulty']
    arguments = ['ingest', 'ingested', file, '--checkpoint', checkpoint, '--max-errors', 0, *where]
    said = ''
    for _ in range(2):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main([str(argument) for argument in arguments])
        if code == 0:
            break
        said = errors.getvalue().strip().splitlines()[-1]
        place.ring.wait_whole()
    if code:
        raise MismatchError(f'ingest did not end after the fault: {said}')
    place.ring.wait_whole()
    found = {key: v for key, v in place.rows('ingested').items() if key[1] // 10_000 == seed}
    compare(found, set(keys), set(keys))
    if said:
        raise TfxCassandraError(said)


def register(place: Place, seed: int) -> None:
    """Pushes of three threads: each acknowledged version has one row, and the alias moved once for each promotion."""
    experiment, recorded, errors = f'e{seed}', [], []

    def push(number: int) -> None:
        with ModelRegistry(place.ring.connection) as registry:
            for round_ in range(3):
                try:
                    claim = registry.claim(experiment, 'm', f'{number}-{round_}')
                    version = ModelVersion(experiment, 'm', str(claim.version), claim.created_at, {'auc': 0.5})
                    registry.record(version)
                    recorded.append(version.version)
                    registry.promote(experiment, 'champion', 'm', version.version)
                except TfxCassandraError as error:
                    errors.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.ring.wait_whole()
    with ModelRegistry(place.ring.straight) as registry:
        rows = collections.Counter(version.version for version in registry.list(experiment))
        moves = registry.history(experiment, 'champion')
        current = registry.alias(experiment, 'champion')
    if missing := set(recorded) - set(rows):
        raise MismatchError(f'recorded versions are missing: {sorted(missing)}')
    if [version for version, count in rows.items() if count > 1] or len(recorded) != len(set(recorded)):
        raise MismatchError('a version has two rows')
    if moves and (current is None or current.version != moves[0].version):
        raise MismatchError('the alias does not point where its last move went')
    if errors:
        raise errors[0]


def serve(place: Place, seed: int) -> None:
    """Features that were acknowledged are read back, at QUORUM both."""
    model, acknowledged = f'm{seed}', {}
    with FeatureStore(place.ring.connection) as store:
        failure: TfxCassandraError | None = None
        for n in range(150):
            try:
                store.write_feature(model, f'f{n % 10}', float(n), role_uses.NOON + n * _DAY, consistency='QUORUM')
                acknowledged[f'f{n % 10}', n] = float(n)
            except TfxCassandraError as error:
                failure = error
            try:
                found = store.get_latest_feature(model, f'f{n % 10}', consistency='QUORUM')
            except TfxCassandraError as error:
                failure = error
                continue
            newest = max((m for f, m in acknowledged if f == f'f{n % 10}'), default=None)
            if newest is not None and (found is None or found.value < newest or found.value > n):
                raise MismatchError(f'f{n % 10}: got {found}, but {newest} was acknowledged')
    if failure is not None:
        raise failure


def log(place: Place, seed: int) -> None:
    """What the logger counts as written is there; the rest it counts as failed or dropped."""
    experiment = f'log{seed}'
    with InferenceLogger(place.ring.connection, experiment, consistency='QUORUM') as logger:
        for n in range(2000):
            at = role_uses.NOON + datetime.timedelta(seconds=n)
            logger.log('m', 0.5, request_id=uuid.UUID(int=seed << 32 | n), timestamp=at, unit=str(n))
        logger.flush(90)
        counts = logger.counts
    if counts.accepted + counts.dropped != 2000 or counts.written + counts.failed > counts.accepted:
        raise MismatchError(f'the counts do not add up: {counts}')
    place.ring.wait_whole()
    columns = ['model_id', 'timestamp', 'request_id', 'experiment_id']
    batches = read_batches(place.ring.straight, 'inference_results', columns=columns, consistency='QUORUM')
    found = [row for batch in batches for row in rows_of(batch) if row[3] == experiment]
    if len(found) != len(set(found)) or not counts.written <= len(found) <= counts.accepted:
        raise MismatchError(f'{len(found)} rows are there, {len(set(found))} of them different, but {counts}')
    if counts.failed or counts.dropped:
        raise TfxCassandraError(f'counted as not written: {counts}')


PATHS: dict[str, Callable[[Place, int], None]] = {
    'read': read,
    'join': join,
    'write': write,
    'ingest': ingest,
    'registry': register,
    'feature store': serve,
    'inference log': log,
}
