"""Writes what a round has measured into the table model_metrics."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.monitoring.gauges import Measurement, ages
from tfx_cassandra.components.write.model_metrics import MetricRow, write_metrics


def record(connection: CassandraConnection, measured: Sequence[Measurement], now: datetime.datetime) -> int:
    """Writes a round at its time, idempotently; returns the number of rows.

    The model_id is that of the view or the model, and the name that of the metric with its other labels, such as
    `feature_drift_psi{feature=temp}`. Infinite ages are left out.

    Raises:
      SchemaError: The keyspace lacks `model_metrics`.
      WriteError: A row could not be written.
    """
    return write_metrics(connection, _rows(measured, now))


def _rows(measured: Sequence[Measurement], now: datetime.datetime) -> Iterator[MetricRow]:
    for metric, labels, value in [*measured, *ages(measured, now.timestamp())]:
        if labels and math.isfinite(value):
            tags = dict(zip(metric.labels, labels, strict=True))
            model_id, *others = labels
            name = ','.join(f'{key}={text}' for key, text in zip(metric.labels[1:], others, strict=True))
            short = metric.name.removeprefix('tfx_cassandra_')
            yield MetricRow(model_id, f'{short}{{{name}}}', now, value, tags)
