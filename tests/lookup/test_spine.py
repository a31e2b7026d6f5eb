"""The lookup plan without a cluster: which views can be read by key, what is requested, when a read is complete."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pyarrow as pa
import pytest
from cassandra import InvalidRequest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.lookup import spine as lookup
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.training_set import choose
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.sources import LABELS, Sources, TableRead
from tfx_cassandra.components.window import TimeWindow

UTC = datetime.timezone.utc
ODD = 'who WHERE "x" FROM y'
TABLE = Table(
    'ks', 'v', ('k', 'shop'), ('kind', 'ts'),
    (('k', 'int'), ('shop', 'uuid'), ('kind', 'ascii'), ('ts', 'timestamp'), ('a', 'double'), ('price', 'decimal'),
     (ODD, 'text')),
)  # fmt: skip
SHOP = '00000000-0000-0000-0000-000000000001'
VIEW = FeatureView('v', 'v', ('k', 'kind'), 'ts', ('a',), where={'shop': SHOP.replace('-', '').upper()})
WINDOW = TimeWindow.parse('2020-01-01T00:00Z/2020-01-02T00:00Z')
LABEL = LabelSource('events', ('k', 'kind'), 'at', ('y',))
SETTINGS = TrainingSetOptions(CassandraConnection(), (VIEW,), WINDOW, labels=LABEL)


def found(view: FeatureView, table: Table = TABLE, **options: Any) -> TableRead:
    scan = plan_scan(
        table, view.columns, WINDOW if view.timestamp_column else None, view.timestamp_column, view.filters
    )
    kinds = {'int': pa.int32(), 'timestamp': pa.timestamp('ms', 'UTC'), 'double': pa.float64()}
    schema = pa.schema([(name, kinds.get(dict(table.types)[name], pa.string())) for name in scan.names])
    return TableRead(ReadRequest(SETTINGS.connection, table.name, window=scan.window, **options), scan, schema)


class FakeStatement:
    routing_key_indexes = (0, 1)

    def __init__(self, cql: str) -> None:
        self.cql = cql

    def bind(self, given: Any) -> Any:
        bound = type('Bound', (), {})()
        bound.given, bound.values = list(given), [str(value).encode() for value in given]
        return bound


class FakeSession:
    def prepare(self, cql: str) -> FakeStatement:
        return FakeStatement(cql)

    def execution_profile_clone_update(self, *_: Any, **__: Any) -> None:
        return None


def reads(view: FeatureView = VIEW, cut_off: bool = False) -> lookup._ViewReads:
    return lookup._ViewReads(FakeSession(), SETTINGS.read, view, found(view), cut_off)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({}, None),
        ({'where': {}}, 'the partition key of ks.v has shop, which neither entity nor where gives'),
        ({'entity_columns': ('k', 'kind', 'a'), 'features': ('price',)}, 'a is not in the part of the key of ks.v'),
        ({'entity_columns': ('k',)}, 'ts is not the clustering column of ks.v after those that are given'),
        ({'timestamp_column': None}, 'kind is not in the part of the key of ks.v'),
    ],
)
def test_which_views_can_be_read_by_key(changes: dict, reason: str | None) -> None:
    read = lookup.key_read(dataclasses.replace(VIEW, **changes), TABLE)
    if reason is None:
        assert read == lookup.KeyRead(('k', 'shop', 'kind'), timed=True)
    else:
        assert str(read).startswith(reason)


def test_equal_decimals_may_be_in_several_partitions() -> None:
    table = dataclasses.replace(TABLE, partition_key=('k', 'price'), clustering=('kind', 'ts'))
    reason = lookup.key_read(dataclasses.replace(VIEW, where={'price': 1.5}), table)
    assert reason == 'equal values of price, of type decimal, may be stored as different bytes'


def test_a_statement_is_made_of_parts_whatever_a_column_is_called() -> None:
    view = dataclasses.replace(VIEW, features=(ODD,), where={**dict(VIEW.where), 'price': 1.5})
    scan = found(view).scan
    odd = '"who WHERE ""x"" FROM y"'
    assert lookup.statement(view, scan, lookup.KeyRead(('k', 'shop', 'kind'), timed=True)) == (
        f'SELECT "k", "kind", "ts", {odd}, "shop", "price" FROM "ks"."v" '
        'WHERE "k" = ? AND "shop" = ? AND "kind" = ? AND "ts" <= ? AND "ts" >= ? ORDER BY "ts" DESC'
    )
    untimed = dataclasses.replace(view, timestamp_column=None, features=('a',))
    statement = lookup.statement(untimed, found(untimed).scan, lookup.KeyRead(('k', 'shop'), timed=False))
    assert statement.endswith(' FROM "ks"."v" WHERE "k" = ? AND "shop" = ?')


def spine(*rows: tuple) -> pa.Table:
    names = ['k', 'kind', 'at']
    kinds = [pa.int64(), pa.string(), pa.timestamp('ms', 'UTC')]
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names)


def test_a_key_that_no_row_can_have_is_not_asked_for() -> None:
    rows = spine((7, 'a', 5), (3_000_000_000, 'a', 5), (7, 'é', 5), (7, 'x' * 70_000, 5), (7, '', 6), (7, 'a', 5))
    asked = [read.statement.given for read in reads()._requests(rows, 'at')]
    oldest = WINDOW.bounds[0]
    assert [given[0] for given in asked] == [7, 7, 7]
    assert [given[2:] for given in asked] == [['a', 5, oldest], ['x' * 70_000, 5, oldest], ['', 6, oldest]]
    assert {str(given[1]) for given in asked} == {SHOP}


def test_a_restriction_of_the_entity_holds_too() -> None:
    only = dataclasses.replace(VIEW, where={**dict(VIEW.where), 'k': [7, 8]})
    asked = [read.statement.given[0] for read in reads(only)._requests(spine((7, 'a', 5), (9, 'a', 5)), 'at')]
    assert asked == [7]


def page(*rows: tuple[int, float | None]) -> pa.RecordBatch:
    """Facts of a page: (event in microseconds, value), newest first."""
    events, cells = zip(*rows, strict=True)
    columns = {
        'event': pa.array(events, pa.int64()), 'value:a': pa.array(cells, pa.float64()),
        'created:a': pa.array([0] * len(rows), pa.int64()),
    }  # fmt: skip
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


@pytest.mark.parametrize(
    ('rows', 'ttl', 'done'),
    [
        ([(9, None)], None, False),
        ([(9, 1.0)], None, False),  # the next page may have a row of the same time
        ([(9, 1.0), (8, 2.0)], None, True),
        ([(9, None), (8, None)], None, False),
        ([(12, 1.0), (11, 1.0)], None, False),  # both after the event
        ([(9, None), (3, 1.0), (2, None)], datetime.timedelta(microseconds=7), True),  # too old, as all before it
        ([(9, 1.0), (8, None)], datetime.timedelta.max, True),
    ],
)
def test_when_older_rows_cannot_matter(rows: list, ttl: datetime.timedelta | None, done: bool) -> None:
    view = dataclasses.replace(VIEW, ttl=ttl)
    request = lookup._Request(10, dict.fromkeys(view.full_features))
    assert reads(view)._is_complete(request, page(*rows)) is done


def test_a_setup_that_fails_gives_the_session_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list = []
    monkeypatch.setattr(lookup.connections, 'acquire', lambda *key, keep: held.append(key) or FakeSession())
    monkeypatch.setattr(lookup.connections, 'release', lambda *key: held.remove(key))
    broken = dataclasses.replace(VIEW, where={})
    with pytest.raises(Exception, match='has shop'):
        lookup.LookUp(SETTINGS.connection, SETTINGS.read, [(broken, found(broken))], 'at', True).setup()
    assert held == []
    whole = lookup.LookUp(SETTINGS.connection, SETTINGS.read, [(VIEW, found(VIEW))], 'at', True)
    whole.setup()
    assert held == [(SETTINGS.connection, RawHandler)]
    whole.teardown()
    assert held == []


@pytest.mark.parametrize('changes', [{'as_of': datetime.datetime(2020, 1, 1, tzinfo=UTC)}, {'history': 3}])
@pytest.mark.parametrize('plan', ['auto', 'lookup'])
def test_reads_by_key_are_not_used_with_as_of_or_history(changes: dict, plan: str) -> None:
    tables = Sources({'v': found(VIEW), LABELS: found(VIEW)}, {})
    settings = dataclasses.replace(SETTINGS, join_plan=plan, **changes)
    assert choose.lookups(settings, tables) == ()
    assert choose.lookups(dataclasses.replace(SETTINGS, join_plan='lookup'), tables) == ('v',)


def test_a_view_that_cannot_be_looked_up_is_an_error() -> None:
    broken = dataclasses.replace(VIEW, where={})
    settings = dataclasses.replace(SETTINGS, views=(broken,), join_plan='lookup')
    with pytest.raises(SchemaError, match="join_plan: got 'lookup', rule: every view can be read by its key"):
        choose.lookups(settings, Sources({'v': found(broken)}, {}))


def test_a_spine_that_cannot_be_counted_is_taken_for_a_large_one() -> None:
    class Guarded(FakeSession):
        def prepare(self, cql: str) -> FakeStatement:
            assert cql.endswith('LIMIT 100 ALLOW FILTERING')
            raise InvalidRequest('Guardrail allow_filtering violated: Querying with ALLOW FILTERING is not allowed')

    table = dataclasses.replace(TABLE, clustering=('ts', 'kind'))
    assert choose._count(Guarded(), found(VIEW, table), 100) == 100
