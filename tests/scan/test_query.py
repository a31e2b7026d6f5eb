"""The CQL of a scan, and what a scan may restrict."""

from __future__ import annotations

import dataclasses

import pytest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan.area import ALL_TIMES, Area, Slice
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import TokenRange
from tfx_cassandra.components.window import TimeWindow

TABLE = Table(
    'ks', 'T', ('a', 'B'), ('ts', 'id'),
    (('B', 'int'), ('a', 'text'), ('id', 'uuid'), ('seen', 'timestamp'), ('ts', 'timestamp'), ('v', 'double')),
)  # fmt: skip
WINDOW = TimeWindow.parse('2013-01-01T00:00+01:00/2013-01-02T00:00Z')
RING = 'token("a", "B") > ? AND token("a", "B") <= ?'


def test_without_a_window_nothing_is_filtered() -> None:
    scan = plan_scan(TABLE)
    assert scan.cql() == f'SELECT "a", "B", "ts", "id", "seen", "v" FROM "ks"."T" WHERE {RING}'
    assert scan.values(Area(TokenRange(3, 5))) == (3, 5)


def test_a_window_on_the_first_clustering_column_is_pushed_down() -> None:
    scan = plan_scan(TABLE, ['v'], WINDOW)
    assert scan.times == Slice(1356994800000, 1357084800000)
    columns = '"v", "a", "B", "ts"'  # the keys tell how far a read has come
    slices = '"ts" >= ? AND "ts" <= ? ALLOW FILTERING'
    assert scan.cql(scan.times) == f'SELECT {columns} FROM "ks"."T" WHERE {RING} AND {slices}'
    assert scan.values(Area(TokenRange(3, 5), scan.times)) == (3, 5, 1356994800000, 1357084799999)
    assert (scan.names, scan.index('B')) == (('v',), 2)


def test_a_window_on_another_column_is_filtered_by_the_workers() -> None:
    scan = plan_scan(TABLE, ['v'], WINDOW, 'seen', [('id', ('{00000000000000000000000000000AbC}',))])
    assert not scan.pushed_down
    assert scan.filters == (('id', ('00000000-0000-0000-0000-000000000abc',)),)
    assert scan.cql() == f'SELECT "v", "seen", "id", "a", "B", "ts" FROM "ks"."T" WHERE {RING}'
    assert scan.times == ALL_TIMES


def test_an_open_end_of_a_slice_carries_no_condition_so_that_an_empty_timestamp_is_in_a_slice() -> None:
    early, between, late = ALL_TIMES.cut([0, 10])
    scan = plan_scan(TABLE)
    select = 'SELECT "a", "B", "ts", "id", "seen", "v" FROM "ks"."T" WHERE ' + RING
    assert scan.cql(early) == f'{select} AND "ts" <= ? ALLOW FILTERING'
    assert scan.cql(between) == f'{select} AND "ts" >= ? AND "ts" <= ? ALLOW FILTERING'
    assert scan.cql(late) == f'{select} AND "ts" >= ? ALLOW FILTERING'
    assert scan.values(Area(TokenRange(3, 5), early)) == (3, 5, -1)
    assert scan.values(Area(TokenRange(3, 5), between)) == (3, 5, 0, 9)
    assert scan.values(Area(TokenRange(3, 5), late)) == (3, 5, 10)


def test_the_last_moment_before_an_open_end_is_bounded() -> None:
    assert Slice(-(2**63) + 1, 2**63 - 1).bounded == (True, True)
    assert Slice(-(2**63), 2**63).bounded == (False, False)


@pytest.mark.parametrize(
    ('change', 'window', 'column'),
    [
        ({}, None, 'ts'),
        ({'has_static': True}, None, None),  # a partition of static columns alone is a row without a time
        ({'has_static': True}, WINDOW, 'ts'),
        ({'clustering': ('id', 'ts')}, None, None),
        ({'clustering': ()}, None, None),
    ],
)
def test_which_tables_are_sliced(change: dict, window: TimeWindow | None, column: str | None) -> None:
    assert plan_scan(dataclasses.replace(TABLE, **change), window=window).sliced_column == column


def test_write_times_stand_behind_the_columns() -> None:
    table = dataclasses.replace(TABLE, types=(*TABLE.types, ('tags', 'map<text, text>')))
    scan = plan_scan(table, ['a', 'v'], writetimes=['v', 'tags'])
    assert scan.names == ('a', 'v', 'writetime(v)', 'writetime(tags)')
    write_times = 'WRITETIME("v") AS "writetime(v)", MAXWRITETIME("tags") AS "writetime(tags)"'
    assert scan.cql() == f'SELECT "a", "v", {write_times}, "B", "ts" FROM "ks"."T" WHERE {RING}'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'columns': ['v', 'w']}, "columns: got 'w', rule: a column of ks.T (B, a, id, seen, ts, v)"),
        ({'filters': [('w', (1,))]}, "where: got 'w', rule: a column of ks.T"),
        ({'filters': [('B', (1, 'x'))]}, "where B: got 'x', rule: a int"),
        ({'writetimes': ['ts']}, "writetimes: got 'ts', rule: a column with a write time, no key and no counter"),
        ({'window': WINDOW, 'time_column': 'w'}, "time_column: got 'w', rule: a column of ks.T"),
        ({'window': WINDOW, 'time_column': 'v'}, "time_column: got 'v', rule: a column of type timestamp"),
    ],
)
def test_columns_that_the_table_lacks(arguments: dict, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        plan_scan(TABLE, **arguments)
    assert str(caught.value).startswith(message)


def test_a_table_without_clustering_needs_a_time_column() -> None:
    with pytest.raises(SchemaError, match='time_column: got None'):
        plan_scan(Table('ks', 't', ('a',), (), (('a', 'text'),)), window=WINDOW)


def test_identifiers_are_quoted() -> None:
    scan = plan_scan(Table('k', 't"; DROP', ('a"b',), (), (('a"b', 'text'),)))
    assert scan.cql() == 'SELECT "a""b" FROM "k"."t""; DROP" WHERE token("a""b") > ? AND token("a""b") <= ?'
