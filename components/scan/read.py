"""ReadFromCassandra: a table as a PCollection of record batches, proven to be read once.

    plan:   live ring -> splits, each a token range `(start, end]` inside one node's range
    read:   split -> pages -> record batches, with the ledger entry of the range
    verify: all ledger entries -> one Coverage, or the pipeline fails

The splits are reshuffled, so that workers share them; and the entry of a range leaves a bundle together with its
batches, so that a runner's retry of a bundle counts neither twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from cassandra.cluster import Session
from cassandra.query import BoundStatement

from tfx_cassandra.components.dataset.window import TimeWindow
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan import ledger, plan, ring
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.page import RawHandler, decode
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.store import connection as connections
from tfx_cassandra.components.store.connection import CassandraConnection

DEFAULT_SPLITS = 64
GROUP = 8  # splits that one worker reads together, some of them at once
PAGE_ROWS = 5000


class ReadResult(NamedTuple):
    """What `ScanTable` gives: record batches, and the scan's one `ledger.Coverage`."""

    batches: beam.PCollection
    coverage: beam.PCollection


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """The arguments of ReadFromCassandra, checked; see there."""

    connection: CassandraConnection
    table: str
    columns: tuple[str, ...] | None = None
    window: TimeWindow | None = None
    time_column: str | None = None
    filters: tuple[tuple[str, tuple], ...] = ()
    consistency: str = 'LOCAL_QUORUM'
    splits: int | None = None
    page_rows: int = PAGE_ROWS

    def __post_init__(self) -> None:
        if not isinstance(self.connection, CassandraConnection):
            raise TypeError(f'connection: got {self.connection!r}, rule: a CassandraConnection')
        if not isinstance(self.table, str) or not self.table:
            raise invalid('table', self.table, 'the name of a table')
        if self.columns is not None and (not self.columns or len(set(self.columns)) < len(self.columns)):
            raise invalid('columns', self.columns, 'one or more names, each once, or None for all')
        if self.time_column is not None and self.window is None:
            raise invalid('time_column', self.time_column, 'given together with window')
        connections.consistency_level(self.consistency)
        for field in ('splits', 'page_rows'):
            value = getattr(self, field)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise invalid(field, value, 'an integer of at least 1')

    def scan(self, session: Session) -> plan.Scan:
        """Checks the read against the live table; raises SchemaError where they differ."""
        table = describe(session, self.connection.keyspace, self.table)
        return plan.plan_scan(table, self.columns, self.window, self.time_column, self.filters)


