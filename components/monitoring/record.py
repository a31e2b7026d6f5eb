"""Writes what a round has measured into the table model_metrics."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import BoundStatement

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, WriteError
from tfx_cassandra.components.monitoring.gauges import Measurement, ages

_CONCURRENCY = 8


def record(connection: CassandraConnection, measured: Sequence[Measurement], now: datetime.datetime) -> int:
    """Writes a round at its time, idempotently; returns the number of rows.

    The model_id is that of the view or the model, and the name that of the metric with its other labels, such as
    `feature_drift_psi{feature=temp}`. Infinite ages are left out.

    Raises:
      SchemaError: The keyspace lacks `model_metrics`.
      WriteError: A row could not be written.
    """
    written = 0
    try:
        with connections.session(connection) as session:
            statements = enumerate(_inserts(session, connection.keyspace, measured, now))
            for _, outcome in outcomes(session, statements, _CONCURRENCY):
                if isinstance(outcome, Exception):
                    raise WriteError(f'model_metrics: {one_line(outcome)}') from outcome
                written += 1
    except InvalidRequest as error:
        rule = f'a keyspace with the schema applied ({one_line(error)})'
        raise SchemaError(f'keyspace: got {connection.keyspace!r}, rule: {rule}') from error
    except DRIVER_ERRORS as error:
        raise WriteError(f'model_metrics: {one_line(error)}') from error
    return written


def _inserts(
    session: Session, keyspace: str, measured: Sequence[Measurement], now: datetime.datetime
) -> Iterator[BoundStatement]:
    insert = session.prepare(
        f'INSERT INTO {quoted(keyspace)}.model_metrics (model_id, metric_name, timestamp, value, tags)'
        ' VALUES (?, ?, ?, ?, ?)'
    )
    insert.is_idempotent = True  # one key, one value
    for metric, labels, value in [*measured, *ages(measured, now.timestamp())]:
        if labels and math.isfinite(value):
            tags = dict(zip(metric.labels, labels, strict=True))
            model_id, *others = labels
            name = ','.join(f'{key}={text}' for key, text in zip(metric.labels[1:], others, strict=True))
            short = metric.name.removeprefix('tfx_cassandra_')
            yield insert.bind((model_id, f'{short}{{{name}}}', now, value, tags))
