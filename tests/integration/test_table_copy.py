"""Copies of tables on a real cluster: every cell with its write time and time to live, also if the copy is killed."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.progress import Step
from tfx_cassandra.components.table_copy.copy import Copied, CopyOptions, copy
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 30, tzinfo=UTC)
LAYOUT = Layout(Bucket('bucket', 'day', 'at'), Salt('part', 4, ('at', 'id')))
COLUMNS = {'sensor': 'text', 'at': 'timestamp', 'id': 'int', 'value': 'double', 'note': 'text'}
ROWS = 8_000


def declared(name: str, layout: Layout = Layout(), **more: str) -> schema.Relation:  # noqa: B008  # is frozen
    return schema.table(name, '', {**COLUMNS, **more}, ['sensor'], {'at': 'desc', 'id': 'asc'}, layout=layout)


def arguments(connection: CassandraConnection) -> list[str]:
    return [
        '--contact-points', ','.join(connection.contact_points), '--port', str(connection.port),
        '--local-datacenter', connection.local_datacenter, '--keyspace', connection.keyspace,
    ]  # fmt: skip


def contents(session: Session, keyspace: str, table: str) -> dict[tuple, tuple]:
    """Returns the rows of a table with the write times and the times to live of their cells, by their keys."""
    query = (
        'SELECT sensor, at, id, value, note, writetime(value), writetime(note), ttl(value), ttl(note) '
        f'FROM {keyspace}.{table}'
    )
    return {tuple(row[:3]): tuple(row[3:]) for row in session.execute(query, timeout=120)}


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """A connection to a keyspace with a table whose cells differ in write time and time to live."""
    relations = [declared('readings'), declared('readings_by_day', LAYOUT)]
    schema.apply(connection, schema.SimpleReplication(1), relations=relations)
    session.cluster.refresh_schema_metadata()
    chance = random.Random(3)
    table = tables.describe(session, connection.keyspace, 'readings')
    keys = [
        {
            'sensor': f's{chance.randrange(40)}', 'at': START + datetime.timedelta(seconds=chance.randrange(5 * 86400)),
            'id': number,
        }
        for number in range(ROWS)
    ]  # fmt: skip
    for column, start in (('value', 0), ('note', 3)):
        rows = [
            {
                **key, column: float(number) if column == 'value' else f'n{number}',
                'written': START + datetime.timedelta(seconds=number % 7 * start, microseconds=number),
                'ttl': None if number % 3 else 100_000,
            }
            for number, key in enumerate(keys) if number % 5 != start
        ]  # fmt: skip
        options = WriteOptions(timestamp_column='written', ttl_column='ttl')
        assert TableWriter(session, table, options).write(rows) == []
    bare = session.prepare(f'INSERT INTO {connection.keyspace}.readings (sensor, at, id) VALUES (?, ?, ?)')
    session.execute(bare, ('bare', START, 1))
    return connection


def assert_equal(session: Session, keyspace: str, target: str) -> None:
    source, copied = contents(session, keyspace, 'readings'), contents(session, keyspace, target)
    assert len(source) == ROWS + 1
    assert source.keys() == copied.keys()
    for key, cells in source.items():
        assert copied[key][:4] == cells[:4], key
        for got, expected in zip(copied[key][4:], cells[4:], strict=True):
            # Seconds that remain, of two reads one after the other.
            assert (got is None) == (expected is None), key
            assert got is None or abs(got - expected) < 120, key


def test_a_copy_that_is_killed_goes_on(
    filled: CassandraConnection, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / 'copy.json'
    command = ['schema', 'copy', 'readings', 'readings_by_day', '--checkpoint', str(checkpoint), *arguments(filled)]
    slowly = [sys.executable, '-m', 'tfx_cassandra.components.cli.main', *command, '--rate', '2500']
    done: list[int] = []
    for _ in range(2):
        running = subprocess.Popen(slowly, stderr=subprocess.DEVNULL, start_new_session=True)
        before = done[-1] if done else 0
        deadline = time.monotonic() + 120
        while running.poll() is None and (ranges(checkpoint) < before + 40) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.poll() is None, 'the copy ended before it was killed'
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        done.append(ranges(checkpoint))
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] < 256
    assert len(contents(session, filled.keyspace, 'readings_by_day')) < ROWS
    capsys.readouterr()
    assert cli.main([*command, '--format', 'json']) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts == {'copied': ROWS + 1, 'source': ROWS + 1, 'target': ROWS + 1}
    assert_equal(session, filled.keyspace, 'readings_by_day')
    # What is recorded is not copied again, and the numbers tell the difference.
    session.execute(
        f"DELETE FROM {filled.keyspace}.readings_by_day WHERE sensor = 's1' AND bucket = '2013-01-31' AND part = 1"
    )
    assert cli.main(command) == 1
    assert f'{ROWS + 1:,} rows copied; readings has {ROWS + 1:,}' in capsys.readouterr().out


def ranges(checkpoint: Path) -> int:
    return len(json.loads(checkpoint.read_text())['rows']) if checkpoint.exists() else 0


def test_later_writes_win_over_copied_ones(filled: CassandraConnection, session: Session) -> None:
    schema.apply(filled, schema.SimpleReplication(1), relations=[declared('readings_live', LAYOUT)])
    session.cluster.refresh_schema_metadata()
    first = next(iter(contents(session, filled.keyspace, 'readings')))
    row = dict(zip(('sensor', 'at', 'id'), first, strict=True))
    row |= {'at': row['at'].replace(tzinfo=UTC), 'value': -1.0, 'note': 'live'}
    assert TableWriter(session, tables.describe(session, filled.keyspace, 'readings_live')).write([row]) == []
    copied = copy(filled, CopyOptions('readings', 'readings_live', units=16), Step('copy'))
    assert copied == Copied(ROWS + 1, ROWS + 1, ROWS + 1)
    assert contents(session, filled.keyspace, 'readings_live')[first][:2] == (-1.0, 'live')


def test_collections_and_other_keyspaces(connection: CassandraConnection, session: Session, cassandra_5: None) -> None:
    kinds = {'tags': 'map<text, int>', 'names': 'set<text>', 'fixed': 'frozen<list<int>>'}
    relations = [declared('odd', **kinds), declared('odd_by_day', LAYOUT, **kinds)]
    schema.apply(connection, schema.SimpleReplication(1), relations=relations)
    where = f'{connection.keyspace}.odd'
    session.execute(
        f"INSERT INTO {where} (sensor, at, id, tags, names, fixed) VALUES ('a', 0, 1, {{'x': 1}}, {{'n'}}, [1, 2]) "
        'USING TIMESTAMP 10 AND TTL 50000'
    )
    session.execute(
        f"UPDATE {where} USING TIMESTAMP 20 SET tags = tags + {{'y': 2}} WHERE sensor = 'a' AND at = 0 AND id = 1"
    )
    session.cluster.refresh_schema_metadata()
    copied = copy(connection, CopyOptions(where, f'{connection.keyspace}.odd_by_day', units=4), Step('copy'))
    assert copied == Copied(1, 1, 1)
    (row,) = session.execute(
        'SELECT tags, names, fixed, maxwritetime(tags), maxwritetime(names), writetime(fixed), '
        f'ttl(tags), ttl(names), ttl(fixed) FROM {connection.keyspace}.odd_by_day'
    )
    assert (dict(row[0]), set(row[1]), list(row[2])) == ({'x': 1, 'y': 2}, {'n'}, [1, 2])
    assert row[3:6] == (20, 10, 10)
    assert row[6] == [None, None]  # an element that stays keeps the others
    assert all(49_000 < left <= 50_000 for left in (*row[7], row[8]))


def test_tables_that_do_not_fit_are_refused(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    keyspace = filled.keyspace
    for cql in (
        'other_key (sensor text, at timestamp, id int, value double, note text, PRIMARY KEY (sensor, at))',
        'other_type (sensor text, at timestamp, id int, value float, note text, PRIMARY KEY (sensor, at, id))',
        'counting (sensor text PRIMARY KEY, n counter)',
    ):
        session.execute(f'CREATE TABLE IF NOT EXISTS {keyspace}.{cql}')
    session.cluster.refresh_schema_metadata()
    for target, message in (
        ('other_key', r'other_key: got the key sensor, at, rule: the key of .*readings \(sensor, at, id\)'),
        ('other_type', r'other_type: got value float, rule: double as in .*readings'),
        ('counting', 'counting: got counters'),
        ('nothing', "table: got 'nothing'"),
    ):
        with pytest.raises(SchemaError, match=message):
            copy(filled, CopyOptions('readings', target), Step('copy'))
    with pytest.raises(ValueError, match=r'target: got .*readings., rule: another table than the source'):
        copy(filled, CopyOptions('readings', f'{keyspace}.readings'), Step('copy'))


def test_the_plan_measures_rows_and_its_cql_makes_the_table(
    filled: CassandraConnection, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['schema', 'plan', 'readings', '--retention', '365d', '--into', 'planned', *arguments(filled)]
    assert cli.main([*command, '--rate', '2000/s', '--format', 'json']) == 0
    planned: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert planned['measured'] is True
    assert 20 < planned['row_bytes'] < 120
    assert planned['estimates'][-1]['partition_bytes'] < 100e6
    assert planned['estimates'][-1]['layout'].startswith('bucket=bucket:hour:at salt=salt:')
    assert cli.main([*command, '--rate', '5/s', '--row-bytes', '100']) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == f'-- {filled.keyspace}.readings: 100 bytes a row, 5/s an entity, kept for 365d'
    assert lines[3] == '-- bucket=bucket:day:at: 43.2 MB a partition, 366 an entity  <- proposed'
    session.execute(printed.rstrip().rstrip(';'))
    session.cluster.refresh_schema_metadata()
    table = tables.describe(session, filled.keyspace, 'planned')
    assert table.layout == Layout(Bucket('bucket', 'day', 'at'))
    assert table.own_columns == tables.describe(session, filled.keyspace, 'readings').own_columns
    assert cli.main([*command, '--rate', '1/d', '--row-bytes', '100']) == 0
    assert 'CREATE TABLE' not in capsys.readouterr().out
    empty = dataclasses.replace(filled, keyspace=filled.keyspace)
    assert cli.main(['schema', 'plan', 'planned', '--rate', '1/s', '--retention', '1d', *arguments(empty)]) == 2
    assert 'rule: --row-bytes for a table without rows' in capsys.readouterr().err
