"""SSTables against CQL: made tables of every type, with every kind of write and deletion, in one to eight SSTables.

Every cell, write time and time to live that CQL has of them must come out of their files, before and after a
compaction; and of chosen columns the rows that it shows of those: a row may live by cells that nobody asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_sstables import Made, make, writing
from snapshots import snapshots_of

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.sstable.snapshot import open_snapshot

pytestmark = pytest.mark.integration

_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))


@pytest.fixture(scope='module')
def made(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[Made]:
    tables = make(cluster_connection, snapshots_of(cluster_connection), 'sstable_made', range(24), most_stages=3)
    yield tables
    tables.drop()


@pytest.fixture(scope='module')
def folders(made: Made) -> dict[str, Path]:
    return made.check(chosen=True)


def test_made_tables_equal_cql(folders: dict[str, Path]) -> None:
    counts = [len(list(folder.glob('*-Data.db'))) for folder in folders.values()]
    assert len(counts) == 25
    assert max(counts) >= 3


def test_the_table_of_schema_cql_is_that_of_the_live_schema(made: Made, folders: dict[str, Path]) -> None:
    with connections.session(made.connection) as session:
        for table in made.tables:
            live = tables.describe(session, made.connection.keyspace, table.name)
            assert open_snapshot(folders[table.name])[0].table == live


def test_made_tables_equal_cql_after_a_compaction(made: Made, folders: dict[str, Path]) -> None:
    made.snapshots.run('compact', made.connection.keyspace)
    compacted = made.check(chosen=True)
    # What was deleted and may be forgotten leaves no file.
    assert {len(list(folder.glob('*-Data.db'))) for folder in compacted.values()} <= {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize('first', range(1000, 6000, 250))
def test_thousands_of_made_tables_equal_cql(
    cluster_connection: CassandraConnection, cassandra_5: None, first: int
) -> None:
    many = make(cluster_connection, snapshots_of(cluster_connection), 'sstable_many', range(first, first + 250))
    check_and_compact(many)


def check_and_compact(many: Made) -> dict[str, Path]:
    many.check(chosen=True)
    many.snapshots.run('compact', many.connection.keyspace)
    folders = many.check(chosen=True)
    many.drop()
    return folders


@pytest.mark.slow
@pytest.mark.parametrize('version', ['oa', 'da'])
def test_the_versions_of_cassandra_5(tmp_path: Path, version: str) -> None:
    with writing(version, tmp_path, _WORKER) as (connection, snapshots):
        folders = check_and_compact(make(connection, snapshots, 'sstable_new', range(7000, 7040)))
    assert {path.name[:2] for folder in folders.values() for path in folder.glob('*-Data.db')} <= {version}
