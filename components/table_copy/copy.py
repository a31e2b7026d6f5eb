"""Copies a table range by range of tokens, each written and acknowledged before it is recorded.

    units of the ring -> scan with write times and times to live -> rows of one of each (cells.py) -> TableWriter
      -> the unit's ledger is complete and every row is acknowledged -> record.py; at the end both tables are counted

A killed copy goes on with the units that are not recorded. Writing a unit's rows again changes nothing, because they
have the write times of the source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components.checks import Count, Rate, TableName, check_fields
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, WriteError, invalid
from tfx_cassandra.components.progress import Step
from tfx_cassandra.components.scan import identity, probe
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.source import opened, plan_splits
from tfx_cassandra.components.scan.units import Units
from tfx_cassandra.components.table_copy.cells import TTL, WRITTEN, writes
from tfx_cassandra.components.table_copy.record import Record
from tfx_cassandra.components.write.statement import WriteOptions, is_counter
from tfx_cassandra.components.write.writer import TableWriter

UNITS = 256


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """How a table is copied.

    Attributes:
      source, target: The tables: TABLE, or KEYSPACE.TABLE.
      checkpoint: The file that records what was copied; None to keep nothing.
      rate: Rows that are written a second at most, or None.
      consistency: Consistency level of reads and writes.
      units: Number of token ranges that are recorded one by one.

    Raises:
      ValueError: A field breaks its rule.
    """

    source: TableName
    target: TableName
    checkpoint: Path | None = None
    rate: Rate | None = None
    consistency: Consistency = 'LOCAL_QUORUM'
    units: Count = UNITS

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Copied:
    """What a copy has done.

    Attributes:
      copied: Rows that were read and acknowledged, by this run and those that it went on from.
      source, target: Rows that both tables had at its end.
    """

    copied: int
    source: int
    target: int

    @property
    def is_equal(self) -> bool:
        """Whether both tables have as many rows."""
        return self.source == self.target


def copy(connection: CassandraConnection, options: CopyOptions, running: Step) -> Copied:
    """Copies a table into another one, which need not be empty.

    Args:
      connection: How to reach the cluster.
      options: What is copied, and how.
      running: The step that shows the progress.

    Raises:
      SchemaError: The tables do not fit each other.
      WriteError: A row was not written; what was recorded before stays.
      ReadError, CoverageError: A range could not be read.
      ValueError: The checkpoint is of another copy.
    """
    with connections.session(connection) as session, connections.session(connection, RawHandler) as raw:
        source, target = (
            tables.describe(session, connection.keyspace, name) for name in (options.source, options.target)
        )
        _check(source, target)
        request = _request(connection, source, options)
        try:
            session.prepare(request.scan(session).cql())
        except DRIVER_ERRORS as error:
            rule = f'a table whose write times and times to live can be read ({one_line(error)})'
            raise SchemaError(f'source: got {str(source)!r}, rule: {rule}') from error
        writing = WriteOptions(
            options.consistency, ttl_column=TTL, timestamp_column=WRITTEN, rows_per_second=options.rate
        )
        writer = TableWriter(session, target, writing)
        plan = plan_splits(request)
        record = Record(options.checkpoint, _what(session, [source, target], options))
        with opened(request) as fetches:
            units = Units(fetches, request, plan, options.units)
            for unit in range(options.units):
                if unit not in record.rows:
                    record.done(unit, _copy_unit(units.read(unit), source, writer, options))
                running.update(f'{sum(record.rows.values()):,} rows, {len(record.rows)} of {options.units} ranges')
        identity.check_unchanged(raw, plan.scan.table)
    counts = [probe.count(_counting(connection, table, options)) for table in (source, target)]
    return Copied(sum(record.rows.values()), *counts)


def _copy_unit(
    found: Iterator[pa.RecordBatch | Coverage], source: Table, writer: TableWriter, options: CopyOptions
) -> int:
    """Writes the rows of a unit; returns their number."""
    rows, others = 0, _others(source)
    for item in found:
        if isinstance(item, Coverage):
            continue
        rows += item.num_rows
        for part in writes(item, source.own_key, others):
            for failure in writer.write(part):
                raise WriteError(
                    f'{options.target}: cannot write a row of {source} ({failure.kind}: {failure.message})'
                )
    return rows


def _request(connection: CassandraConnection, source: Table, options: CopyOptions) -> ReadRequest:
    others = _others(source)
    reading = ReadOptions(options.consistency)
    return ReadRequest(connection, str(source), source.own_columns, options=reading, writetimes=others, ttls=others)


def _counting(connection: CassandraConnection, table: Table, options: CopyOptions) -> ReadRequest:
    return ReadRequest(connection, str(table), table.own_partition_key[:1], options=ReadOptions(options.consistency))


def _others(table: Table) -> tuple[str, ...]:
    return tuple(column for column in table.own_columns if column not in table.own_key)


def _check(source: Table, target: Table) -> None:
    """Raises SchemaError if the rows of a table cannot be those of another one."""
    if str(source) == str(target):
        raise invalid('target', str(target), 'another table than the source')
    for table in (source, target):
        if is_counter(table):
            raise SchemaError(f'{table}: got counters, rule: values that are written and not added to')
    types = dict(target.types)
    for column in source.own_columns:
        kind = dict(source.types)[column]
        if column in target.layout.columns or types.get(column) != kind:
            raise SchemaError(f'{target}: got {column} {types.get(column)}, rule: {kind} as in {source}')
    if {*source.own_key} != {*target.own_key}:
        rule = f'the key of {source} ({", ".join(source.own_key)}) and the columns of the layout'
        raise SchemaError(f'{target}: got the key {", ".join(target.own_key)}, rule: {rule}')
    if source.static and target.layout.columns:
        raise SchemaError(f'{source}: got static columns, rule: none, because a partition becomes several')


def _what(session: Session, copied: list[Table], options: CopyOptions) -> dict[str, Any]:
    """Returns what a checkpoint has to agree with."""
    query = session.prepare('SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?')
    ids = [session.execute(query, (table.keyspace, table.name)).one() for table in copied]
    named = {
        name: [str(table), str(row and row.id)]
        for name, table, row in zip(('source', 'target'), copied, ids, strict=True)
    }
    return {**named, 'ranges': options.units}
