"""Loads inputs into a live table, with a session of its own."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import WriteError, invalid
from tfx_cassandra.components.ingest.inputs import Input
from tfx_cassandra.components.ingest.load import Load, target_of
from tfx_cassandra.components.ingest.options import LoadOptions, Summary
from tfx_cassandra.components.progress import Step
from tfx_cassandra.components.write.statement import WriteOptions, is_counter
from tfx_cassandra.components.write.writer import TableWriter


def into(
    connection: CassandraConnection,
    table: str,
    inputs: Sequence[Input],
    options: LoadOptions,
    running: Step,
    *,
    ttl: datetime.timedelta | None = None,
    consistency: str = 'LOCAL_QUORUM',
) -> Summary:
    """Loads inputs into a table.

    Args:
      connection: How to reach the cluster; its keyspace holds the table.
      table: TABLE, or KEYSPACE.TABLE.
      inputs: Files, as `inputs.find` returns them.
      options: How to load them.
      running: The step that shows the progress.
      ttl: How long the rows live, in whole seconds; None for the table's default.
      consistency: Consistency level of the writes.

    Raises:
      SchemaError: Inputs and table do not fit each other; nothing was written.
      WriteError: More records failed than may, or the table cannot be written.
      InputError: An input is damaged; what came before is written.
      ValueError: An argument breaks its rule.
    """
    with connections.session(connection) as session:
        live = tables.describe(session, connection.keyspace, table)
        if is_counter(live):
            raise invalid('table', str(live), 'a table without counters: rows that are written again would count twice')
        try:
            target = target_of(session, live, options)
            writing = WriteOptions(
                consistency=consistency, ttl=ttl, timestamp_column=target.timestamp_column, rows_per_second=options.rate
            )
            writer = TableWriter(session, live, writing)
            load = Load(target, options, writer.write, _destination(session, live, options))
        except DRIVER_ERRORS as error:
            rule = f'a table that this user may read, on nodes that answer ({one_line(error)})'
            raise WriteError(f'table: got {str(live)!r}, rule: {rule}') from error
        load.check(inputs)
        return load.run(inputs, running)


def _destination(session: Session, table: Table, options: LoadOptions) -> dict[str, Any]:
    """Returns what a checkpoint has to agree with."""
    query = session.prepare('SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?')
    row = session.execute(query, (table.keyspace, table.name)).one()
    return {
        'table': str(table),
        'table id': None if row is None else str(row.id),
        'mapping': options.mapping.digest,
        'timestamp column': options.timestamp_column,
        'nulls': sorted(options.csv.nulls),
    }
