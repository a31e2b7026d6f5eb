"""Reads and writes features, one or many at a time, in the long layout of the table feature_store.

    with FeatureStore(connection) as store:
        store.write_feature('weather', 'temp', 3.5, moment)
        store.get_latest_feature('weather', 'temp')

A value is a double, NaN and the infinities included. Timestamps have millisecond precision. A row with a value that
Python cannot represent, such as a timestamp in the year 55840, is skipped with a warning that names it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from cassandra.cluster import ResultSet, Session
from cassandra.query import UNSET_VALUE, BoundStatement, PreparedStatement

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.checks import checked
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.concurrent import outcomes, size
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency, consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError, SchemaError, TfxCassandraError, WriteError, invalid
from tfx_cassandra.components.feature_store.value import FeatureValue, checked_key
from tfx_cassandra.components.window import TimeWindow, milliseconds

__all__ = ['FeatureStore', 'FeatureValue', 'WriteResult']

_MAX_TTL = 20 * 365 * 86400  # seconds, the limit of Cassandra
_READS_IN_FLIGHT = 128
_DATETIME_RANGE = (-62_135_596_800_000, 253_402_300_800_000)  # milliseconds of the years 1 to 9999, end excluded

_COLUMNS = 'model_id, feature_name, timestamp, value, metadata'
_ONE_FEATURE = 'WHERE model_id = ? AND feature_name = ?'
_CQL = {
    'write': (
        'INSERT INTO {keyspace}.feature_store (model_id, feature_name, timestamp, value, metadata, user_id) '
        'VALUES (?, ?, ?, ?, ?, ?) USING TTL ?'
    ),
    'latest': f'SELECT {_COLUMNS} FROM {{keyspace}}.feature_store {_ONE_FEATURE} ORDER BY timestamp DESC LIMIT 1',
    'latest before': (
        f'SELECT {_COLUMNS} FROM {{keyspace}}.feature_store {_ONE_FEATURE} AND timestamp < ? '
        'ORDER BY timestamp DESC LIMIT 1'
    ),
    'latest of many': (
        f'SELECT {_COLUMNS} FROM {{keyspace}}.feature_store {_ONE_FEATURE} AND timestamp >= ? AND timestamp < ? '
        'ORDER BY timestamp DESC'
    ),
    'series': (
        f'SELECT {_COLUMNS} FROM {{keyspace}}.feature_store {_ONE_FEATURE} AND timestamp >= ? AND timestamp < ? '
        'ORDER BY timestamp ASC'
    ),
}

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class WriteResult:
    """The outcome of one row of `write_features`.

    Attributes:
      index: The position of the row in the input, from 0.
      error: Why it was not written, or None if it was.
    """

    index: int
    error: WriteError | None


class FeatureStore:
    """A client of the table feature_store; a context manager that uses the process's session while it is open.

    A consistency given to a call, by name such as 'QUORUM', applies to that call only.

    Args:
      connection: The cluster and the keyspace.
      consistency: The consistency level of calls that give none.

    Raises:
      ValueError: consistency is not the name of a level.
    """

    @checked
    def __init__(self, connection: CassandraConnection, *, consistency: Consistency = 'LOCAL_QUORUM') -> None:
        self._connection = connection
        self._consistency = consistency
        self._table = f'{connection.keyspace}.feature_store'
        self._open: tuple[Session, dict[str, PreparedStatement]] | None = None

    def __enter__(self) -> FeatureStore:
        """Opens the store.

        Raises:
          UnavailableError: No contact point answers.
          SchemaError: The keyspace has no such table.
        """
        if self._open is not None:
            raise TfxCassandraError(f'{self._table}: the store is already open, rule: one `with` block at a time')
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(connections.session(self._connection))
            try:
                statements = {name: _prepared(session, self._connection.keyspace, cql) for name, cql in _CQL.items()}
            except DRIVER_ERRORS as error:
                rule = f'{one_line(error)}; `tfx-cassandra schema apply` creates it'
                raise SchemaError(f'{self._table}: {rule}') from error
            self._open = (session, statements)
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the session; closing again has no effect."""
        if self._open is not None:
            self._open = None
            self._held.close()

    def write_feature(
        self,
        model_id: str,
        feature_name: str,
        value: float | None,
        timestamp: datetime.datetime,
        metadata: Mapping[str, str] | None = None,
        *,
        consistency: str | None = None,
        ttl: int | None = None,
    ) -> None:
        """Writes one value.

        Args:
          model_id: The model or feature group.
          feature_name: The feature.
          value: The value; None means that it is known to be missing.
          timestamp: Aware datetime in whole milliseconds.
          metadata: Texts by name, or None to keep those of an existing row.
          consistency: The consistency level of this call, or None for that of the store.
          ttl: Seconds until the row expires, or None for the table's default.

        Raises:
          ValueError: An argument breaks its rule.
          WriteError: The cluster did not accept the row.
        """
        row = FeatureValue(model_id, feature_name, timestamp, value, metadata)
        for result in self.write_features([row], consistency=consistency, ttl=ttl):
            if result.error is not None:
                raise result.error

    def write_features(
        self,
        rows: Iterable[FeatureValue],
        *,
        concurrency: int = 128,
        consistency: str | None = None,
        ttl: int | None = None,
    ) -> list[WriteResult]:
        """Writes many values with a bounded number of requests in flight, and returns the outcome of each.

        The input is consumed in the caller's thread, the next row as soon as an earlier one is done. If the input
        raises, the rows before it are sent and waited for, and then the error is raised.

        Rewriting a row without metadata keeps its metadata and user_id: writing nulls instead would cost a tombstone
        for every row without a user.

        Args:
          rows: The values, any number of them.
          concurrency: The maximum number of writes in flight.
          consistency: The consistency level of this call, or None for that of the store.
          ttl: Seconds until the rows expire, or None for the table's default.

        Returns:
          One result per row, in the order of the input.

        Raises:
          ValueError: An argument breaks its rule, or a row is not a FeatureValue.
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise invalid('concurrency', concurrency, 'an integer from 1')
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl <= _MAX_TTL):
            raise invalid('ttl', ttl, f'seconds from 1 to {_MAX_TTL}')
        level = self._level(consistency)
        inserts = ((row, self._write(row, ttl, level)) for row in rows)
        requests = (((row, insert), insert) for row, insert in inserts)
        with tracing.span('write_batch', self._table) as span:
            results = self._written(requests, concurrency)
            span.set(rows=len(results), failed=sum(result.error is not None for result in results))
        return results

    def _written(self, requests: Iterator[Any], concurrency: int) -> list[WriteResult]:
        results, written, failed = [], 0, 0
        found = outcomes(self._opened()[0], requests, concurrency, metrics=metrics.WRITE_REQUESTS)
        for index, ((row, insert), outcome) in enumerate(found):
            if isinstance(outcome, Exception):
                failed += 1
                results.append(WriteResult(index, self._write_error(row, outcome)))
            else:
                written += size(insert)
                results.append(WriteResult(index, None))
        metrics.WRITE_ROWS.add(len(results) - failed, self._table)
        metrics.WRITE_BYTES.add(written, self._table)
        metrics.WRITE_DEAD_LETTERS.add(failed, self._table, 'rejected')
        return results

    def get_latest_feature(
        self,
        model_id: str,
        feature_name: str,
        *,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> FeatureValue | None:
        """Returns the newest value of one feature, or None if it has none: see `get_latest_features`."""
        names = [feature_name]
        return self.get_latest_features(model_id, names, before=before, consistency=consistency)[feature_name]

    def get_latest_features(
        self,
        model_id: str,
        feature_names: Iterable[str],
        *,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> dict[str, FeatureValue | None]:
        """Returns the newest value of each of several features, which are read concurrently, one partition each.

        Args:
          model_id: The model or feature group.
          feature_names: The features.
          before: The exclusive upper bound of the timestamp; None for no bound.
          consistency: The consistency level of this call, or None for that of the store.

        Returns:
          By name, in the order given: the newest value that Python can represent, or None for a feature without any.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer for one of them.
        """
        if isinstance(feature_names, str):
            raise invalid('feature_names', feature_names, 'several names, not one text')
        checked_key('model_id', model_id)
        names = list(dict.fromkeys(checked_key('feature_name', name) for name in feature_names))
        level = self._level(consistency)
        statement = 'latest' if before is None else 'latest before'
        end = None if before is None else milliseconds('before', before)
        bounds = () if end is None else (end,)
        requests = ((name, self._bound(statement, (model_id, name, *bounds), level)) for name in names)
        with tracing.span('lookup', self._table) as span:
            latest = self._latest(model_id, requests, end, level)
            span.set(keys=len(latest), rows=sum(value is not None for value in latest.values()))
        return latest

    def _latest(
        self, model_id: str, requests: Iterator[tuple[str, BoundStatement]], end: int | None, level: int
    ) -> dict[str, FeatureValue | None]:
        latest: dict[str, FeatureValue | None] = {}
        found = outcomes(self._opened()[0], requests, _READS_IN_FLIGHT, metrics=metrics.LOOKUP_REQUESTS)
        for name, outcome in found:
            if isinstance(outcome, Exception):
                raise self._read_error(model_id, name, outcome) from outcome
            latest[name] = self._value(outcome[0]) if outcome else None
            if outcome and latest[name] is None:
                latest[name] = self._latest_of_many(model_id, name, end, level)
        metrics.LOOKUP_KEYS.add(len(latest), self._table)
        metrics.LOOKUP_PAGES.add(len(latest), self._table)
        metrics.LOOKUP_ROWS.add(sum(value is not None for value in latest.values()), self._table)
        return latest

    def _latest_of_many(self, model_id: str, name: str, end: int | None, level: int) -> FeatureValue | None:
        """Returns the newest value that is older than rows whose timestamps no datetime can represent."""
        start, stop = _DATETIME_RANGE
        bounds = (start, stop if end is None else end)
        return next(self._values(self._bound('latest of many', (model_id, name, *bounds), level), model_id, name), None)

    def get_time_series(
        self, model_id: str, feature_name: str, window: TimeWindow, *, consistency: str | None = None
    ) -> Iterator[FeatureValue]:
        """Returns the values of a feature in a window, oldest first, read page by page during iteration.

        Args:
          model_id: The model or feature group.
          feature_name: The feature.
          window: Half-open: a value at its start is included, one at its end is not.
          consistency: The consistency level of this call, or None for that of the store.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer; raised during iteration.
        """
        names = (checked_key('model_id', model_id), checked_key('feature_name', feature_name))
        bound = self._bound('series', (*names, *window.bounds), self._level(consistency))
        return self._values(bound, *names)

    def _values(self, bound: BoundStatement, model_id: str, feature_name: str) -> Iterator[FeatureValue]:
        rows = 0
        try:
            for row in self._first_page(bound):
                rows += 1
                if (value := self._value(row)) is not None:
                    yield value
        except DRIVER_ERRORS as error:
            raise self._read_error(model_id, feature_name, error) from error
        finally:
            metrics.LOOKUP_KEYS.add(1, self._table)
            metrics.LOOKUP_ROWS.add(rows, self._table)

    def _first_page(self, bound: BoundStatement) -> ResultSet:
        request = metrics.LOOKUP_REQUESTS.begin()
        try:
            return self._opened()[0].execute(bound)
        finally:
            request.end()
            request.observe()

    def _value(self, row: Any) -> FeatureValue | None:
        """Returns the value of a row, or None if no FeatureValue can hold it."""
        try:
            return FeatureValue.from_row(row)
        except ValueError as error:  # other clients write the table, too: an invalid row must not hide the rest
            _warn_once(f'{self._table}: a row of {_key(row.model_id, row.feature_name)} is skipped: {error}')
            return None

    def _read_error(self, model_id: str, feature_name: str, error: Exception) -> ReadError:
        return ReadError(f'{self._table}: cannot read {_key(model_id, feature_name)} ({one_line(error)})')

    def _write_error(self, row: FeatureValue, error: Exception) -> WriteError:
        key = f'{_key(row.model_id, row.feature_name)}, timestamp {row.timestamp.isoformat()}'
        write_error = WriteError(f'{self._table}: cannot write {key} ({one_line(error)})')
        write_error.__cause__ = error
        return write_error

    def _write(self, row: FeatureValue, ttl: int | None, level: int) -> BoundStatement:
        if not isinstance(row, FeatureValue):
            raise invalid('rows', row, 'every row is a FeatureValue')
        # An unset value writes nothing; a null would write a tombstone. A value of None is written as a null.
        cells = (
            row.model_id,
            row.feature_name,
            milliseconds('timestamp', row.timestamp),
            row.value,
            UNSET_VALUE if row.metadata is None else row.metadata,
            UNSET_VALUE if row.user_id is None else row.user_id,
            UNSET_VALUE if ttl is None else ttl,
        )
        return self._bound('write', cells, level)

    def _bound(self, statement: str, values: tuple[object, ...], level: int) -> BoundStatement:
        _, statements = self._opened()
        bound = statements[statement].bind(values)
        bound.consistency_level = level
        return bound

    def _level(self, consistency: str | None) -> int:
        return consistency_level(self._consistency if consistency is None else consistency)

    def _opened(self) -> tuple[Session, dict[str, PreparedStatement]]:
        if self._open is None:
            raise TfxCassandraError(f'{self._table}: the store is not open, rule: used inside its `with` block')
        return self._open


def _prepared(session: Session, keyspace: str, cql: str) -> PreparedStatement:
    statement = session.prepare(cql.format(keyspace=quoted(keyspace)))
    # A retry writes the same row, because the driver sets the write time once.
    statement.is_idempotent = True
    return statement


@functools.lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    logger.warning(message)


def _key(model_id: str, feature_name: str) -> str:
    return f'model_id {model_id[:60]!r}, feature_name {feature_name[:60]!r}'
