"""WriteToCassandra: writes rows into a table as idempotent upserts.

    rows (mappings or record batches) -> gathered over a bundle -> TableWriter
        -> failed rows, each with its error; more of them than max_errors fail the pipeline

When a runner retries a bundle, the same rows are written again, which changes nothing.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.display import DisplayDataItem
from apache_beam.utils.windowed_value import WindowedValue

from tfx_cassandra.components.checks import Name, Rate, Rule, TableName, checked
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.write.columns import plain
from tfx_cassandra.components.write.statement import Collections, Nulls, Ttl, WriteOptions
from tfx_cassandra.components.write.writer import MOST_ROWS, TableWriter

_MOST_BYTES = 64 << 20  # of record batches that are gathered
_TALLY = 'tally'

MaxErrors = Annotated[
    float,
    Rule('a number of rows, or a share of them below 1', lambda most: most >= 0 and (most < 1 or most == int(most))),
]


class FailedRow(NamedTuple):
    """A row that was not written, and why.

    Attributes:
      row: The row; of a record batch, its values as Python has them.
      error: Table, error class and message, in one line.
      table: The table's name.
      error_class: The class of the error: ValueError for a row that has no form in the table, else the driver's.
    """

    row: Mapping[str, Any]
    error: str
    table: str
    error_class: str


class WriteResult(NamedTuple):
    """The result of WriteToCassandra: `failed`, a PCollection of FailedRow."""

    failed: beam.PCollection[FailedRow]


class WriteToCassandra(beam.PTransform[Any, WriteResult]):
    """Writes a PCollection of mappings or `pyarrow.RecordBatch`es into a table; keys and fields name its columns.

    A column that is absent in a row is not written: the stored value is kept. In `feature_store`, `user_id` is filled
    from `metadata['user_id']`. Counters are added to what is stored, so a repeated bundle counts twice. There are no
    conditional writes: a bundle may be repeated, and the second attempt would find the first one's row.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        table: TableName,
        ttl: Ttl | None = None,
        timestamp_column: Name | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        max_errors: MaxErrors | None = 0,
        nulls: Nulls = 'unset',
        collections: Collections = 'replace',
        ttl_column: Name | None = None,
        rows_per_second: Rate | None = None,
    ) -> None:
        """Declares the writes; nothing connects before the pipeline runs.

        Args:
          connection: How to reach the cluster; its keyspace holds the table.
          table: Name of the table; `keyspace.table` for one of another keyspace.
          ttl, timestamp_column, consistency, nulls, collections, ttl_column: See `WriteOptions`.
          max_errors: The pipeline fails if more rows than this fail: a number of rows, or, below 1, a share of them;
            None for any number.
          rows_per_second: Rows that are written a second at most. One worker then writes all of them.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        self._max_errors, self._rate = max_errors, rows_per_second
        options = WriteOptions(consistency, ttl, ttl_column, timestamp_column, nulls, collections, rows_per_second)
        self._write = _WriteRows(connection, table, options)

    def display_data(self) -> dict[str, DisplayDataItem]:
        """Returns what a runner's console shows of this step."""
        return self._write.display_data()

    def expand(self, rows: beam.PCollection[Any]) -> WriteResult:
        """Writes the rows, and checks the number of failed ones against `max_errors`."""
        if self._rate is not None:  # the values of one key are on one worker
            rows = rows | 'Key' >> beam.Map(_with_key) | 'OneWorker' >> beam.GroupByKey() | beam.FlatMap(_values)
        outputs = rows | 'Write' >> beam.ParDo(self._write).with_outputs(_TALLY, main='failed')
        if self._max_errors is not None:
            summed = outputs[_TALLY] | 'Sum' >> beam.CombineGlobally(_summed).without_defaults()
            _ = summed | 'Limit' >> beam.Map(_check_limit, self._max_errors)
        return WriteResult(outputs.failed)


class Tally(NamedTuple):
    """Rows, how many of them failed, and the error of one of these."""

    rows: int
    failed: int
    error: str


