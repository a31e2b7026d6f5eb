"""ReadFromCassandra: a table as a PCollection of record batches, proven to be read once.

    plan:   source of tables -> groups of splits, each split an area: a token range `(start, end]` of one node
    read:   group -> pages -> record batches, with the ledger entry of each area
    verify: all ledger entries -> one Coverage, or the pipeline fails

The groups are reshuffled, so that workers share them; and the entry of an area leaves a bundle together with its
batches, so that a runner's retry of a bundle counts neither twice.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa

from tfx_cassandra.components.checks import Count, Name, Rate, TableName, checked
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.scan.fetch import PAGE_ROWS, ReadOptions
from tfx_cassandra.components.scan.ledger import RangeRead, merged
from tfx_cassandra.components.scan.options import Columns, ReadRequest, filtered
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.source import opened, plan_splits, verified
from tfx_cassandra.components.window import TimeWindow


class ReadResult(NamedTuple):
    """What `ScanTable` gives: record batches, and the scan's one `ledger.Coverage`."""

    batches: beam.PCollection
    coverage: beam.PCollection


class ReadFromCassandra(beam.PTransform):
    """Reads a table by parallel scans of its token ranges.

    Gives a PCollection of `pyarrow.RecordBatch`, each a page of at most `page_rows` rows. The pipeline fails with
    CoverageError unless the ranges that were read tile the whole ring exactly once, and with ReadError or SchemaError
    where a range or the table cannot be read. Rows come in no particular order.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        table: TableName,
        columns: Columns | None = None,
        window: TimeWindow | str | None = None,
        time_column: Name | None = None,
        where: Mapping[str, Any] | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        splits: Count | None = None,
        page_rows: Count = PAGE_ROWS,
        rows_per_second: Rate | None = None,
        bytes_per_second: Rate | None = None,
        as_of: datetime.datetime | None = None,
        recount: bool = False,
        invalid_text: Literal['error', 'replace'] = 'error',
        wide_varints: Literal['error', 'text'] = 'error',
    ) -> None:
        """Declares a scan; nothing connects before the pipeline runs.

        Args:
          connection: How to reach the cluster; its keyspace holds the table.
          table: Name of a table or materialized view; `keyspace.table` for one of another keyspace.
          columns: Names of the columns wanted; None for all but those of the table's layout (docs/layouts.md).
          window: Event times wanted, half-open `[start, end)`, also as text, 'START/END' in ISO-8601; None for all. On
            the first clustering column the server reads only this slice; on any other column every row is read and
            filtered by the workers.
          time_column: The column of type timestamp that the window is about; None for the first clustering column.
          where: Column -> value, or a collection of values, that a row must have: compared as values of the column's
            CQL type, in any form that cql/parsers.py tells. Where it names the whole partition key (without the columns
            of a layout), only these partitions are read; otherwise every row is read and filtered by the workers.
          consistency: Consistency level of every read.
          splits: Least number of token ranges read apart, of which a worker takes up to 16 at once: so at least 16 for
            each worker; None for as many as the table's size asks for, and a worker's share of 128 MB.
          page_rows: Rows of a page at most, the unit of memory: fewer where rows are large, so that a page stays near
            4 MB, and a worker thread holds at most two pages of each of the up to 16 areas it reads at once.
          rows_per_second: Rows the whole scan reads a second at most. One worker then reads all of it: so the limit
            holds however many workers there are.
          bytes_per_second: The same in bytes of results.
          as_of: A reference time: a cell written later is null, and a row without a cell left is absent. See
            scan/as_of.py for what this cannot give back.
          recount: Whether to count the rows of each token range once more when all are read, without slices of time,
            and to fail if the numbers differ. It reads the keys of the table again, one range after the other; rows
            that are written meanwhile differ too.
          invalid_text: What text becomes that is not UTF-8 (of ascii columns: not ASCII), which servers do not check as
            strictly as readers do: 'error', or 'replace' for U+FFFD in place of what is not.
          wide_varints: What varints beyond 64 bits become: 'error', or 'text' to read every varint as decimal text.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        filters = tuple((column, values.alternatives(value)) for column, value in (where or {}).items())
        window = None if window is None else TimeWindow.parse(window)
        options = ReadOptions(
            consistency, splits, page_rows, rows_per_second, bytes_per_second, Decoding(invalid_text, wide_varints)
        )
        self._request = ReadRequest(
            connection, table, columns, window, time_column, filters, options, as_of=as_of, recount=recount
        )

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        return (pbegin | ScanTable(self._request)).batches

    def display_data(self) -> dict:
        request = self._request
        return {'cluster': str(request.connection), 'table': request.table, 'window': str(request.window)}


class ScanTable(beam.PTransform):
    """Scans a table; ReadFromCassandra for those who also want the Coverage."""

    def __init__(self, request: ReadRequest) -> None:
        super().__init__()
        self._request = request

    def expand(self, pbegin: beam.pvalue.PBegin) -> ReadResult:
        planned = pbegin | 'Start' >> beam.Create([self._request]) | 'Plan' >> beam.Map(plan_splits)
        read = (
            planned
            | 'Groups' >> beam.FlatMap(lambda plan: [(plan.scan, plan.page_rows, group) for group in plan.groups])
            | 'Share' >> beam.Reshuffle()
            | 'Read' >> beam.ParDo(_ReadSplits(self._request)).with_outputs('ledger', main='batches')
        )
        coverage = (
            read.ledger
            | 'Collect' >> beam.combiners.ToList()
            | 'Verify'
            >> beam.Map(
                lambda reads, plan, request: verified(request, plan, reads),
                plan=beam.pvalue.AsSingleton(planned),
                request=self._request,
            )
        )
        return ReadResult(read.batches, coverage)


class _ReadSplits(beam.DoFn):
    """Reads groups of splits: batches on the main output, each area's RangeRead on 'ledger'."""

    def __init__(self, request: ReadRequest) -> None:
        self._request = request

    def setup(self) -> None:
        self._open = contextlib.ExitStack()
        self._fetches = self._open.enter_context(opened(self._request))

    def teardown(self) -> None:
        self._open.close()

    def process(self, group: tuple[Scan, int, Sequence[Split]]) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        scan, page_rows, splits = group
        reads: list[RangeRead] = []
        yield from self._request.rows(self._fetches(scan, page_rows).fetch(splits), scan, reads)
        # One worker verifies the whole ledger, so it grows with the plan and not with the table.
        for read in merged(reads, [split.area for split in splits]):
            yield beam.pvalue.TaggedOutput('ledger', read)


__all__ = ['ReadFromCassandra', 'ReadOptions', 'ReadRequest', 'ReadResult', 'ScanTable', 'filtered', 'plan_splits']
