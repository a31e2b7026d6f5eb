"""What is asked of a scan, checked; its plan; and what the workers do of it that the server does not."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan import identity, ledger, plan, recount, sampling, survey
from tfx_cassandra.components.scan.as_of import kept, microseconds
from tfx_cassandra.components.scan.fetch import FetchOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan, plan_scan
from tfx_cassandra.components.scan.sampling import Bounds
from tfx_cassandra.components.window import TimeWindow

PAGE_ROWS = 5000

_log = logging.getLogger(__name__)


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
    as_of: datetime.datetime | None = None
    recount: bool = False
    decoding: Decoding = DEFAULT

    def __post_init__(self) -> None:
        if not isinstance(self.connection, CassandraConnection):
            raise TypeError(f'connection: got {self.connection!r}, rule: a CassandraConnection')
        if not isinstance(self.table, str) or not self.table:
            raise invalid('table', self.table, 'the name of a table')
        if self.columns is not None and not _are_names(self.columns):
            raise invalid('columns', self.columns, 'one or more names, each once, in a list, or None for all')
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

        if self.as_of is not None:
            microseconds(self.as_of)

    @property
    def limited(self) -> bool:
        return self.rows_per_second is not None or self.bytes_per_second is not None

    def scan(self, session: Session) -> Scan:
        """Checks the read against the live table; raises SchemaError where they differ."""
        table = tables.describe(session, self.connection.keyspace, self.table)
        needed = self.writetimes
        if self.as_of is not None:
            needed = tuple(dict.fromkeys([*self.writetimes, *self._dated(table)]))
            self._check_keys(table)
        return plan_scan(table, self.columns, self.window, self.time_column, self.filters, needed)

    def kept(self, batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
        """Leaves out what was written after `as_of`, and the write times that nobody asked for."""
        if self.as_of is None:
            return batch
        dated, static = self._dated(scan.table), scan.table.static
        clustering = next((name for name in scan.table.clustering if name in scan.names), None)
        return kept(batch, dated, self.as_of, self.writetimes, static, clustering)

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
        columns = table.readable if self.columns is None else self.columns
        return [column for column in columns if column not in keys and table.type_of('columns', column)]

    def fetch_options(self, page_rows: int) -> FetchOptions:
        return FetchOptions(
            self.consistency, page_rows, self.rows_per_second, self.bytes_per_second, decoding=self.decoding
        )


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
        if local is not None and options.consistency.upper().startswith('LOCAL_'):
            survey.check_replicated(session, scan.table.keyspace, owned, local)
        scan = _as_allowed(session, raw, scan)
        nodes = sorted({node for owner in owned for node in owner.replicas})
        keys = survey.key_tokens(session, scan)
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


def _are_names(value: Any) -> bool:
    texts = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)
    return texts and 0 < len(value) == len(set(value))


def verified(options: ReadOptions, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
    """Adds up what the workers read of a plan, and proves that it is what was planned.

    Raises:
      CoverageError: The areas that were read do not tile what was asked for exactly once; or, where a second count
        was asked for, it finds another number of rows.
      SchemaError: The table, or a type of its columns, was changed while it was read.
      ReadError: The cluster does not answer any more.
    """
    coverage = ledger.verified(reads, planned.wanted)
    with connections.session(options.connection, RawHandler) as raw:
        identity.check_unchanged(raw, planned.scan.table)
        if options.recount:
            recount.check(raw, planned, reads, options.consistency)
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
