"""ReadFromCassandra: a table as a PCollection of record batches, proven to be read once.

    plan:   live cluster -> groups of splits, each split an area: a token range `(start, end]` inside one node's range
    read:   group -> pages -> record batches, with the ledger entry of each area
    verify: all ledger entries -> one Coverage, or the pipeline fails

The groups are reshuffled, so that workers share them; and the entry of an area leaves a bundle together with its
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

from tfx_cassandra.components.dataset.window import TimeWindow
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan import ledger, plan, survey
from tfx_cassandra.components.scan.fetch import Fetcher, FetchOptions
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan, Split
from tfx_cassandra.components.scan.query import Scan, plan_scan
from tfx_cassandra.components.store import connection as connections
from tfx_cassandra.components.store.connection import CassandraConnection

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
    rows_per_second: float | None = None
    bytes_per_second: float | None = None
    writetimes: tuple[str, ...] = ()

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
        for field in ('rows_per_second', 'bytes_per_second'):
            value = getattr(self, field)
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise invalid(field, value, 'a number above 0, or None')

    @property
    def limited(self) -> bool:
        return self.rows_per_second is not None or self.bytes_per_second is not None

    def scan(self, session: Session) -> Scan:
        """Checks the read against the live table; raises SchemaError where they differ."""
        table = survey.describe(session, self.connection.keyspace, self.table)
        return plan_scan(table, self.columns, self.window, self.time_column, self.filters, self.writetimes)

    def fetch_options(self, page_rows: int) -> FetchOptions:
        return FetchOptions(self.consistency, page_rows, self.rows_per_second, self.bytes_per_second)


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
        rows_per_second: float | None = None,
        bytes_per_second: float | None = None,
    ) -> None:
        """Declares a scan; nothing connects before the pipeline runs.

        Args:
          connection: How to reach the cluster; its keyspace holds the table.
          table: Name of a table or materialized view.
          columns: Names of the columns wanted; None for all.
          window: Event times wanted, half-open `[start, end)`; None for all. On the first clustering column the server
            reads only this slice; on any other column every row is read and filtered by the workers.
          time_column: The column of type timestamp that the window is about; None for the first clustering column.
          where: Column -> value, or a collection of values, that a row must have. Where it names the whole partition
            key, only these partitions are read; otherwise every row is read and filtered by the workers.
          consistency: Consistency level of every read.
          splits: Least number of token ranges read apart; None for as many as the table's size asks for.
          page_rows: Rows of a page at most, the unit of memory: fewer where rows are large, so that a page stays near
            4 MB, and a worker thread holds at most two pages of each of the up to 16 areas it reads at once.
          rows_per_second: Rows the whole scan reads a second at most. One worker then reads all of it: so the limit
            holds however many workers there are.
          bytes_per_second: The same in bytes of results.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        filters = tuple((column, _alternatives(value)) for column, value in (where or {}).items())
        columns = None if columns is None else tuple(columns)
        self._options = ReadOptions(
            connection, table, columns, window, time_column, filters, consistency, splits, page_rows, rows_per_second,
            bytes_per_second,
        )  # fmt: skip

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
        planned = pbegin | 'Start' >> beam.Create([self._options]) | 'Plan' >> beam.Map(plan_splits)
        read = (
            planned
            | 'Groups' >> beam.FlatMap(lambda plan: [(plan.scan, plan.page_rows, group) for group in plan.groups])
            | 'Share' >> beam.Reshuffle()
            | 'Read' >> beam.ParDo(_ReadSplits(self._options)).with_outputs('ledger', main='batches')
        )
        coverage = (
            read.ledger
            | 'Collect' >> beam.combiners.ToList()
            | 'Verify'
            >> beam.Map(lambda reads, plan: ledger.verified(reads, plan.wanted), plan=beam.pvalue.AsSingleton(planned))
        )
        return ReadResult(read.batches, coverage)


def plan_splits(options: ReadOptions) -> Plan:
    """Asks the live cluster for its ring and for the table's size, and plans the scan.

    Raises:
      SchemaError: The table or a column does not exist, or the cluster's partitioner is not Murmur3.
    """
    connection = options.connection
    with connections.session(connection) as session, connections.session(connection, RawHandler) as raw:
        scan = options.scan(session)
        local = None if connection.secure_connect_bundle else connection.local_datacenter
        owned = survey.owned_ranges(session, scan.table.keyspace, local)
        nodes = sorted({node for owner in owned for node in owner.replicas})
        keys = survey.key_tokens(session, scan)
        return plan.plan(
            scan,
            owned,
            survey.size_estimates(session, scan.table, nodes),
            survey.sample(raw, scan, keys),
            keys=keys,
            least=options.splits,
            page_rows=options.page_rows,
            together=options.limited,
        )


class _ReadSplits(beam.DoFn):
    """Reads groups of splits: batches on the main output, each area's RangeRead on 'ledger'."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._rows = Metrics.counter('tfx_cassandra', 'rows_read')

    def setup(self) -> None:
        self._session = connections.acquire(self._options.connection, RawHandler)

    def teardown(self) -> None:
        connections.release(self._options.connection, RawHandler)

    def process(self, group: tuple[Scan, int, Sequence[Split]]) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        scan, page_rows, splits = group
        for found in Fetcher(self._session, scan, self._options.fetch_options(page_rows)).fetch(splits):
            if isinstance(found, RangeRead):
                yield beam.pvalue.TaggedOutput('ledger', found)
                continue
            self._rows.inc(found.num_rows)
            batch = filtered(found, scan)
            if batch.num_rows:
                yield batch


def filtered(batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
    """Applies what the server did not: a window on another column, and `where`."""
    if scan.window is not None and not scan.pushed_down:
        time = batch.column(batch.schema.get_field_index(scan.time_column))
        start, end = (pa.scalar(bound, time.type) for bound in scan.window.bounds)
        batch = batch.filter(pc.and_(pc.greater_equal(time, start), pc.less(time, end)))
    for column, values in scan.filters:
        array = batch.column(batch.schema.get_field_index(column))
        batch = batch.filter(pc.is_in(array, pa.array(values, array.type)))
    # What the scan reads for its own use stands behind the wanted columns.
    wanted = len(scan.names)
    return pa.RecordBatch.from_arrays(batch.columns[:wanted], schema=pa.schema(list(batch.schema)[:wanted]))


def _alternatives(value: Any) -> tuple:
    if isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping)):
        return tuple(value)
    return (value,)


__all__ = ['ReadFromCassandra', 'ReadOptions', 'ReadResult', 'ScanTable', 'filtered', 'plan_splits']
