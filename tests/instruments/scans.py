"""Runs the public read in a Beam pipeline, and a plain driver loop over the same table to compare it with."""

from __future__ import annotations

import datetime
import pathlib
import pickle
import tempfile
import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.test_pipeline import TestPipeline
from cassandra.cluster import Session

from tfx_cassandra.components import CassandraBackup, ReadFromCassandra, ReadFromSSTables
from tfx_cassandra.components.driver.connection import CassandraConnection


def read_batches(source: CassandraConnection | CassandraBackup, table: str, **options: Any) -> list[pa.RecordBatch]:
    """Runs ReadFromCassandra, or ReadFromSSTables; batches come by way of files, since Beam pickles every closure."""
    reading = ReadFromSSTables if isinstance(source, CassandraBackup) else ReadFromCassandra
    with tempfile.TemporaryDirectory() as folder:
        with TestPipeline() as pipeline:
            _ = pipeline | reading(source, table, **options) | beam.Map(_save, folder)
        return [pickle.loads(path.read_bytes()) for path in pathlib.Path(folder).iterdir()]


def read_rows(connection: CassandraConnection, table: str, **options: Any) -> list[tuple]:
    """Runs ReadFromCassandra; returns its rows, sorted."""
    return sorted(row for batch in read_batches(connection, table, **options) for row in rows_of(batch))


def rows_of(batch: pa.RecordBatch) -> Iterable[tuple]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def looped_rows(session: Session, connection: CassandraConnection, table: str, columns: str) -> list[tuple]:
    """The oracle: one driver loop over the whole table; returns its rows, sorted."""
    return sorted(map(_aware, session.execute(f'SELECT {columns} FROM {connection.keyspace}.{table}', timeout=120)))


def _aware(row: tuple) -> tuple:
    utc = datetime.timezone.utc
    return tuple(value.replace(tzinfo=utc) if isinstance(value, datetime.datetime) else value for value in row)


def _save(batch: pa.RecordBatch, folder: str) -> None:
    (pathlib.Path(folder) / uuid.uuid4().hex).write_bytes(pickle.dumps(batch))