class ReadFromCassandra(beam.PTransform):
    """Reads a table by parallel scans of its token ranges.

    Gives a PCollection of `pyarrow.RecordBatch`, each a page of at most `page_rows` rows. The pipeline fails with
    CoverageError unless the ranges that were read tile the whole ring exactly once, and with ReadError or SchemaError
    where a range or the table cannot be read. Rows come in no particular order.
    """

    def __init__(
        self,
        connection: CassandraConnection,
        table: str,
        columns: Sequence[str] | None = None,
        window: TimeWindow | None = None,
        time_column: str | None = None,
        where: Mapping[str, Any] | None = None,
        consistency: str = 'LOCAL_QUORUM',
        splits: int | None = None,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        """Declares a scan; nothing connects before the pipeline runs.

        Args:
          connection: How to reach the cluster; its keyspace holds the table.
          table: Name of a table or materialized view.
          columns: Names of the columns wanted; None for all.
          window: Event times wanted, half-open `[start, end)`; None for all. On the first clustering column the server
            reads only this slice; on any other column every row is read and filtered by the workers.
          time_column: The column of type timestamp that the window is about; None for the first clustering column.
          where: Column -> value, or a collection of values, that a row must have. Filtered by the workers.
          consistency: Consistency level of every read.
          splits: Least number of token ranges read apart; None for 64.
          page_rows: Rows of a page, the unit of memory: a worker thread holds at most eight pages, two of each range.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        filters = tuple((column, _alternatives(value)) for column, value in (where or {}).items())
        columns = None if columns is None else tuple(columns)
        self._options = ReadOptions(
            connection, table, columns, window, time_column, filters, consistency, splits, page_rows
        )

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        return (pbegin | ScanTable(self._options)).batches

    def display_data(self) -> dict:
        options = self._options
        return {'cluster': str(options.connection), 'table': options.table, 'window': str(options.window)}


class ScanTable(beam.PTransform):
    """Scans a table; ReadFromCassandra for those who also want the Coverage."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options

    def expand(self, pbegin: beam.pvalue.PBegin) -> ReadResult:
        read = (
            pbegin
            | 'Start' >> beam.Create([self._options])
            | 'Plan' >> beam.FlatMap(plan_splits)
            | 'Share' >> beam.Reshuffle()
            | 'Read' >> beam.ParDo(_ReadSplits(self._options)).with_outputs('ledger', main='batches')
        )
        coverage = read.ledger | 'Collect' >> beam.combiners.ToList() | 'Verify' >> beam.Map(ledger.verified)
        return ReadResult(read.batches, coverage)


def plan_splits(options: ReadOptions) -> list[list[Split]]:
    """Asks the live cluster for its ring and cuts the scan into splits, several to a group that one worker reads.

    Raises:
      SchemaError: The table or a column does not exist, or the cluster's partitioner is not Murmur3.
    """
    with connections.session(options.connection) as session:
        metadata = session.cluster.metadata
        if not str(metadata.partitioner).endswith('Murmur3Partitioner'):
            raise SchemaError(f'partitioner: got {metadata.partitioner}, rule: Murmur3Partitioner')
        scan = options.scan(session)
        tokens = [token.value for token in metadata.token_map.ring]
    ranges = ring.subdivide(ring.ring_ranges(tokens), options.splits or DEFAULT_SPLITS)
    splits = [Split(scan, token_range) for token_range in ranges]
    return [splits[i : i + GROUP] for i in range(0, len(splits), GROUP)]


def describe(session: Session, keyspace: str, name: str) -> plan.Table:
    """Looks a table or materialized view up in the live schema; raises SchemaError if there is none."""
    metadata = session.cluster.metadata
    if keyspace not in metadata.keyspaces:
        rule = f'a keyspace of the cluster ({", ".join(sorted(metadata.keyspaces))})'
        raise SchemaError(f'keyspace: got {keyspace!r}, rule: {rule}')
    known = metadata.keyspaces[keyspace]
    table = known.tables.get(name) or known.views.get(name)
    if table is None:
        rule = f'a table of keyspace {keyspace} ({", ".join(sorted([*known.tables, *known.views]))})'
        raise SchemaError(f'table: got {name!r}, rule: {rule}')
    return plan.Table(
        keyspace,
        name,
        tuple(column.name for column in table.partition_key),
        tuple(column.name for column in table.clustering_key),
        tuple((column.name, column.cql_type) for column in table.columns.values()),
    )


class _ReadSplits(beam.DoFn):
    """Reads groups of splits: batches on the main output, each range's RangeRead on 'ledger'."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._rows = Metrics.counter('tfx_cassandra', 'rows_read')

    def setup(self) -> None:
        self._session = connections.acquire(self._options.connection, RawHandler)
        what = f'{self._options.connection.keyspace}.{self._options.table} at {self._options.consistency}'
        self._fetcher = Fetcher(self._session, what)

    def teardown(self) -> None:
        connections.release(self._options.connection, RawHandler)

    def process(self, splits: list[Split]) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        read = {split.token_range: ledger.RangeRead(split.token_range) for split in splits}
        for fetched in self._fetcher.fetch(self._requests(splits)):
            batch, checksum = decode(fetched.page)
            self._rows.inc(batch.num_rows)
            token_range = fetched.split.token_range
            read[token_range] = read[token_range].with_page(batch.num_rows, len(fetched.page.body), checksum)
            batch = _filtered(batch, fetched.split.scan)
            if batch.num_rows:
                yield batch
            if fetched.last:
                entry = dataclasses.replace(read.pop(token_range), retries=fetched.retries)
                yield beam.pvalue.TaggedOutput('ledger', entry)

    def _requests(self, splits: list[Split]) -> list[tuple[Split, BoundStatement]]:
        # One scan's splits differ in their ranges only.
        statement = self._session.prepare(splits[0].scan.cql)
        statement.consistency_level = connections.consistency_level(self._options.consistency)
        statement.fetch_size = self._options.page_rows
        statement.is_idempotent = True
        return [
            (split, statement.bind((split.token_range.start, split.token_range.end, *split.scan.window_bounds)))
            for split in splits
        ]


def _filtered(batch: pa.RecordBatch, scan: plan.Scan) -> pa.RecordBatch:
    """Applies what the server did not: a window on another column, and `where`."""
    if scan.window is not None and not scan.pushed_down:
        time = batch.column(batch.schema.get_field_index(scan.time_column))
        start, end = (pa.scalar(bound, time.type) for bound in scan.window.bounds)
        batch = batch.filter(pc.and_(pc.greater_equal(time, start), pc.less(time, end)))
    for column, values in scan.filters:
        array = batch.column(batch.schema.get_field_index(column))
        batch = batch.filter(pc.is_in(array, pa.array(values, array.type)))
    # What is only filtered on stands behind the wanted columns.
    wanted = len(scan.columns)
    return pa.RecordBatch.from_arrays(batch.columns[:wanted], schema=pa.schema(list(batch.schema)[:wanted]))


def _alternatives(value: Any) -> tuple:
    if isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping)):
        return tuple(value)
    return (value,)


__all__ = ['ReadFromCassandra', 'ReadOptions', 'ReadResult', 'ScanTable', 'describe', 'plan_splits']
