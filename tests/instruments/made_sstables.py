"""Writes the histories of `sstable_tables` into a live node, flushes each stage, and compares its files with CQL."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from nodes import running
from snapshots import Snapshots, asking, in_files, is_same, selections
from sstable_tables import EXPIRED, SECONDS, TYPES, MadeTable, ManyPartitions, WrittenTable, quoted

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.sstable.snapshot import open_snapshot

AnyTable = MadeTable | WrittenTable | ManyPartitions


@dataclasses.dataclass
class Made:
    """Tables whose histories have been written, each stage flushed; `connection` names their keyspace."""

    connection: CassandraConnection
    snapshots: Snapshots
    tables: list[AnyTable]

    def check(self, chosen: bool = False) -> dict[str, Path]:
        """Compares every cell, write time and time to live with CQL; returns the folders of the tables.

        Args:
          chosen: Whether to compare choices of columns too.
        """
        folders = self.snapshots.take(self.connection.keyspace)
        with asking(self.connection) as ask:
            for table in self.tables:
                folder = folders[table.name]
                if not says_all_types(folder):
                    continue
                choices = selections(open_snapshot(folder)[0].table) if chosen else []
                for columns in (None, *choices):
                    now = datetime.datetime.now(datetime.timezone.utc)
                    schema, values = ask(table.name, columns)
                    found_schema, found = in_files(folder, now, columns)
                    assert found_schema.equals(schema, check_metadata=True), (found_schema, schema)
                    for name, expected, column in zip(schema.names, values, found, strict=True):
                        assert is_same(name, column, expected), (name, columns, folder, table.create)
        return folders

    def drop(self) -> None:
        """Drops the keyspace and its snapshots."""
        self.snapshots.run('clearsnapshot', '--all', '--', self.connection.keyspace)
        with connections.session(self.connection) as session:
            session.execute(f'DROP KEYSPACE {self.connection.keyspace}', timeout=120)


def says_all_types(folder: Path) -> bool:
    """Whether a snapshot says what its columns' types are.

    Cassandra's schema.cql leaves out user-defined types that only stand within tuples; an SSTable names the types of
    those columns that it has.
    """
    schema, sstables = open_snapshot(folder)
    held = {name for one in sstables for name, _ in (*one.statistics.header.statics, *one.statistics.header.regulars)}
    for column, kind in schema.table.types:
        try:
            schema.driver_type(kind)
        except SchemaError:
            assert column not in held
            return False
    return True


def make(
    connection: CassandraConnection,
    snapshots: Snapshots,
    keyspace: str,
    seeds: Sequence[int],
    most_stages: int = 8,
    many: bool = False,
) -> Made:
    """Writes the tables of seeds into a new keyspace, and one that is written by hand; `many`: ManyPartitions too."""
    made: list[MadeTable | WrittenTable | ManyPartitions] = [
        MadeTable(keyspace, f't{seed}', seed, most_stages) for seed in seeds
    ]
    made.append(WrittenTable(keyspace, 'written'))
    if many:
        made.append(ManyPartitions(keyspace, 'many'))
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


@contextlib.contextmanager
def writing(version: str, folder: Path, worker: int = 0) -> Iterator[tuple[CassandraConnection, Snapshots]]:
    """Runs a node that writes SSTables of version 'oa' or 'da'; yields a connection to it, and its snapshots."""
    cluster = DevCluster(
        folder, subnet=f'127.0.{66 + worker}', storage_port=7066, jmx_port=7601 + worker, heap='768M'
    )  # fmt: skip
    form = {'oa': 'big', 'da': 'bti'}[version]
    settings = {'storage_compatibility_mode': 'NONE', 'sstable': {'selected_format': form}}
    with running(cluster, settings, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, cluster.port, request_timeout=60.0)
        yield connection, Snapshots(cluster)
