"""Scans of tables that are not as tables mostly are; the oracle is what the driver reads."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CoverageError, SchemaError
from tfx_cassandra.components.scan import ledger
from tfx_cassandra.components.scan.area import ALL_TIMES
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.source import plan_splits, verified
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration


def fill(session: Session, statement: str, rows: Sequence[tuple]) -> None:
    execute_concurrent_with_args(session, session.prepare(statement), rows, concurrency=64)


def scan(options: ReadRequest) -> tuple[list[dict], ledger.Coverage]:
    """Reads a table in this process; returns its rows and the ledger, once verified."""
    planned = plan_splits(options)
    rows, reads = [], []
    with connections.session(options.connection, RawHandler) as raw:
        fetcher = Fetcher(raw, planned.scan, options.planned(planned.page_rows))
        for found in fetcher.fetch(planned.splits):
            if isinstance(found, RangeRead):
                reads.append(found)
            else:
                rows += filtered(found, planned.scan).to_pylist()
    return rows, verified(options, planned, reads)


@pytest.mark.parametrize('order', [pytest.param('ASC', marks=pytest.mark.slow), 'DESC'])
def test_rows_without_a_time_in_a_partition_that_is_cut_by_time(
    connection: CassandraConnection, session: Session, order: str
) -> None:
    name = f'empty_{order.lower()}'
    table = f'{connection.keyspace}.{name}'
    session.execute(
        f'CREATE TABLE {table} (k int, at timestamp, n int, v text, PRIMARY KEY (k, at, n)) '
        f'WITH CLUSTERING ORDER BY (at {order}, n ASC)'
    )
    count = 12_000
    fill(
        session,
        f'INSERT INTO {table} (k, at, n, v) VALUES (1, ?, ?, ?)',
        [(n * 1000, n, 'x' * 1000) for n in range(count)],
    )
    for n in range(3):
        session.execute(f"INSERT INTO {table} (k, at, n, v) VALUES (1, blobAsTimestamp(0x), {n}, 'empty')")
    for k in (2, 3):  # partitions without any time
        session.execute(f"INSERT INTO {table} (k, at, n, v) VALUES ({k}, blobAsTimestamp(0x), 0, 'empty')")
    rows, coverage = scan(ReadRequest(connection, name, recount=True))
    assert any(split.area.times != ALL_TIMES for split in plan_splits(ReadRequest(connection, name)).splits)
    assert (len(rows), coverage.rows) == (count + 5, count + 5)
    assert sum(row['at'] is None for row in rows) == 5


@pytest.mark.parametrize('keyspace', ['system', 'system_schema', 'system_views', 'system_virtual_schema'])
def test_keyspaces_of_which_each_node_has_its_own_are_refused(connection: CassandraConnection, keyspace: str) -> None:
    options = ReadRequest(dataclasses.replace(connection, keyspace=keyspace), 'tables')
    with pytest.raises(SchemaError, match=rf"^keyspace: got '{keyspace}', rule: a keyspace that the nodes share"):
        plan_splits(options)


def test_a_relic_of_compact_storage_is_left_out(connection: CassandraConnection, session: Session) -> None:
    table = f'{connection.keyspace}.relic'
    session.execute(
        f"CREATE TABLE {table} (k int PRIMARY KEY, value 'org.apache.cassandra.db.marshal.EmptyType', n int)"
    )
    session.execute(f'INSERT INTO {table} (k, n) VALUES (1, 2)')
    assert scan(ReadRequest(connection, 'relic'))[0] == [{'k': 1, 'n': 2}]
    assert scan(ReadRequest(connection, 'relic', columns=('n',)))[0] == [{'n': 2}]
    later = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
    assert scan(ReadRequest(connection, 'relic', as_of=later))[1].rows == 1
    with pytest.raises(
        SchemaError, match=r"^columns: got 'value' of type 'org\.apache\..*EmptyType', rule: columns of CQL"
    ):
        plan_splits(ReadRequest(connection, 'relic', columns=('value',)))


def test_a_type_without_an_arrow_form_names_its_column_before_anything_is_read(
    connection: CassandraConnection, session: Session
) -> None:
    table = f'{connection.keyspace}.custom'
    lexical = "'org.apache.cassandra.db.marshal.LexicalUUIDType'"
    session.execute(f'CREATE TABLE {table} (k int PRIMARY KEY, odd {lexical}, many list<{lexical}>, n int)')
    session.execute(f'INSERT INTO {table} (k, n) VALUES (1, 2)')
    for column in ('odd', 'many'):
        with pytest.raises(
            SchemaError, match=f"^columns: got '{column}' of type .*LexicalUUIDType.*, rule: columns of"
        ):
            plan_splits(ReadRequest(connection, 'custom', columns=(column, 'n')))
    assert scan(ReadRequest(connection, 'custom', columns=('n',)))[0] == [{'n': 2}]


def _change(session: Session, table: str, kind: str) -> None:
    if kind == 'type':
        session.execute(f'ALTER TYPE {table}_inner ADD c int')
    elif kind == 'other':
        session.execute(f'CREATE TYPE {table}_other (a int)')
        session.execute(f'ALTER TABLE {table} ADD later int')
    elif kind == 'column':
        session.execute(f'ALTER TABLE {table} DROP n')
        session.execute(f'ALTER TABLE {table} ADD n int')
    else:
        session.execute(f'DROP TABLE {table}')
        if kind == 'anew':
            outer = f'{table.partition(".")[2]}_outer'
            session.execute(f'CREATE TABLE {table} (k int PRIMARY KEY, n int, v frozen<{outer}>)')


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('dropped', 'dropped while it was read'),
        ('anew', 'dropped and created again while it was read'),
        ('type', r'altered( \(type .*_inner\))? while it was read'),
        ('column', r'altered \(column n dropped\) while it was read'),
        ('other', None),
    ],
)
def test_a_table_that_is_changed_while_it_is_read(
    connection: CassandraConnection, session: Session, kind: str, message: str | None
) -> None:
    name = f'changed_{kind}'
    table = f'{connection.keyspace}.{name}'
    session.execute(f'CREATE TYPE {table}_inner (a int, b text)')
    session.execute(f'CREATE TYPE {table}_outer (inner frozen<{name}_inner>)')
    session.execute(f'CREATE TABLE {table} (k int PRIMARY KEY, n int, v frozen<{name}_outer>)')
    fill(session, f'INSERT INTO {table} (k) VALUES (?)', [(k,) for k in range(200)])
    options = ReadRequest(connection, name)
    planned = plan_splits(options)

    def read() -> None:
        reads, changed = [], False
        with connections.session(connection, RawHandler) as raw:
            for found in Fetcher(raw, planned.scan, options.planned(5)).fetch(planned.splits):
                if isinstance(found, RangeRead):
                    reads.append(found)
                if not changed:
                    _change(session, table, kind)
                changed = True
        verified(options, planned, reads)

    if message is None:
        read()
        return
    with pytest.raises(SchemaError, match=rf'^table: got {table} .*{message}'):
        read()


def test_large_rows_are_planned_and_read_few_at_a_time(connection: CassandraConnection, session: Session) -> None:
    table = f'{connection.keyspace}.large'
    session.execute(f'CREATE TABLE {table} (k int, c int, v blob, PRIMARY KEY (k, c))')
    insert = session.prepare(f'INSERT INTO {table} (k, c, v) VALUES (1, ?, ?)')
    for c in range(60):
        session.execute(insert, (c, bytes(10 if c < 40 else 2 << 20)))
    options = ReadRequest(connection, 'large')
    assert plan_splits(options).page_rows <= 4  # by the last row: the first ones are small
    rows, coverage = scan(options)
    assert (len(rows), coverage.rows, coverage.retries) == (60, 60, 0)
    assert coverage.ranges < 100


def test_a_second_count_finds_what_the_ledger_cannot_see(connection: CassandraConnection, session: Session) -> None:
    table = f'{connection.keyspace}.counted'
    session.execute(f'CREATE TABLE {table} (k int, at timestamp, PRIMARY KEY (k, at))')
    fill(session, f'INSERT INTO {table} (k, at) VALUES (?, ?)', [(k, n) for k in range(20) for n in range(150)])
    window = TimeWindow.parse('1970-01-01T00:00:00.010Z/1970-01-01T00:00:00.110Z')
    for options in (
        ReadRequest(connection, 'counted', recount=True),
        ReadRequest(connection, 'counted', window=window),
    ):
        planned = plan_splits(options)
        with connections.session(connection, RawHandler) as raw:
            found = Fetcher(raw, planned.scan, options.planned(7)).fetch(planned.splits)
            reads = [entry for entry in found if isinstance(entry, RangeRead)]
        recounting = dataclasses.replace(options, recount=True)
        verified(recounting, planned, reads)
        entry = next(entry for entry in reads if entry.rows)
        reads[reads.index(entry)] = dataclasses.replace(entry, rows=entry.rows - 1)
        verified(dataclasses.replace(options, recount=False), planned, reads)
        rule = rf'{re.escape(str(entry.token_range))} {entry.rows - 1:,} rows read, {entry.rows:,} counted \(rule: '
        with pytest.raises(CoverageError, match=rule):
            verified(recounting, planned, reads)
