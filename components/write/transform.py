"""WriteToCassandra: writes rows into a table as idempotent upserts.

    rows (mappings or record batches) -> batches of one partition -> prepared inserts, a bounded number in flight
        -> failed rows, each with its error; more of them than max_errors fail the pipeline

When a runner retries a bundle, the same rows are written again, which changes nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from cassandra import cqltypes
from cassandra.cluster import Session
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement, Statement
from cassandra.util import Date, Duration

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.checks import Name, Rule, TableName, checked
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.concurrent import outcomes, size
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.driver.write_time import write_time
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.window import EPOCH, aware, whole_milliseconds

CONCURRENCY = 32  # requests in flight per worker
_CHUNK_ROWS = 2000  # rows that are grouped by partition at once
_REQUEST_ROWS = 50  # rows of one partition in one request
_TIMESTAMP = pa.timestamp('ms', 'UTC')
_SECOND = datetime.timedelta(seconds=1)
_MAX_TTL = 20 * 365 * 86400 * _SECOND  # Cassandra's own limit

Ttl = Annotated[
    datetime.timedelta,
    Rule(
        'whole seconds, at least one and at most 20 years', lambda ttl: _SECOND <= ttl <= _MAX_TTL and not ttl % _SECOND
    ),
]


class FailedRow(NamedTuple):
    """A row that was not written, and why."""

    row: Mapping[str, Any]
    error: str


class WriteResult(NamedTuple):
    """The result of WriteToCassandra: `failed`, a PCollection of FailedRow."""

    failed: beam.PCollection[FailedRow]


class WriteToCassandra(beam.PTransform[Any, WriteResult]):
    """Writes a PCollection of mappings or record batches of pyarrow into a table; keys and fields name its columns.

    A column that is absent or null in a row is not written: the stored value is kept, and no tombstone is created. In
    `feature_store`, `user_id` is filled from `metadata['user_id']`.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        table: TableName,
        ttl: Ttl | None = None,
        timestamp_column: Name | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        max_errors: Annotated[int, Rule('zero or more', lambda errors: errors >= 0)] | None = 0,
    ) -> None:
        """Declares the writes; nothing connects before the pipeline runs.

        Args:
          connection: How to reach the cluster; its keyspace holds the table.
          table: Name of the table; `keyspace.table` for one of another keyspace.
          ttl: How long the rows live, in whole seconds; None for the table's default.
          timestamp_column: The field (aware datetime) with each row's write time: of two writes to one cell the one
            with the later write time wins, in whatever order they arrive; with equal times, the greater value. None for
            the time of the write, which is unique within a process: of two rows with one key, the later one wins.
          consistency: Consistency level of every write.
          max_errors: The pipeline fails if more rows than this fail; None for any number.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        self._max_errors = max_errors
        self._write = _WriteRows(connection, table, ttl, timestamp_column, consistency)

    def expand(self, rows: beam.PCollection[Any]) -> WriteResult:
        """Writes the rows, and checks the number of failed ones against `max_errors`."""
        failed = (
            rows
            | 'Rows' >> beam.FlatMap(_rows)
            | 'Gather' >> beam.BatchElements(min_batch_size=_CHUNK_ROWS, max_batch_size=_CHUNK_ROWS)
            | 'Write' >> beam.ParDo(self._write)
        )
        if self._max_errors is not None:
            _ = (
                failed
                | 'Errors' >> beam.combiners.Top.Of(self._max_errors + 1, key=lambda failure: failure.error)
                | 'Limit' >> beam.Map(_check_limit, self._max_errors)
            )
        return WriteResult(failed)


def _rows(element: Mapping[str, Any] | pa.RecordBatch) -> list[Mapping[str, Any]]:
    if not isinstance(element, pa.RecordBatch):
        return [element]
    # CQL's time has nanoseconds and Python's only microseconds, so times are passed as integers.
    columns = [column.cast(_with_integer_times(column.type)) for column in element.columns]
    batch = pa.RecordBatch.from_arrays(columns, names=element.schema.names)
    try:
        return list(batch.to_pylist())
    except OverflowError:  # a timestamp or date that Cassandra can represent, and Python cannot
        values = [[_plain(value) for value in column] for column in batch.columns]
        return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True)]


def _plain(value: pa.Scalar) -> Any:
    if not value.is_valid:
        return None
    if isinstance(value, pa.MapScalar):  # first, because it is also a ListScalar
        return [(_plain(entry[0]), _plain(entry[1])) for entry in value.values]
    if isinstance(value, pa.ListScalar):
        return [_plain(item) for item in value.values]
    if isinstance(value, pa.StructScalar):
        return {field.name: _plain(value[i]) for i, field in enumerate(value.type)}
    try:
        return value.as_py()
    except OverflowError:
        if pa.types.is_date32(value.type):
            return Date(value.cast(pa.int32()).as_py())
        # A timestamp in another unit or without a time zone makes its row a failed one.
        return Milliseconds(value.value) if value.type == _TIMESTAMP else value.value


def _with_integer_times(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_time64(kind):
        return pa.int64()
    return pa.list_(_with_integer_times(kind.value_type)) if pa.types.is_list(kind) else kind


def _check_limit(failures: Sequence[FailedRow], max_errors: int) -> None:
    if len(failures) > max_errors:
        rule = f'at most max_errors = {max_errors} rows fail'
        raise WriteError(f'rows failed: got more than {max_errors}, rule: {rule} (one of them: {failures[0].error})')


class _WriteRows(beam.DoFn):
    """Writes lists of rows; yields the rows that failed."""

    def __init__(
        self,
        connection: CassandraConnection,
        table: str,
        ttl: datetime.timedelta | None,
        timestamp_column: str | None,
        consistency: str,
    ) -> None:
        self._connection, self._table, self._ttl = connection, table, ttl
        self._timestamp_column, self._consistency = timestamp_column, consistency

    def setup(self) -> None:
        with contextlib.ExitStack() as stack:
            self._session = stack.enter_context(connections.session(self._connection))
            table = tables.describe(self._session, self._connection.keyspace, self._table)
            self._insert = _Insert(self._session, table, self._ttl, self._timestamp_column)
            self._insert.statement.consistency_level = connections.consistency_level(self._consistency)
            self._label = str(table)
            self._held = stack.pop_all()

    def teardown(self) -> None:
        self._held.close()

    def process(self, rows: list[Mapping[str, Any]]) -> Iterator[FailedRow]:
        with tracing.span('write_batch', self._label) as span:
            failed = list(self._written(rows))
            span.set(rows=len(rows), failed=len(failed))
        yield from failed

    def _written(self, rows: list[Mapping[str, Any]]) -> Iterator[FailedRow]:
        """Writes rows; yields those that failed."""
        inserts, invalid_rows = self._inserts(rows)
        metrics.WRITE_DEAD_LETTERS.add(len(invalid_rows), self._label, 'invalid')
        yield from invalid_rows
        rejected: list[_RowInsert] = []
        for group, outcome in self._outcomes(_grouped(inserts)):
            if isinstance(outcome, Exception):
                rejected += group
            else:
                self._count(group)
        metrics.WRITE_RETRIES.add(len(rejected), self._label)
        # One row may have failed its whole request, so each row is sent again on its own.
        for (insert,), outcome in self._outcomes([insert] for insert in rejected):
            if isinstance(outcome, Exception):
                metrics.WRITE_DEAD_LETTERS.add(1, self._label, 'rejected')
                yield FailedRow(insert.row, f'{self._table}: {one_line(outcome)}')
            else:
                self._count([insert])

    def _count(self, written: list[_RowInsert]) -> None:
        metrics.WRITE_ROWS.add(len(written), self._label)
        metrics.WRITE_BYTES.add(sum(size(insert.statement) for insert in written), self._label)

    def _inserts(self, rows: list[Mapping[str, Any]]) -> tuple[list[_RowInsert], list[FailedRow]]:
        inserts, invalid_rows = [], []
        for row in rows:
            try:
                inserts.append(self._insert.bound(row))
            except Exception as error:  # a value from the caller can raise anything
                invalid_rows.append(FailedRow(row, f'{self._table}: {error or type(error).__name__}'))
        return inserts, invalid_rows

    def _outcomes(self, groups: Iterable[list[_RowInsert]]) -> Iterator[tuple[list[_RowInsert], list[Any] | Exception]]:
        requests = ((group, self._request(group)) for group in groups)
        return outcomes(self._session, requests, CONCURRENCY, metrics=metrics.WRITE_REQUESTS)

    def _request(self, group: list[_RowInsert]) -> Statement:
        if len(group) == 1:
            return group[0].statement
        # An unlogged batch of one partition is one mutation: as atomic as one row, and much cheaper than single rows.
        batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self._insert.statement.consistency_level)
        batch.is_idempotent = True
        for insert in group:
            batch.add(insert.statement)
        return batch


class _RowInsert(NamedTuple):
    """A row and its bound insert."""

    row: Mapping[str, Any]
    statement: BoundStatement


def _grouped(inserts: Iterable[_RowInsert]) -> Iterator[list[_RowInsert]]:
    """Groups rows by partition, at most _REQUEST_ROWS each.

    Each row has its own write time, so the later of two rows with one key wins, whether they are in one request, in two
    that are answered in another order, or are sent again one by one.
    """
    open_groups: dict[bytes, list[_RowInsert]] = {}
    for insert in inserts:
        group = open_groups.setdefault(insert.statement.routing_key, [])
        group.append(insert)
        if len(group) == _REQUEST_ROWS:
            yield open_groups.pop(insert.statement.routing_key)
    yield from open_groups.values()


class _Insert:
    """The prepared insert of a table, and the conversion of a row to its values."""

    def __init__(
        self, session: Session, table: Table, ttl: datetime.timedelta | None, timestamp_column: str | None
    ) -> None:
        self._table, self._ttl, self._timestamp_column = table, ttl, timestamp_column
        columns = [name for name, _ in table.types]
        self._is_feature_store = table.name == 'feature_store' and 'user_id' in columns
        using = ['TTL ?', 'TIMESTAMP ?'] if ttl else ['TIMESTAMP ?']
        self.statement: PreparedStatement = session.prepare(
            f'INSERT INTO {quoted(table.keyspace)}.{quoted(table.name)} '
            f'({", ".join(map(quoted, columns))}) VALUES ({", ".join("?" * len(columns))})'
            f' USING {" AND ".join(using)}'
        )
        self.statement.is_idempotent = True
        self._fields = [
            (column.name, _driver_value(column.type)) for column in self.statement.column_metadata[: len(columns)]
        ]

    def bound(self, row: Mapping[str, Any]) -> _RowInsert:
        """Binds a row; raises any error of a value that cannot be bound."""
        bound = self.statement.bind(self._values(row))
        # Computing the routing key here makes a key over Cassandra's limit an error of this row, not of the loop.
        _ = bound.routing_key
        return _RowInsert(row, bound)

    def _values(self, row: Mapping[str, Any]) -> list[Any]:
        known = {name for name, _ in self._fields}
        if self._timestamp_column:
            known = known | {self._timestamp_column}
        if unknown := sorted(set(row) - known):
            raise ValueError(f'row: got fields {unknown}, rule: columns of the table ({", ".join(sorted(known))})')
        if missing := [name for name in (*self._table.partition_key, *self._table.clustering) if row.get(name) is None]:
            raise ValueError(f'row: got no {missing}, rule: every column of the primary key has a value')
        if self._is_feature_store and row.get('user_id') is None:
            row = {**row, 'user_id': dict(row.get('metadata') or {}).get('user_id') or None}
        values = []
        for name, convert in self._fields:
            value = row.get(name)
            values.append(UNSET_VALUE if value is None else convert(name, value))
        if self._ttl:
            values.append(int(self._ttl.total_seconds()))
        if self._timestamp_column:
            moment = aware(self._timestamp_column, row[self._timestamp_column])
            values.append((moment - EPOCH) // datetime.timedelta(microseconds=1))
        else:
            values.append(write_time())
        return values


def _driver_value(kind: Any) -> Callable[[str, Any], Any]:
    """Returns the conversion of a value, also of one that cql/rows.pyx decoded, to one that the driver can bind."""
    name, parts = kind.typename, kind.subtypes
    if name == 'timestamp':
        return lambda field, value: int(value) if isinstance(value, Milliseconds) else whole_milliseconds(field, value)
    if name in _FROM_TEXT:
        parse = _FROM_TEXT[name]
        return lambda _, value: parse(value) if isinstance(value, str) else value
    if name == 'duration':
        return lambda _, value: Duration(**value) if isinstance(value, Mapping) else value
    if name == 'frozen':
        return _driver_value(parts[0])
    inner = [_driver_value(part) for part in parts]
    if name in ('list', 'set'):
        return lambda field, items: [inner[0](field, item) for item in items]
    if name == 'map':
        return lambda field, entries: {
            inner[0](field, key): inner[1](field, value)
            for key, value in (entries.items() if isinstance(entries, Mapping) else entries)
        }
    if issubclass(kind, cqltypes.TupleType):
        return lambda field, items: tuple(
            None if item is None else convert(field, item)
            for convert, item in zip(inner, items.values() if isinstance(items, Mapping) else items, strict=False)
        )
    return lambda _, value: value


_FROM_TEXT: dict[str, Callable[[str], Any]] = {
    'uuid': uuid.UUID,
    'timeuuid': uuid.UUID,
    'decimal': decimal.Decimal,
}
