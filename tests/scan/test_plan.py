"""What a scan may ask, and the CQL that asks it."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.dataset.window import TimeWindow
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan.plan import Table, plan_scan

TABLE = Table(
    'ks', 'T', ('a', 'B'), ('ts', 'id'),
    (('B', 'int'), ('a', 'text'), ('id', 'uuid'), ('seen', 'timestamp'), ('ts', 'timestamp'), ('v', 'double')),
)  # fmt: skip
WINDOW = TimeWindow.parse('2013-01-01T00:00+01:00/2013-01-02T00:00Z')
RING = 'token("a", "B") > ? AND token("a", "B") <= ?'


def test_without_a_window_nothing_is_filtered() -> None:
    scan = plan_scan(TABLE)
    assert scan.cql == f'SELECT "a", "B", "ts", "id", "seen", "v" FROM "ks"."T" WHERE {RING}'
    assert scan.window_bounds == ()


def test_a_window_on_the_first_clustering_column_is_pushed_down() -> None:
    scan = plan_scan(TABLE, ['v'], WINDOW)
    assert scan.cql == f'SELECT "v" FROM "ks"."T" WHERE {RING} AND "ts" >= ? AND "ts" < ? ALLOW FILTERING'
    assert scan.window_bounds == (1356994800000, 1357084800000)


def test_a_window_on_another_column_is_read_and_filtered_here() -> None:
    scan = plan_scan(TABLE, ['v'], WINDOW, 'seen', [('id', ('x',))])
    assert not scan.pushed_down
    assert scan.cql == f'SELECT "v", "seen", "id" FROM "ks"."T" WHERE {RING}'
    assert scan.window_bounds == ()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'columns': ['v', 'w']}, "columns: got 'w', rule: a column of ks.T (B, a, id, seen, ts, v)"),
        ({'filters': [('w', (1,))]}, "where: got 'w', rule: a column of ks.T"),
        ({'window': WINDOW, 'time_column': 'w'}, "time_column: got 'w', rule: a column of ks.T"),
        ({'window': WINDOW, 'time_column': 'v'}, "time_column: got 'v', rule: a column of type timestamp"),
    ],
)
def test_what_the_table_lacks(arguments: dict, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        plan_scan(TABLE, **arguments)
    assert str(caught.value).startswith(message)


def test_a_table_without_clustering_needs_a_time_column() -> None:
    with pytest.raises(SchemaError, match='time_column: got None'):
        plan_scan(Table('ks', 't', ('a',), (), (('a', 'text'),)), window=WINDOW)


def test_identifiers_are_quoted() -> None:
    scan = plan_scan(Table('k', 't"; DROP', ('a"b',), (), (('a"b', 'text'),)))
    assert scan.cql == 'SELECT "a""b" FROM "k"."t""; DROP" WHERE token("a""b") > ? AND token("a""b") <= ?'
