"""What is asked of a scan, checked; what a source of tables does; and what workers do of a scan that it does not."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan.as_of import kept, microseconds
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.plan import Plan, Split
from tfx_cassandra.components.scan.query import Scan, plan_scan
from tfx_cassandra.components.window import TimeWindow

Columns = Annotated[
    Sequence[Name], Rule('one or more names, each once, in a list', lambda names: 0 < len(names) == len(set(names)))
]


class Fetches(Protocol):
    """Reads splits of a planned scan."""

    def fetch(self, splits: Sequence[Split], in_order: bool = False) -> Generator[Any, None, None]:
        """Yields record batches as `filtered` takes them, and a RangeRead for each area that was read completely.

        Args:
          splits: What is read.
          in_order: Whether rows come in the same order each time: that of their tokens, within a partition as stored.
        """


@runtime_checkable
class Source(Protocol):
    """Where tables are read from, apart from the live cluster that a connection names; see scan/source.py."""

    @property
    def keyspace(self) -> str:
        """The keyspace of tables that are named without one."""

    def moment(self, request: ReadRequest) -> datetime.datetime:
        """Returns the moment at which rows are what a scan gives: what has expired then is gone."""

    def held(self) -> contextlib.AbstractContextManager[Any]:
        """Keeps open, for the duration of a `with` block, what several reads share."""

    def describe(self, request: ReadRequest) -> TableRead:
        """Checks a request against its table; raises SchemaError where they differ."""

    def plan(self, request: ReadRequest) -> Plan:
        """Plans a scan; raises SchemaError as `describe` does."""

    def opened(self, request: ReadRequest) -> contextlib.AbstractContextManager[Callable[[Scan, int], Fetches]]:
        """Connects for the duration of a `with` block; gives what reads a scan, by pages of so many rows at most."""

    def verified(self, request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
        """Adds up what was read of a plan, and proves that it is what was planned; raises CoverageError if not."""

    def check_unchanged(self, planned: Plan) -> None:
        """Raises SchemaError if the table that a plan is of has been replaced or altered since."""


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """What ReadFromCassandra is asked for, checked; see there. `connection` may be another source of tables."""

    connection: CassandraConnection | Source
    table: TableName
    columns: Columns | None = None
    window: TimeWindow | None = None
    time_column: Name | None = None
    filters: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    options: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    writetimes: tuple[str, ...] = ()
    as_of: datetime.datetime | None = None
    recount: bool = False
    ttls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.time_column is not None and self.window is None:
            raise invalid('time_column', self.time_column, 'given together with window')
        if self.as_of is not None:
            microseconds(self.as_of)

    @property
    def full_table(self) -> str:
        """KEYSPACE.TABLE."""
        return self.table if '.' in self.table else f'{self.connection.keyspace}.{self.table}'

    def scan(self, session: Session) -> Scan:
        """Checks the read against the live table; raises SchemaError where they differ."""
        return self.scan_of(tables.describe(session, self.connection.keyspace, self.table))

    def scan_of(self, table: Table) -> Scan:
        """Checks the read against a table; raises SchemaError where they differ."""
        needed = self.writetimes
        if self.as_of is not None:
            needed = tuple(dict.fromkeys([*self.writetimes, *self._dated(table)]))
            self._check_keys(table)
        return plan_scan(table, self.columns, self.window, self.time_column, self.filters, needed, self.ttls)

    def kept(self, batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
        """Leaves out what was written after `as_of`, and the write times that nobody asked for."""
        if self.as_of is None:
            return batch
        dated, static = self._dated(scan.table), scan.table.static
        clustering = next((name for name in scan.table.clustering if name in scan.names), None)
        return kept(batch, dated, self.as_of, self.writetimes, static, clustering)

    def rows(self, fetched: Iterable[Any], scan: Scan, reads: list[RangeRead]) -> Iterator[pa.RecordBatch]:
        """Yields the rows that were asked for, of what Fetcher yields; appends its RangeReads to `reads`."""
        for found in fetched:
            if isinstance(found, RangeRead):
                reads.append(found)
                continue
            batch = self.kept(filtered(found, scan), scan)
            if batch.num_rows:
                yield batch

    def _check_keys(self, table: Table) -> None:
        # A cell of today that is filtered on may be another than the one of as_of.
        keys = (*table.partition_key, *table.clustering)
        filtered_on = [column for column, _ in self.filters] + ([self.time_column] if self.time_column else [])
        if other := [column for column in filtered_on if column not in keys]:
            raise SchemaError(
                f'as_of: got a restriction of {other[0]!r}, rule: of key columns only ({", ".join(keys)})'
            )

    def _dated(self, table: Table) -> list[str]:
        """Returns the columns read that are not in the primary key: those whose cells have a write time."""
        keys = (*table.partition_key, *table.clustering)
        columns = table.own_columns if self.columns is None else self.columns
        return [column for column in columns if column not in keys and table.type_of('columns', column)]

    def planned(self, page_rows: int) -> ReadOptions:
        """Returns the options with the rows of a page that the plan has found to fit."""
        return dataclasses.replace(self.options, page_rows=page_rows)


@dataclasses.dataclass(frozen=True)
class TableRead:
    """A request that was checked against its table.

    Attributes:
      request: What is asked for.
      scan: The scan, checked against the table.
      schema: Of the batches that are read.
    """

    request: ReadRequest
    scan: Scan
    schema: pa.Schema

    @property
    def table(self) -> Table:
        return self.scan.table


def filtered(batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
    """Applies what the server did not: a window on another column, and `where`."""
    if scan.window is not None and not scan.pushed_down:
        time = batch.column(scan.index(str(scan.time_column)))
        start, end = (pa.scalar(bound, time.type) for bound in scan.window.bounds)
        batch = batch.filter(pc.and_(pc.greater_equal(time, start), pc.less(time, end)))
    for column, wanted in scan.filters:
        cql_type = scan.table.type_of('where', column)
        batch = batch.filter(values.matches(batch.column(scan.index(column)), cql_type, wanted))
    # What the scan reads for its own use stands behind the wanted columns.
    count = len(scan.names)
    return pa.RecordBatch.from_arrays(batch.columns[:count], schema=pa.schema(list(batch.schema)[:count]))
