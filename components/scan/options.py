"""What is asked of a scan, checked; its plan; and what the workers do of it that the server does not."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan import plan, survey
from tfx_cassandra.components.scan.as_of import kept, microseconds
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan, plan_scan
from tfx_cassandra.components.window import TimeWindow


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """What ReadFromCassandra is asked for, checked; see there."""

    connection: CassandraConnection
    table: str
    columns: tuple[str, ...] | None = None
    window: TimeWindow | None = None
    time_column: str | None = None
    filters: tuple[tuple[str, tuple], ...] = ()
    options: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    writetimes: tuple[str, ...] = ()
    as_of: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.connection, CassandraConnection):
            raise TypeError(f'connection: got {self.connection!r}, rule: a CassandraConnection')
        if not isinstance(self.table, str) or not self.table:
            raise invalid('table', self.table, 'the name of a table')
        if self.columns is not None and (not self.columns or len(set(self.columns)) < len(self.columns)):
            raise invalid('columns', self.columns, 'one or more names, each once, or None for all')
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
        return plan_scan(table, self.columns, self.window, self.time_column, self.filters, needed)

    def kept(self, batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
        """Leaves out what was written after `as_of`, and the write times that nobody asked for."""
        if self.as_of is None:
            return batch
        return kept(batch, self._dated(scan.table), self.as_of, self.writetimes)

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
        columns = [name for name, _ in table.types] if self.columns is None else self.columns
        return [column for column in columns if column not in keys and table.type_of('columns', column)]

    def planned(self, page_rows: int) -> ReadOptions:
        """Returns the options with the rows of a page that the plan has found to fit."""
        return dataclasses.replace(self.options, page_rows=page_rows)


def plan_splits(request: ReadRequest) -> Plan:
    """Asks the live cluster for its ring and for the table's size, and plans the scan.

    Raises:
      SchemaError: The table or a column does not exist, or the cluster's partitioner is not Murmur3.
    """
    connection = request.connection
    with connections.session(connection) as session, connections.session(connection, RawHandler) as raw:
        scan = request.scan(session)
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
            least=request.options.splits,
            page_rows=request.options.page_rows,
            together=request.options.limited,
        )


def filtered(batch: pa.RecordBatch, scan: Scan) -> pa.RecordBatch:
    """Applies what the server did not: a window on another column, and `where`."""
    if scan.window is not None and not scan.pushed_down:
        time = batch.column(batch.schema.get_field_index(scan.time_column))
        start, end = (pa.scalar(bound, time.type) for bound in scan.window.bounds)
        batch = batch.filter(pc.and_(pc.greater_equal(time, start), pc.less(time, end)))
    for column, values in scan.filters:
        array = batch.column(batch.schema.get_field_index(column))
        batch = batch.filter(pc.is_in(array, pa.array(list(map(_as_read, values)), array.type)))
    # What the scan reads for its own use stands behind the wanted columns.
    wanted = len(scan.names)
    return pa.RecordBatch.from_arrays(batch.columns[:wanted], schema=pa.schema(list(batch.schema)[:wanted]))


def _as_read(value: Any) -> Any:
    """Returns a filter's value as batches hold it: ids, addresses and decimals are text there."""
    return str(value) if isinstance(value, (uuid.UUID, decimal.Decimal, ipaddress._BaseAddress)) else value
