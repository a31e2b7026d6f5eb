"""Snapshots of the dev cluster's tables, and what CQL says of the same tables: the oracle of components/sstable.

CQL's rows are decoded by `slow_pages`, from the bytes that the server has sent.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import slow_pages
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from recorded_sstables import Recorded

from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import SCALARS, schema_of
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.page import RawHandler, raw_rows
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.snapshot import open_snapshot
from tfx_cassandra.components.sstable.sstable import SSTable

SLACK = 60  # seconds


class Snapshots:
    """The dev cluster's only node."""

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster

    def run(self, *args: str) -> None:
        assert self._cluster.nodetool(list(args)) == 0, args

    def take(self, keyspace: str) -> dict[str, Path]:
        """Takes a snapshot of a keyspace, which flushes it; returns the folder of each of its tables."""
        tag = uuid.uuid4().hex
        self.run('snapshot', '-t', tag, keyspace)
        folder = self._cluster.ring[0].folder / 'data' / keyspace
        return {path.parts[-3].rpartition('-')[0]: path for path in folder.glob(f'*/snapshots/{tag}')}


def snapshots_of(connection: CassandraConnection) -> Snapshots:
    """Returns the dev cluster that a connection is to; skips the test where it is another cluster."""
    cluster = DevCluster.saved(default_directory())
    if cluster is None or cluster.nodes != 1 or cluster.contact_points != connection.contact_points:
        pytest.skip('no node of the dev cluster of this checkout, so no nodetool')
    return Snapshots(cluster)


Asked = tuple[pa.Schema, list[list[Any]]]


@contextlib.contextmanager
def asking(connection: CassandraConnection) -> Iterator[Callable[..., Asked]]:
    """Opens sessions; yields a function that returns a table's schema and columns as CQL has them.

    Write times and times to live follow, of those columns that have one.
    """
    with connections.session(connection) as describing, connections.session(connection, RawHandler) as session:
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)

        def ask(table: str, columns: Sequence[str] | None = None) -> Asked:
            described = tables.describe(describing, connection.keyspace, table)
            cells, single = with_times(described, columns)
            scan = plan_scan(described, columns, writetimes=cells, ttls=single)
            found = session.execute(session.prepare(scan.select), execution_profile=profile)
            pages = list(found.current_rows)
            while found.has_more_pages:
                found.fetch_next_page()
                pages += found.current_rows
            count = len(scan.names)
            cut = [slow_pages.decode(page.body, page.offset, page.rows, list(page.kinds)) for page in pages]
            values = [list(itertools.chain.from_iterable(page[i] for page in cut)) for i in range(count)]
            return schema_of(pages[0].names[:count], pages[0].kinds[:count]), values

        yield ask


def with_times(table: Table, columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Returns the columns that have a write time, and those of them that are one cell, which has a time to live."""
    keys = (*table.partition_key, *table.clustering)
    cells = [name for name in (table.readable if columns is None else columns) if name not in keys]
    kinds = {name: table.type_of('columns', name) for name in cells}
    one_cell = ('frozen<', 'tuple<', 'vector<')
    return cells, [name for name in cells if kinds[name] in SCALARS or kinds[name].startswith(one_cell)]


def in_cql(connection: CassandraConnection, table: str, columns: Sequence[str] | None = None) -> Asked:
    """Returns what `asking` yields a function for."""
    with asking(connection) as ask:
        return ask(table, columns)


def selections(table: Table) -> list[list[str]]:
    """Returns some choices of columns: keys alone, one of the others, two of them."""
    keys = [*table.partition_key, *table.clustering]
    others = [name for name in table.readable if name not in keys]
    single = [[name, *keys] for name in others[:3]]
    return [keys, keys[-1:], *single, *([[others[-1], others[0]]] if len(others) > 2 else [])]


def in_files(folder: Path, now: datetime.datetime, columns: Sequence[str] | None = None, **options: Any) -> Asked:
    """Returns the same of a snapshot."""
    schema, sstables = open_snapshot(folder)
    return values_of(schema, sstables, now, columns, **options)


def values_of(
    schema: SchemaFile,
    sstables: Sequence[SSTable],
    now: datetime.datetime,
    columns: Sequence[str] | None = None,
    **options: Any,
) -> Asked:
    """Returns the same of SSTables."""
    cells, single = with_times(schema.table, columns)
    reading = Reading(schema, sstables, now, columns, cells, ttls=single, **options)
    values: list[list[Any]] = [[] for _ in reading.schema]
    for batch in reading:
        batch.validate(full=True)
        for column, array in zip(values, batch.columns, strict=True):
            column += slow_pages.values(array)
    return reading.schema, values


def is_same(name: str, found: list[Any], expected: list[Any]) -> bool:
    """Whether two columns have the same values; a time to live may have become shorter since CQL was not yet asked."""
    if not name.startswith('ttl('):
        return found == expected
    pairs = [pair for pair in zip(found, expected, strict=True) if None not in pair]
    nulls = [value is None for value in found] == [value is None for value in expected]
    return nulls and all(0 <= ours - theirs <= SLACK for ours, theirs in pairs)


def difference(one: Recorded) -> tuple[Sequence[str] | None, str] | None:
    """Returns the choice of columns and the column in which a recorded table is not what CQL said; None if it is."""
    for columns, expected in ((None, one.values), *one.chosen):
        schema, found = in_files(one.folder, one.now, columns)
        for name, *pair in zip(schema.names, found, expected, strict=True):
            if not is_same(name, *pair):
                return columns, name
    return None
