"""Writes rows of the table model_metrics: time series of models and of their features."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import NamedTuple

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, WriteError
from tfx_cassandra.components.write.writer import TableWriter

TABLE = 'model_metrics'


class MetricRow(NamedTuple):
    """A value of a metric at a time; the fields are the columns of `model_metrics`."""

    model_id: str
    metric_name: str
    timestamp: datetime.datetime
    value: float
    tags: dict[str, str]


def write_metrics(connection: CassandraConnection, rows: Iterable[MetricRow]) -> int:
    """Writes rows, idempotently, and again once what nodes did not take; returns their number.

    Raises:
      SchemaError: The keyspace lacks `model_metrics`.
      WriteError: A row was not written, or the table lacks a column.
    """
    written = [row._asdict() for row in rows]
    with connections.session(connection) as session:
        try:
            table = tables.describe(session, connection.keyspace, TABLE)
        except SchemaError as error:
            raise SchemaError(f'{error}; `tfx-cassandra schema apply` creates it') from error
        for failure in TableWriter(session, table).write(written):
            raise WriteError(f'{TABLE}: {failure.message}')
    return len(written)
