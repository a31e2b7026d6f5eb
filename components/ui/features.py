"""Freshness of features and the share that is missing, from a bounded number of small reads.

A sample of entities is taken from one place of the ring on: tokens are hashes, so the entities behind any token are as
good as drawn by lot. The newest row of each is read by key. Nothing is scanned.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import BoundStatement, PreparedStatement

from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView, Source
from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.responses import Unreadable, utc
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.lookup.latest import plan_lookup
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN

_IN_FLIGHT = 16  # reads by key at once
_MAX_FEATURES = 50  # of a long view, each of which is a read of its own
DEFAULT_VIEW = 'feature_store'

Values = tuple[Any, ...]
Found = tuple[datetime.datetime | None, Any]  # (time of the newest row, value)


@dataclasses.dataclass(frozen=True)
class Freshness:
    """How fresh a feature is in the sample.

    Attributes:
      view: Name of the view.
      feature: Name of the feature in the examples.
      entities: Entities of the sample.
      newest: The newest time of a value; None without one.
      median_age: Median age of the entities' newest values; None without one.
      missing: Share of the entities without a value that counts: none, null, or older than the view's ttl.
      stale: Whether the newest value itself is older than the ttl.
    """

    view: str
    feature: str
    entities: int
    newest: datetime.datetime | None
    median_age: datetime.timedelta | None
    missing: float
    stale: bool = False


class Sampler:
    """Measures views on a sample of entities, the same one each time.

    Args:
      session: The driver's session.
      keyspace: Keyspace of the tables.
      entities: Size of the sample.
      start: The token behind which the sample begins.
    """

    def __init__(self, session: Session, keyspace: str, entities: int, start: int) -> None:
        self._session, self._keyspace, self._entities, self._start = session, keyspace, entities, start

    def measure(self, view: FeatureView, now: datetime.datetime) -> list[Freshness]:
        """Measures a view's features.

        Raises:
          SchemaError: The table is not there, or has no key by which the view's newest values are found.
        """
        table = describe(self._session, self._keyspace, view.table)
        lookup = plan_lookup(view, table, by_time=False)
        names = [feature.name for feature in view.full_features][:_MAX_FEATURES]
        before_time = _before(table, view.timestamp_column)
        fixed = dict(lookup.where)
        keys = {
            tuple(row[column] for column in view.entity_columns): None
            for row in self._first_rows(table, before_time)
            if all(row[column] == value for column, value in fixed.items())
        }
        statement = self._prepare(_newest(view, table, tuple(fixed)))
        long = view.feature_name_column is not None
        requests = [
            (key, name, (*key, *fixed.values(), *([name] if long else [])))
            for key in keys
            for name in (names if long else [''])
        ]
        found: dict[str, list[Found]] = {name: [] for name in names}
        for (_, name), row in self._rows(statement, requests):
            for feature in view.full_features[:_MAX_FEATURES]:
                if not long or feature.name == name:
                    found[feature.name].append(_found(view, feature, row))
        return [_freshness(view, feature, found[feature.name], now) for feature in view.full_features[:_MAX_FEATURES]]

    def discovered(self, now: datetime.datetime) -> list[Freshness]:
        """Measures what `feature_store` holds: the newest value of each model and feature in the sample."""
        table = describe(self._session, self._keyspace, DEFAULT_VIEW)
        columns = ('model_id', 'feature_name', 'timestamp', 'value')
        measured = []
        for row in self._first_rows(table, columns):
            at, value = _time(row['timestamp']), row['value']
            missing = float(value is None or isinstance(value, Unreadable))
            age = None if at is None else now - at
            measured.append(Freshness(str(row['model_id']), str(row['feature_name']), 1, at, age, missing))
        return sorted(measured, key=lambda found: (found.view, found.feature))

    def _first_rows(self, table: Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields columns of the first row of each partition of the sample."""
        token = f'token({", ".join(map(quoted, table.partition_key))})'
        wanted = self._entities
        for start, end in ((self._start, MAX_TOKEN), (MIN_TOKEN, self._start)):
            if wanted and start < end:
                cql = (
                    f'SELECT {", ".join(map(quoted, columns))} FROM {quoted(table.keyspace)}.{quoted(table.name)} '
                    f'WHERE {token} > ? AND {token} <= ? PER PARTITION LIMIT 1 LIMIT ?'
                )
                rows = self._session.execute(self._prepare(cql), (start, end, wanted)).all()
                wanted -= len(rows)
                yield from (dict(zip(columns, row, strict=True)) for row in rows)

    def _rows(
        self, statement: PreparedStatement, requests: Sequence[tuple[Values, str, Values]]
    ) -> Iterator[tuple[tuple[Values, str], Any]]:
        def bound() -> Iterator[tuple[tuple[Values, str], BoundStatement]]:
            for key, name, values in requests:
                yield (key, name), statement.bind(values)

        for key, outcome in outcomes(self._session, bound(), _IN_FLIGHT):
            if isinstance(outcome, Exception):
                raise outcome
            yield key, outcome[0] if outcome else None

    def _prepare(self, cql: str) -> PreparedStatement:
        statement = self._session.prepare(cql)
        statement.consistency_level = ConsistencyLevel.LOCAL_ONE
        return statement


def start_token() -> int:
    """Returns a token drawn by lot."""
    return random.randrange(MIN_TOKEN, MAX_TOKEN)


def _before(table: Table, time: str | None) -> tuple[str, ...]:
    key = (*table.partition_key, *table.clustering)
    return key[: key.index(time)] if time in key else key


def _newest(view: FeatureView, table: Table, fixed: Sequence[str]) -> str:
    """Returns the statement for the newest row of an entity."""
    equal = [*view.entity_columns, *fixed, *filter(None, [view.feature_name_column])]
    if view.timestamp_column is None:  # no such view can be monitored
        raise SchemaError(f'view {view.name}: got no timestamp_column, rule: a view with one')
    time = quoted(view.timestamp_column)
    order = f' ORDER BY {time} DESC' if view.timestamp_column in table.clustering else ''
    columns = ', '.join([time, *map(quoted, view.value_columns)])
    where = ' AND '.join(f'{quoted(column)} = ?' for column in equal)
    return f'SELECT {columns} FROM {quoted(table.keyspace)}.{quoted(table.name)} WHERE {where}{order} LIMIT 1'


def _found(view: FeatureView, feature: Feature, row: Any) -> Found:
    if row is None:
        return None, None
    source: Source = view.source(feature)
    value = row[1 + view.value_columns.index(source.column)]
    if source.key is not None:
        value = value.get(source.key) if isinstance(value, Mapping) else None
    return _time(row[0]), None if isinstance(value, Unreadable) else value


def _time(value: Any) -> datetime.datetime | None:
    return utc('time', value) if isinstance(value, datetime.datetime) else None


def _freshness(view: FeatureView, feature: Feature, found: Sequence[Found], now: datetime.datetime) -> Freshness:
    times = [at for at, value in found if at is not None and value is not None]
    known = [at for at in times if view.ttl is None or now - at < view.ttl]
    newest = max(times, default=None)
    median = statistics.median((now - at).total_seconds() for at in times) if times else None
    return Freshness(
        view.name,
        view.example_name(feature),
        len(found),
        newest,
        None if median is None else datetime.timedelta(seconds=median),
        1 - len(known) / len(found) if found else 1.0,
        stale=bool(times) and not known,
    )
