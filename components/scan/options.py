"""What is asked of a scan, checked; its plan; and what the workers do of it that the server does not."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection, consistency_level
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan import identity, ledger, plan, recount, sampling, survey
from tfx_cassandra.components.scan.as_of import kept, microseconds
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan, plan_scan
from tfx_cassandra.components.scan.sampling import Bounds
from tfx_cassandra.components.window import TimeWindow

_log = logging.getLogger(__name__)

Columns = Annotated[
    Sequence[Name], Rule('one or more names, each once, in a list', lambda names: 0 < len(names) == len(set(names)))
]


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """What ReadFromCassandra is asked for, checked; see there."""

    connection: CassandraConnection
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

    def scan(self, session: Session) -> Scan:
        """Checks the read against the live table; raises SchemaError where they differ."""
        table = tables.describe(session, self.connection.keyspace, self.table)
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
    """A request that was checked against the live table.

    Attributes:
      request: What is asked for.
      scan: The scan, checked against the live table.
      schema: Of the batches that are read.
    """

    request: ReadRequest
    scan: Scan
    schema: pa.Schema

    @property
    def table(self) -> Table:
        return self.scan.table


def plan_splits(request: ReadRequest) -> Plan:
    """Asks the live cluster for its ring and for the table's size, and plans the scan.

    Raises:
      SchemaError: The table or a column does not exist, or the cluster's partitioner is not Murmur3.
    """
    connection, options = request.connection, request.options
    with connections.session(connection) as session, connections.session(connection, RawHandler) as raw:
        scan = request.scan(session)
        local = None if connection.secure_connect_bundle else connection.local_datacenter
        owned = survey.owned_ranges(session, scan.table.keyspace, local)
        if local is not None and options.consistency.upper().startswith('LOCAL_'):
            survey.check_replicated(session, scan.table.keyspace, owned, local)
        scan = _as_allowed(session, raw, scan)
        nodes = sorted({node for owner in owned for node in owner.replicas})
        keys = survey.key_tokens(session, scan, consistency_level(options.consistency))
        return plan.plan(
            scan,
            owned,
            survey.size_estimates(session, scan.table, nodes),
            sampling.sample(
                raw, scan, keys, Bounds(options.page_rows, options.rows_per_second, options.bytes_per_second)
            ),
            keys=keys,
            min_splits=options.splits,
            page_rows=options.page_rows,
            one_worker=options.limited,
        )


def _as_allowed(session: Session, raw: Session, scan: Scan) -> Scan:
    """Notes which table a scan is of, and goes without slices of time where the cluster forbids these."""
    if not survey.takes_slices(session, scan):
        _log.warning('%s: the cluster forbids ALLOW FILTERING, so all rows are read and filtered here', scan.table)
        scan = dataclasses.replace(scan, slices=False)
    table = dataclasses.replace(scan.table, identity=identity.identity(raw, scan))
    return dataclasses.replace(scan, table=table)


def verified(request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
    """Adds up what the workers read of a plan, and proves that it is what was planned.

    Raises:
      CoverageError: The areas that were read do not tile what was asked for exactly once; or, where a second count
        was asked for, it finds another number of rows.
      SchemaError: The table, or a type of its columns, was changed while it was read.
      ReadError: The cluster does not answer any more.
    """
    coverage = ledger.verified(reads, planned.wanted)
    with connections.session(request.connection, RawHandler) as raw:
        identity.check_unchanged(raw, planned.scan.table)
        if request.recount:
            recount.check(raw, planned, reads, request.options.consistency)
    return coverage


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