def _with_key(element: Any) -> tuple[int, Any]:
    return 0, element


def _values(group: tuple[int, Any]) -> Any:
    return group[1]


def _summed(tallies: Any) -> Tally:
    rows, failed, error = 0, 0, ''
    for tally in tallies:
        rows, failed, error = rows + tally.rows, failed + tally.failed, error or tally.error
    return Tally(rows, failed, error)


def _check_limit(tally: Tally, max_errors: float) -> None:
    share = 0 < max_errors < 1
    if tally.failed > (max_errors * tally.rows if share else max_errors):
        rule = f'at most max_errors = {max_errors:g}{f" of {tally.rows}" if share else ""} rows fail'
        raise WriteError(f'rows failed: got {tally.failed}, rule: {rule} (one of them: {tally.error})')


class _Gathered(NamedTuple):
    """An element with its place in the pipeline."""

    element: Any
    timestamp: Any
    window: Any


class _WriteRows(beam.DoFn):
    """Writes rows, many at once; yields those that failed, in the windows of their elements."""

    def __init__(self, connection: CassandraConnection, table: str, options: WriteOptions) -> None:
        self._connection, self._table, self._options = connection, table, options

    def display_data(self) -> dict[str, DisplayDataItem]:
        return {
            'table': DisplayDataItem(self._table, label='Table'),
            'consistency': DisplayDataItem(self._options.consistency, label='Consistency level'),
        }

    def setup(self) -> None:
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(connections.session(self._connection, keep=True))
            table = tables.describe(session, self._connection.keyspace, self._table)
            self._writer = TableWriter(session, table, self._options)
            self._held = stack.pop_all()

    def teardown(self) -> None:
        self._held.close()

    def start_bundle(self) -> None:
        self._gathered: list[_Gathered] = []
        self._rows = self._bytes = 0

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        self._gathered.append(_Gathered(element, timestamp, window))
        self._rows += element.num_rows if isinstance(element, pa.RecordBatch) else 1
        self._bytes += element.nbytes if isinstance(element, pa.RecordBatch) else 0
        if self._rows >= MOST_ROWS or self._bytes >= _MOST_BYTES:
            yield from self._written()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._written()

    def _written(self) -> Iterator[Any]:
        gathered = self._gathered
        self.start_bundle()
        for _, group in itertools.groupby(gathered, _schema):
            run = list(group)
            rows, ends = _joined([each.element for each in run])
            failures = self._writer.write(rows)
            for failure in failures:
                place = run[bisect.bisect_right(ends, failure.row)]
                error = f'{self._table}: {failure.message}'
                failed = FailedRow(_row(rows, failure.row), error, self._table, failure.kind)
                yield WindowedValue(failed, place.timestamp, (place.window,))
            tally = Tally(len(rows), len(failures), f'{self._table}: {failures[0].message}' if failures else '')
            yield beam.pvalue.TaggedOutput(_TALLY, WindowedValue(tally, run[-1].timestamp, (run[-1].window,)))


def _schema(gathered: _Gathered) -> pa.Schema | None:
    return gathered.element.schema if isinstance(gathered.element, pa.RecordBatch) else None


def _joined(elements: list[Any]) -> tuple[Any, list[int]]:
    """Returns mappings, or batches of one schema, as the rows of one write; and where the rows of each element end."""
    if not isinstance(elements[0], pa.RecordBatch):
        return elements, list(range(1, len(elements) + 1))
    ends = list(itertools.accumulate(batch.num_rows for batch in elements))
    if len(elements) == 1:
        return elements[0], ends
    whole = pa.Table.from_batches(elements).combine_chunks()
    return next(iter(whole.to_batches()), elements[0]), ends


def _row(rows: Any, number: int) -> Any:
    if not isinstance(rows, pa.RecordBatch):
        return rows[number]
    return {name: plain(rows.column(i)[number]) for i, name in enumerate(rows.schema.names)}
