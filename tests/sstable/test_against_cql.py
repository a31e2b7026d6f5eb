"""SSTables against CQL: made tables of every type, with every kind of write and deletion, in one to eight SSTables.

Every cell and every write time that CQL has of them must come out of their files, before and after a compaction.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.concurrent import execute_concurrent
from snapshots import Snapshots, in_cql, in_files, snapshots_of
from sstable_tables import EXPIRED, SECONDS, TYPES, MadeTable, quoted

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.sstable.read import open_snapshot

pytestmark = pytest.mark.integration


@dataclasses.dataclass
class Made:
    """Tables whose histories have been written, each stage flushed."""

    connection: CassandraConnection
    snapshots: Snapshots
    tables: list[MadeTable]

    def check(self, folders: dict[str, Path]) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        for table in self.tables:
            schema, values = in_cql(self.connection, table.name)
            found_schema, found = in_files(folders[table.name], now)
            assert found_schema.equals(schema, check_metadata=True), table.create
            for name, expected, column in zip(schema.names, values, found, strict=True):
                assert column == expected, (name, table.create, table.stages)


def make(connection: CassandraConnection, keyspace: str, seeds: range) -> Made:
    """Writes the tables of seeds into a new keyspace."""
    snapshots = snapshots_of(connection)
    mine = dataclasses.replace(connection, keyspace=keyspace)
    made = [MadeTable(keyspace, f't{seed}', seed) for seed in seeds]
    with connections.session(connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
        session.execute(
            f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        for name, fields in TYPES.items():
            session.execute(
                f'CREATE TYPE {keyspace}.{quoted(name)} ({", ".join(f"{quoted(f)} {of}" for f, of in fields)})'
            )
        for table in made:
            session.execute(table.create)
        for stage in range(max(len(table.stages) for table in made)):
            statements = [line for table in made for line in (table.stages[stage] if stage < len(table.stages) else [])]
            for line in statements:
                if line.startswith('ALTER'):
                    session.execute(line)
            writes = [(line, ()) for line in statements if not line.startswith('ALTER')]
            for success, error in execute_concurrent(session, writes, concurrency=64, raise_on_first_error=False):
                assert success or 'Invalid' in type(error).__name__, error
            snapshots.run('flush', keyspace)
    time.sleep(SECONDS + EXPIRED)
    return Made(mine, snapshots, made)


@pytest.fixture(scope='module')
def made(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[Made]:
    yield make(cluster_connection, 'sstable_made', range(30))
    drop(cluster_connection, 'sstable_made')


def drop(connection: CassandraConnection, keyspace: str) -> None:
    with connections.session(connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)


def test_made_tables_equal_cql(made: Made) -> None:
    made.check(made.snapshots.take(made.connection.keyspace))


def test_the_table_of_schema_cql_is_that_of_the_live_schema(made: Made) -> None:
    folders = made.snapshots.take(made.connection.keyspace)
    with connections.session(made.connection) as session:
        for table in made.tables:
            assert open_snapshot(folders[table.name])[0].table == tables.describe(
                session, made.connection.keyspace, table.name
            )


def test_made_tables_equal_cql_after_a_compaction(made: Made) -> None:
    made.snapshots.run('compact', made.connection.keyspace)
    made.check(made.snapshots.take(made.connection.keyspace))


@pytest.mark.slow
@pytest.mark.parametrize('first', range(1000, 6000, 100))
def test_thousands_of_made_tables_equal_cql(
    cluster_connection: CassandraConnection, cassandra_5: None, first: int
) -> None:
    many = make(cluster_connection, 'sstable_many', range(first, first + 100))
    many.check(many.snapshots.take('sstable_many'))
    many.snapshots.run('compact', 'sstable_many')
    many.check(many.snapshots.take('sstable_many'))
    drop(cluster_connection, 'sstable_many')
