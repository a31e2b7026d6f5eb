"""A window skips the SSTables that it does not need, and those alone: the rows stay those of CQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session
from scanned import scanned
from snapshots import Snapshots, snapshots_of

from tfx_cassandra.components import CassandraBackup, CassandraConnection
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.source import opened, plan_splits, verified
from tfx_cassandra.components.sstable.sstable import SSTable
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

DAYS, USERS = range(1, 6), 4
WINDOW = TimeWindow.parse('2024-03-03T00:00Z/2024-03-04T00:00Z')
# What the last of a table's six SSTables holds besides a row of the first day, and whether the window needs it.
LAST = {
    'rows': ("INSERT INTO {} (k, at, v) VALUES ('u2', '2024-03-01T07:00Z', 7)", False),
    'partition': ("DELETE FROM {} WHERE k = 'u1'", True),
    'ranges': ("DELETE FROM {} WHERE k = 'u1' AND at > '2024-03-02T00:00Z' AND at < '2024-03-05T00:00Z'", True),
    'open_end': ("DELETE FROM {} WHERE k = 'u1' AND at > '2024-03-01T12:00Z'", True),
    'open_start': ("DELETE FROM {} WHERE k = 'u1' AND at < '2024-03-03T12:00Z'", True),
    'descending_rows': ("INSERT INTO {} (k, at, v) VALUES ('u2', '2024-03-05T07:00Z', 7)", True),
    'descending_start': ("DELETE FROM {} WHERE k = 'u1' AND at < '2024-03-03T12:00Z'", True),
    'statics': ("UPDATE {} SET s = 'all rows have it' WHERE k = 'u1'", True),
}


@pytest.fixture(scope='module')
def backup(connection: CassandraConnection, session: Session, cassandra_5: None) -> Iterator[CassandraBackup]:
    snapshots, keyspace = snapshots_of(connection), connection.keyspace
    # A DROP, also that of another test, flushes whatever table is in the commit log.
    session.execute(f'ALTER KEYSPACE {keyspace} WITH durable_writes = false')
    folder = filled(session, snapshots, keyspace)['rows']
    yield CassandraBackup(str(folder.parents[3]), folder.name, keyspace=keyspace)
    snapshots.run('clearsnapshot', '--all', '--', keyspace)


def filled(session: Session, snapshots: Snapshots, keyspace: str) -> dict[str, Path]:
    """Fills the tables, with an SSTable for each day and one more; returns their snapshots."""
    for name in LAST:
        session.execute(
            f'CREATE TABLE {keyspace}.{name} (k text, at timestamp, v int, s text STATIC, PRIMARY KEY (k, at)) '
            f'WITH CLUSTERING ORDER BY (at {"DESC" if name.startswith("descending") else "ASC"}) '
            "AND compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
        )
    for day in DAYS:
        for name in LAST:
            for user in range(USERS):
                for hour in (0, 6, 12, 23):
                    values = f"'u{user}', '2024-03-0{day}T{hour:02}:00Z', {day}"
                    session.execute(f'INSERT INTO {keyspace}.{name} (k, at, v) VALUES ({values})')
        snapshots.run('flush', keyspace)
    for name, (statement, _) in LAST.items():
        session.execute(f"INSERT INTO {keyspace}.{name} (k, at, v) VALUES ('u0', '2024-03-01T03:00Z', 3)")
        session.execute(statement.format(f'{keyspace}.{name}'))
    return snapshots.take(keyspace)


def sstables(backup: CassandraBackup, table: str) -> list[str]:
    """Names of a table's SSTables, oldest first; the server skips the number of a flush that wrote nothing."""
    snapshot = next(Path(backup.uri).glob(f'{backup.keyspace}/{table}-*/snapshots/{backup.backup}'))
    names = [path.name.removesuffix('-Data.db') for path in snapshot.glob('*-Data.db')]
    return sorted(names, key=lambda name: int(name.split('-')[1]))


@pytest.mark.parametrize('table', LAST)
def test_a_window_reads_the_sstables_that_it_needs(
    connection: CassandraConnection, backup: CassandraBackup, table: str
) -> None:
    live = ReadRequest(connection, table, window=WINDOW, options=ReadOptions(splits=3))
    expected, found = (
        scanned(dataclasses.replace(live, connection=each)) for each in (connection, BackupTables(backup))
    )
    assert found[:2] == expected[:2]
    assert found[0]
    facts: Any = found[2].backup
    _, _, third, _, _, last = sstables(backup, table)
    assert [name for name, _ in facts['rows_of_files']] == [third, *[last] * LAST[table][1]]
    assert facts['files_left_out'] == 5 - LAST[table][1]
    assert found[2].bytes < scanned(dataclasses.replace(live, connection=BackupTables(backup), window=None))[2].bytes


@pytest.mark.parametrize('table', ['partition', 'statics'])
def test_without_the_rule_rows_differ(
    connection: CassandraConnection, backup: CassandraBackup, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ReadRequest(connection, table, window=WINDOW)
    concerns = SSTable.concerns

    def by_rows_alone(sstable: SSTable, start: int, end: int) -> bool:
        header = dataclasses.replace(sstable.statistics.header, statics=())
        known = dataclasses.replace(sstable.statistics, header=header, partitions_deleted=False)
        return concerns(dataclasses.replace(sstable, statistics=known), start, end)

    monkeypatch.setattr(SSTable, 'concerns', by_rows_alone)
    assert scanned(dataclasses.replace(request, connection=BackupTables(backup)))[0] != scanned(request)[0]


def test_a_window_that_no_sstable_has(backup: CassandraBackup) -> None:
    request = ReadRequest(BackupTables(backup), 'rows', window=TimeWindow.parse('2025-01-01T00:00Z/2025-01-02T00:00Z'))
    rows, _, coverage = scanned(request)
    assert (rows, coverage.bytes, coverage.backup and coverage.backup['files_left_out']) == ([], 0, 6)


def test_a_worker_that_leaves_out_what_the_window_needs_is_found(backup: CassandraBackup) -> None:
    request = ReadRequest(BackupTables(backup), 'rows', window=WINDOW, options=ReadOptions(splits=4))
    plan = plan_splits(request)
    with opened(request) as fetches:
        reads = [found for found in fetches(plan.scan, 100).fetch(plan.splits) if isinstance(found, RangeRead)]
    verified(request, plan, reads)
    third = sstables(backup, 'rows')[2]
    with pytest.raises(CoverageError, match=rf'^{third}: got \d+ rows read over all token ranges, rule: 16, as its'):
        verified(
            request,
            plan,
            [dataclasses.replace(reads[0], files=(0,)), dataclasses.replace(reads[1], files=(0,)), *reads[2:]],
        )
