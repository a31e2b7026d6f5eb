"""Snapshots of the dev cluster's tables, and what CQL says of the same tables: the oracle of components/sstable.

CQL's rows are decoded by `slow_pages`, from the bytes that the server has sent.
"""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import slow_pages
from cassandra.cluster import EXEC_PROFILE_DEFAULT

from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.cql.types import schema_of
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.page import RawHandler, raw_rows
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.sstable.read import Reading, SSTable, open_snapshot
from tfx_cassandra.components.sstable.schema_file import SchemaFile


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


def in_cql(connection: CassandraConnection, table: str, columns: Any = None) -> tuple[pa.Schema, list[list[Any]]]:
    """Returns a table's schema and columns as CQL has them, followed by the write times of those that have one."""
    with connections.session(connection) as session:
        described = tables.describe(session, connection.keyspace, table)
    keys = (*described.partition_key, *described.clustering)
    names = described.readable if columns is None else columns
    scan = plan_scan(described, columns, writetimes=[name for name in names if name not in keys])
    pages = []
    with connections.session(connection, RawHandler) as session:
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)
        found = session.execute(session.prepare(scan.select), execution_profile=profile)
        pages += found.current_rows
        while found.has_more_pages:
            found.fetch_next_page()
            pages += found.current_rows
    count = len(scan.names)
    cut = [slow_pages.decode(page.body, page.offset, page.rows, list(page.kinds)) for page in pages]
    columns = [list(itertools.chain.from_iterable(page[i] for page in cut)) for i in range(count)]
    return schema_of(pages[0].names[:count], pages[0].kinds[:count]), columns


def in_files(
    folder: Path, now: datetime.datetime, columns: Any = None, **options: Any
) -> tuple[pa.Schema, list[list[Any]]]:
    """Returns the same of a snapshot."""
    schema, sstables = open_snapshot(folder)
    return values_of(schema, sstables, now, columns, **options)


def values_of(
    schema: SchemaFile, sstables: Sequence[SSTable], now: datetime.datetime, columns: Any = None, **options: Any
) -> tuple[pa.Schema, list[list[Any]]]:
    """Returns the same of SSTables."""
    keys = (*schema.table.partition_key, *schema.table.clustering)
    names = schema.table.readable if columns is None else columns
    reading = Reading(schema, sstables, now, columns, [name for name in names if name not in keys], **options)
    values: list[list[Any]] = [[] for _ in reading.schema]
    for batch in reading:
        batch.validate(full=True)
        for column, array in zip(values, batch.columns, strict=True):
            column += slow_pages.values(array)
    return reading.schema, values
