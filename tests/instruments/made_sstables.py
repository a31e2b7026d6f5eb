"""Writes the histories of `sstable_tables` into a live node, flushes each stage, and compares its files with CQL."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from pathlib import Path

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from snapshots import Snapshots, in_cql, in_files
from sstable_tables import EXPIRED, SECONDS, TYPES, MadeTable, WrittenTable, quoted

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection


@dataclasses.dataclass
class Made:
    """Tables whose histories have been written, each stage flushed; `connection` names their keyspace."""

    connection: CassandraConnection
    snapshots: Snapshots
    tables: list[MadeTable | WrittenTable]

    def check(self) -> dict[str, Path]:
        """Compares every cell and write time with CQL; returns the folders of the tables."""
        folders = self.snapshots.take(self.connection.keyspace)
        now = datetime.datetime.now(datetime.timezone.utc)
        for table in self.tables:
            schema, values = in_cql(self.connection, table.name)
            found_schema, found = in_files(folders[table.name], now)
            assert found_schema.equals(schema, check_metadata=True), (found_schema, schema)
            for name, expected, column in zip(schema.names, values, found, strict=True):
                assert column == expected, (name, folders[table.name], table.create)
        return folders

    def drop(self) -> None:
        """Drops the keyspace and its snapshots."""
        self.snapshots.run('clearsnapshot', '--all', '--', self.connection.keyspace)
        with connections.session(self.connection) as session:
            session.execute(f'DROP KEYSPACE {self.connection.keyspace}', timeout=120)


def make(
    connection: CassandraConnection, snapshots: Snapshots, keyspace: str, seeds: Sequence[int], most_stages: int = 8
) -> Made:
    """Writes the tables of seeds into a new keyspace, and one that is written by hand."""
    made: list[MadeTable | WrittenTable] = [MadeTable(keyspace, f't{seed}', seed, most_stages) for seed in seeds]
    made.append(WrittenTable(keyspace, 'written'))
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    with connections.session(connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
        session.execute(f'CREATE KEYSPACE {keyspace} WITH replication = {replication}')
        for name, fields in TYPES.items():
            content = ', '.join(f'{quoted(field)} {of}' for field, of in fields)
            session.execute(f'CREATE TYPE {keyspace}.{quoted(name)} ({content})')
        for table in made:
            session.execute(table.create)
        for stage in range(max(len(table.stages) for table in made)):
            _write(session, [line for table in made for line in table.stages[stage : stage + 1]])
            snapshots.run('flush', keyspace)
    time.sleep(SECONDS + EXPIRED)
    return Made(dataclasses.replace(connection, keyspace=keyspace), snapshots, made)


def _write(session: Session, stages: list[list[str]]) -> None:
    """Executes the statements of a stage; a few are invalid, such as those with an empty key, and change nothing."""
    statements = [line for stage in stages for line in stage]
    for line in statements:
        if line.startswith('ALTER'):
            session.execute(line)
    writes = [(line, ()) for line in statements if not line.startswith('ALTER')]
    refused = 0
    for success, error in execute_concurrent(session, writes, concurrency=64, raise_on_first_error=False):
        assert success or type(error).__name__ == 'InvalidRequest', error
        refused += not success
    assert refused <= 3 + len(writes) // 5, f'{refused} of {len(writes)} statements are invalid'
