"""Scans of a backup against scans of the cluster it was taken of: the same rows, checksum and fingerprint."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_sstables import Made, make
from scanned import scanned
from snapshots import snapshots_of

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.sstable.snapshot import open_snapshot
from tfx_cassandra.components.window import EPOCH, TimeWindow

pytestmark = pytest.mark.integration

OPTIONS = ReadOptions(splits=5, page_rows=100, decoding=Decoding(wide_varints='text'))
ALWAYS = TimeWindow(EPOCH - datetime.timedelta(days=365 * 500), EPOCH + datetime.timedelta(days=365 * 500))


@pytest.fixture(scope='module')
def made(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[Made]:
    tables = make(cluster_connection, snapshots_of(cluster_connection), 'backup_scans', range(2000, 2008), 3)
    yield tables
    tables.drop()


@pytest.fixture(scope='module')
def folders(made: Made) -> dict[str, Path]:
    return made.snapshots.take(made.connection.keyspace)


def both(made: Made, folder: Path, table: str, **fields: Any) -> tuple[Any, Any]:
    live = ReadRequest(made.connection, table, options=OPTIONS, **fields)
    backup = BackupTables(CassandraBackup(str(folder), keyspace=made.connection.keyspace))
    return scanned(live), scanned(dataclasses.replace(live, connection=backup))


def check(live: Any, stored: Any) -> None:
    assert stored[0] == live[0]
    assert (stored[2].rows, stored[2].checksum) == (live[2].rows, live[2].checksum)
    assert stored[1] == live[1]


def test_whole_tables(made: Made, folders: dict[str, Path]) -> None:
    for table in made.tables:
        live, stored = both(made, folders[table.name], table.name)
        check(live, stored)
        assert stored[2].ranges == 5
        assert sum(count for _, count in stored[2].backup['rows_of_files']) >= live[2].rows


def test_with_write_times(made: Made, folders: dict[str, Path]) -> None:
    for table in made.tables:
        of_table = open_snapshot(folders[table.name])[0].table
        others = [name for name in of_table.readable if name not in (*of_table.partition_key, *of_table.clustering)]
        check(*both(made, folders[table.name], table.name, writetimes=tuple(others)))
        now = datetime.datetime.now(datetime.timezone.utc)
        check(*both(made, folders[table.name], table.name, as_of=now))
