"""What was written since an earlier backup, against CQL's write times, before and after compactions."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
import scanned
from apache_beam.testing.util import assert_that, equal_to
from snapshots import Snapshots, in_cql, snapshots_of

from tfx_cassandra.components import ReadFromSSTables
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.changes import rows_since
from tfx_cassandra.components.backup.opening import BackupTable, open_table
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.window import EPOCH

pytestmark = pytest.mark.integration
KEYSPACE = 'backup_changes'
HOUR, MICROSECOND = datetime.timedelta(hours=1), datetime.timedelta(microseconds=1)


@pytest.fixture(scope='module')
def connection(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[CassandraConnection]:
    with connections.session(cluster_connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}')
        session.execute(
            f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}} "
            'AND durable_writes = false'  # a DROP flushes whatever table is in the commit log
        )
        session.execute(
            f'CREATE TABLE {KEYSPACE}.t (k int, c int, v text, s set<int>, PRIMARY KEY (k, c)) '
            "WITH compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
        )
        yield dataclasses.replace(cluster_connection, keyspace=KEYSPACE)
        session.execute(f'DROP KEYSPACE {KEYSPACE}')


@pytest.fixture(scope='module')
def stages(connection: CassandraConnection) -> dict[str, tuple[Path, tuple]]:
    """Snapshots on three days, with what CQL had then; before the last one everything was compacted."""
    snapshots = snapshots_of(connection)
    found = {}
    with connections.session(connection) as session:
        for day, (name, first) in enumerate([('monday', 0), ('tuesday', 100), ('wednesday', 200)]):
            for n in range(first, first + 100):
                session.execute(f"INSERT INTO {KEYSPACE}.t (k, c, v, s) VALUES ({n % 17}, {n}, 'v{n}', {{{n}}})")
            session.execute(f"UPDATE {KEYSPACE}.t SET v = 'again' WHERE k = 5 AND c = 5")
            session.execute(f'DELETE FROM {KEYSPACE}.t WHERE k = 7 AND c = {7 + 17 * day}')
            if name == 'wednesday':
                snapshots.run('compact', KEYSPACE, 't')
            found[name] = _taken(snapshots, connection)
    return found


def _taken(snapshots: Snapshots, connection: CassandraConnection) -> tuple[Path, tuple]:
    return snapshots.take(KEYSPACE)['t'], in_cql(connection, 't')


def opened(stages: dict, name: str, since: str, **options: object) -> BackupTable:
    backups = [CassandraBackup(str(stages[day][0]), keyspace=KEYSPACE) for day in (name, since)]
    return open_table(backups[0], 't', since=backups[1], **options)


def expected(stages: dict, name: str, since: datetime.datetime) -> set[tuple[int, int]]:
    """Returns the keys of rows that CQL says were written since."""
    schema, columns = stages[name][1]
    moment = (since - EPOCH) // MICROSECOND
    times = [column for field, column in zip(schema.names, columns, strict=True) if field.startswith('writetime(')]
    assert len(times) == 2
    newest = [max((time for time in row if time is not None), default=0) for row in zip(*times, strict=True)]
    return {key for key, time in zip(zip(*columns[:2], strict=True), newest, strict=True) if time >= moment}


@pytest.mark.parametrize(('name', 'since'), [('tuesday', 'monday'), ('wednesday', 'tuesday'), ('wednesday', 'monday')])
def test_rows_that_were_written_since(stages: dict, name: str, since: str) -> None:
    table = opened(stages, name, since, late=datetime.timedelta(0))
    assert table.since == open_table(CassandraBackup(str(stages[since][0]), keyspace=KEYSPACE), 't').created_at
    found = [row for batch in rows_since(table) for row in batch.to_pylist()]
    wanted = expected(stages, name, table.since)
    assert {(row['k'], row['c']) for row in found} == wanted
    assert len(found) == len(wanted) >= 100
    whole = {row['c']: row for row in found}
    assert whole[5]['v'] == 'again'
    assert all(row['v'] == f'v{c}' and list(row['s']) == [c] for c, row in whole.items() if c != 5)


def test_what_has_been_there_is_not_opened(stages: dict) -> None:
    tuesday = open_table(CassandraBackup(str(stages['tuesday'][0]), keyspace=KEYSPACE), 't')
    new = opened(stages, 'tuesday', 'monday', late=datetime.timedelta(0))
    assert (len(tuesday.sstables), len(new.sstables)) == (2, 1)
    assert new.size < tuesday.size
    assert new.digest != tuesday.digest
    nothing = opened(stages, 'tuesday', 'tuesday')
    assert (nothing.sstables, nothing.rows, list(rows_since(nothing))) == ((), 0, [])


def test_what_may_have_come_late_comes_again(stages: dict) -> None:
    """After the compaction, all that was written within the margin is found in the one new SSTable."""
    table = opened(stages, 'wednesday', 'monday', late=HOUR)
    found = {(row['k'], row['c']) for batch in rows_since(table, ['k', 'c']) for row in batch.to_pylist()}
    assert found == expected(stages, 'wednesday', table.since)
    assert len(found) >= 290


@pytest.mark.parametrize(('name', 'since'), [('tuesday', 'monday'), ('wednesday', 'monday')])
def test_scans_read_the_same_rows(stages: dict, name: str, since: str) -> None:
    late = datetime.timedelta(0)
    table = opened(stages, name, since, late=late)
    expected = sorted(row for batch in rows_since(table) for row in scanned.rows(batch))
    tables = BackupTables(*(CassandraBackup(str(stages[day][0]), keyspace=KEYSPACE) for day in (name, since)), late)
    found, _, coverage = scanned.scanned(ReadRequest(tables, 't', options=ReadOptions(splits=4, page_rows=7)))
    assert sorted(found) == expected
    assert coverage.backup is not None
    assert coverage.backup['since'] == table.since.isoformat()
    assert coverage.bytes >= table.size
    timed, _, _ = scanned.scanned(ReadRequest(tables, 't', ('v', 'k', 'c'), writetimes=('s',), ttls=('v',)))
    assert sorted(row[1:3] for row in timed) == sorted(row[:2] for row in expected)
    assert all(row[3] >= (table.since - EPOCH) // MICROSECOND and row[4] is None for row in timed if row[2] != 5)


def test_beam_and_the_command_read_the_same_rows(stages: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both snapshots in one place, as a store of backups has them.
    for day in ('monday', 'tuesday'):
        shutil.copytree(stages[day][0], tmp_path / KEYSPACE / f't-{0:032x}' / 'snapshots' / day)
    monday, tuesday = (CassandraBackup(str(tmp_path), day, keyspace=KEYSPACE) for day in ('monday', 'tuesday'))
    expected = [repr(row) for batch in rows_since(open_table(tuesday, 't', monday)) for row in scanned.rows(batch)]
    with beam.Pipeline() as pipeline:
        found = pipeline | ReadFromSSTables(tuesday, 't', since=monday) | beam.FlatMap(scanned.rows) | beam.Map(repr)
        assert_that(found, equal_to(expected))
    monkeypatch.setenv('CASSANDRA_KEYSPACE', KEYSPACE)
    command = ['scan', 't', '--backup', str(tmp_path), '--backup-name', 'tuesday', '--since', 'monday']
    assert cli.main([*command, '--out', str(tmp_path / 'out')]) == 0
    written = json.loads((tmp_path / 'out' / 'coverage.json').read_text())
    assert (written['rows_written'], len(written['backup']['rows_of_files'])) == (len(expected), 1)
    assert cli.main(['scan', 't', '--since', 'monday']) == 2


def test_what_is_refused(stages: dict) -> None:
    with pytest.raises(ReadError, match=r'^since: got .* of .*, rule: before '):
        opened(stages, 'monday', 'tuesday')
    with pytest.raises(ValueError, match=r'^late: got '):
        opened(stages, 'tuesday', 'monday', late=-HOUR)
    with pytest.raises(ValueError, match=r'^table: got .*, rule: one that was opened with `since`'):
        next(rows_since(open_table(CassandraBackup(str(stages['monday'][0]), keyspace=KEYSPACE), 't')))
