"""A round of the monitor: reads the windows of every view and the logs of every model, and measures them."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.errors import ReadError, SchemaError
from tfx_cassandra.components.monitoring import gauges, skew, windows
from tfx_cassandra.components.monitoring.config import Monitoring
from tfx_cassandra.components.monitoring.drift import QUANTILES, drift
from tfx_cassandra.components.monitoring.gauges import Measurement
from tfx_cassandra.components.monitoring.windows import Held
from tfx_cassandra.components.window import TimeWindow, shifted

_PAGE = 1000  # partitions listed at once


def measure(connection: CassandraConnection, settings: Monitoring, now: datetime.datetime) -> list[Measurement]:
    """Runs a round.

    Args:
      connection: The cluster and keyspace; a user with SELECT is enough.
      settings: What is monitored.
      now: The end of the current window, itself not in it.

    Raises:
      SchemaError, ReadError, DatasetError: Something could not be read.
    """
    began = time.monotonic()
    middle = shifted('current', now, -settings.current)
    reference = TimeWindow(shifted('reference', middle, -settings.reference), middle)
    current = TimeWindow(middle, now)
    views = settings.views or stored(connection, settings.load.rows_per_second)
    measured: list[Measurement] = []
    for view in views:
        held = {
            name: windows.read(connection, view, window, settings.load)
            for name, window in (('reference', reference), ('current', current))
        }
        measured += _of_view(view.name, held)
    joined = settings.views or (_stored_view('feature_store', [f for v in views for f in v.example_names]),)
    for check in settings.skew:
        for feature, found in skew.compare(connection, check, joined, current, settings.load).items():
            measured += _of_skew((check.model_id, feature), found)
    measured.append(Measurement(gauges.ROUND_SECONDS, (), time.monotonic() - began))
    measured.append(Measurement(gauges.ROUND_TIME, (), time.time()))
    return measured


def stored(connection: CassandraConnection, partitions_per_second: float | None) -> tuple[FeatureView, ...]:
    """Returns a view of all features of each model or group of features in the table feature_store.

    Raises:
      ReadError: The table could not be read.
    """
    features: dict[str, list[str]] = {}
    table = f'{quoted(connection.keyspace)}.feature_store'
    try:
        with connections.session(connection) as session:
            # A layout splits a feature into several partitions.
            key = ', '.join(map(quoted, describe(session, connection.keyspace, 'feature_store').partition_key))
            statement = SimpleStatement(
                f'SELECT DISTINCT {key} FROM {table}', fetch_size=_PAGE, consistency_level=ConsistencyLevel.LOCAL_ONE
            )
            result = session.execute(statement)
            while True:
                for row in result.current_rows:
                    features.setdefault(row.model_id, []).append(row.feature_name)
                if not result.has_more_pages:
                    break
                time.sleep(_PAGE / partitions_per_second if partitions_per_second else 0.0)
                result.fetch_next_page()
    except (SchemaError, *DRIVER_ERRORS) as error:
        raise ReadError(f'{table}: cannot list its features ({one_line(error)})') from error
    return tuple(
        dataclasses.replace(_stored_view(model_id, names), where={'model_id': model_id})
        for model_id, names in sorted(features.items())
    )


def _stored_view(name: str, features: Iterable[str]) -> FeatureView:
    return FeatureView(
        name, 'feature_store', ('model_id',), 'timestamp', tuple(sorted(set(features))), layout='long',
        feature_name_column='feature_name', value_column='value',
    )  # fmt: skip


def _of_view(view: str, held: Mapping[str, Mapping[str, Held]]) -> Iterator[Measurement]:
    for feature, current in held['current'].items():
        reference, key = held['reference'][feature], (view, feature)
        newest = max((part.newest for part in (reference, current) if part.newest is not None), default=0)
        yield Measurement(gauges.NEWEST, key, newest / 1000)
        for window, part in (('reference', reference), ('current', current)):
            yield from _of_window((*key, window), part)
        if _has_values(reference) and _has_values(current):
            yield from _of_drift(key, reference, current)


def _has_values(part: Held) -> bool:
    return part.values is not None and len(part.values) > 0


def _of_window(key: tuple[str, ...], part: Held) -> Iterator[Measurement]:
    yield Measurement(gauges.VALUES, key, float(part.rows - part.missing))
    if part.rows:
        yield Measurement(gauges.MISSING, key, part.missing / part.rows)
    if part.values is not None and len(part.values):
        yield Measurement(gauges.MEAN, key, float(np.mean(part.values)))
        for quantile, value in zip(QUANTILES, np.quantile(part.values, QUANTILES), strict=True):
            yield Measurement(gauges.QUANTILE, (*key, str(quantile)), float(value))


def _of_drift(key: tuple[str, ...], reference: Held, current: Held) -> Iterator[Measurement]:
    assert reference.values is not None  # noqa: S101
    assert current.values is not None  # noqa: S101
    found = drift(reference.values, current.values)
    yield Measurement(gauges.DRIFT_PSI, key, found.psi)
    yield Measurement(gauges.DRIFT_KS, key, found.ks)
    yield Measurement(gauges.DRIFT_KS_P, key, found.ks_p_value)
    if found.mean is not None:
        yield Measurement(gauges.DRIFT_MEAN, key, found.mean)
    for quantile, value in zip(QUANTILES, found.quantiles, strict=True):
        if value is not None:
            yield Measurement(gauges.DRIFT_QUANTILE, (*key, str(quantile)), value)


def _of_skew(key: tuple[str, ...], found: skew.Skew) -> Iterator[Measurement]:
    yield Measurement(gauges.SKEW_VALUES, key, float(found.compared))
    yield Measurement(gauges.SKEW_RATIO, key, found.differing / found.compared)
    if found.both:
        yield Measurement(gauges.SKEW_DIFFERENCE, key, found.difference / found.both)
