"""The requests of a key, and the columns made of the rows found: literal cases, without a cluster."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from types import SimpleNamespace

import pyarrow as pa
import pytest
from cassandra.util import Date

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView, Source
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.lookup.latest import Bound, moments, plan_lookup
from tfx_cassandra.components.lookup.reader import Reader

WIDE = Table(
    'ks', 'visits', ('shop', 'customer'), ('at',),
    (('shop', 'uuid'), ('customer', 'int'), ('at', 'timestamp'), ('spent', 'double'), ('more', 'map<text, int>')),
)  # fmt: skip
LONG = Table(
    'ks', 'store', ('model', 'feature'), ('ts',),
    (('model', 'text'), ('feature', 'text'), ('ts', 'timestamp'), ('value', 'double')),
)  # fmt: skip
VISITS = FeatureView(
    'visits', 'visits', ('shop', 'customer'), 'at', ('spent', Feature("more['x']", default=7)), prefix='v_',
    ttl=datetime.timedelta(seconds=2),
)  # fmt: skip
STORE = FeatureView(
    'store', 'store', ('model',), 'ts', ('a', 'b'), layout='long', feature_name_column='feature', value_column='value'
)
SHOP = uuid.UUID(int=5)


def flat(bound: Bound | None) -> tuple[object, ...] | None:
    """The values of a statement of a table without a layout."""
    return None if bound is None else (*bound.key, *bound.times)


def test_statements_and_their_values() -> None:
    wide = plan_lookup(VISITS, WIDE, True)
    assert wide.cql == (
        'SELECT "spent", "more" FROM "ks"."visits" WHERE "shop" = ? AND "customer" = ? AND "at" <= ? AND "at" > ? '
        'ORDER BY "at" DESC'
    )
    key = (str(SHOP).encode(), 3, 10_000)
    assert wide.requests(key) == [(key, None)]
    assert flat(wide.bind((key, None))) == (SHOP, 3, 10_000, 8_000)
    long = plan_lookup(STORE, LONG, False)
    assert long.cql == 'SELECT "value" FROM "ks"."store" WHERE "model" = ? AND "feature" = ? ORDER BY "ts" DESC'
    assert long.requests((b'm', None)) == [((b'm', None), 'a'), ((b'm', None), 'b')]
    assert flat(long.bind(((b'm', None), 'b'))) == ('m', 'b')
    assert wide.kinds == {'v_spent': 'float_list', 'v_more.x': 'int64_list'}


def test_statements_of_a_table_with_a_layout() -> None:
    layout = Layout(Bucket('day', 'day', 'at'), Salt('part', 4, ('shop',)))
    table = dataclasses.replace(WIDE, partition_key=('shop', 'day', 'customer', 'part'), layout=layout)
    lookup = plan_lookup(VISITS, table, True)
    where = '"shop" = ? AND "customer" = ? AND "day" = ? AND "part" = ? AND "at" <= ? AND "at" > ?'
    assert lookup.cql == f'SELECT "spent", "more" FROM "ks"."visits" WHERE {where} ORDER BY "at" DESC'
    bound = lookup.bind(((str(SHOP).encode(), 3, 10_000), None))
    assert bound == Bound({'shop': str(SHOP), 'customer': 3}, (SHOP, 3), (10_000, 8_000), 8_000, 10_001)
    assert not lookup.is_spread
    spread = dataclasses.replace(table, layout=Layout(None, Salt('part', 4, ('shop', 'at'))))
    with pytest.raises(SchemaError, match='rule: the columns of visits before its time: shop, day, customer'):
        plan_lookup(VISITS, spread, True)
    spread = dataclasses.replace(spread, partition_key=('shop', 'customer', 'part'))
    assert plan_lookup(VISITS, spread, True).is_spread
    assert plan_lookup(VISITS, spread, True).selected == ('spent', 'more', 'at')
    other = dataclasses.replace(table, layout=Layout(Bucket('day', 'day', 'seen')))
    with pytest.raises(SchemaError, match='got time at, rule: seen, of which visits has buckets'):
        plan_lookup(VISITS, other, True)


def test_incomplete_keys_are_none_and_columns_take_defaults() -> None:
    lookup = plan_lookup(VISITS, WIDE, True)
    shop = pa.array([[b's'], [b's'], None, [b's']], pa.large_list(pa.large_binary()))
    batch = pa.RecordBatch.from_arrays(
        [shop, pa.array([[1], [1], [1], [2]], pa.large_list(pa.int64()))], names=['shop', 'customer']
    )
    keys = lookup.keys(batch, [5, 6, 5, None])
    assert keys == [(b's', 1, 5), (b's', 1, 6), None, None]
    assert lookup.sources == (Source('spent'), Source('more', 'x'))
    found = {((b's', 1, 5), None): (1.5, 3), ((b's', 1, 6), None): None}
    types = {Source('spent'): pa.float64(), Source('more', 'x'): pa.int32()}
    columns = lookup.columns(keys, found, types)
    assert {name: array.to_pylist() for name, array in columns.items()} == {
        'v_spent': [1.5, None, None, None],
        'v_more.x': [3, 7, 7, 7],
    }
    assert moments(batch, 'customer') == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ('view', 'table', 'message'),
    [
        (STORE, WIDE, "view store: got 'model', rule: a column of ks.visits"),
        (FeatureView('v', 'visits', ('shop',), 'at', ('spent',)), WIDE, 'view v: got entity shop, time at, rule: the'),
        (FeatureView('v', 'visits', ('shop', 'customer'), None, ('spent',)), WIDE, 'view v: got entity'),
        (
            FeatureView('v', 'visits', ('shop',), 'at', ('spent',), where=(('customer', (1, 2)),)), WIDE,
            "view v: got several values of 'customer' in where",
        ),
    ],
)  # fmt: skip
def test_views_that_cannot_be_looked_up(view: FeatureView, table: Table, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        plan_lookup(view, table, False)
    assert str(caught.value).startswith(message)


def test_examples_that_lack_a_value_are_an_error() -> None:
    lookup = plan_lookup(VISITS, WIDE, False)
    batch = pa.RecordBatch.from_arrays([pa.array([[1, 2]], pa.large_list(pa.int64()))], names=['shop'])
    with pytest.raises(DatasetError, match="view visits: got entity column 'shop', rule: one value"):
        lookup.keys(batch, [None])
    with pytest.raises(DatasetError, match="as_of: got 'asked', rule: a feature of the examples"):
        moments(batch, 'asked')
    with pytest.raises(DatasetError, match="feature shop: got b'no', rule: a uuid"):
        lookup.bind(((b'no', 1, None), None))


KEYED = Table(
    'ks', 'keyed', ('k',), ('ts',), (('k', 'int'), ('ts', 'timestamp'), ('v', 'double'), ('m', 'map<int, text>')),
)  # fmt: skip
BY_KEY = FeatureView('keyed', 'keyed', ('k',), 'ts', ('v',))


@pytest.mark.parametrize(
    ('cql_type', 'value', 'bound'),
    [
        ('int', 7, 7), ('int', 7.0, 7), ('int', b'7', 7), ('int', 3_000_000_000, None), ('tinyint', 128, None),
        ('ascii', b'a', 'a'), ('ascii', 'é'.encode(), None), ('text', b'', ''), ('varint', 2**62, 2**62),
        ('uuid', str(SHOP).upper().encode(), SHOP), ('timeuuid', str(SHOP).encode(), None), ('boolean', 1, True),
        ('inet', b'2001:DB8::1', '2001:db8::1'), ('blob', b'0x', b'0x'), ('time', 86_400 * 10**9, None),
        ('timestamp', 2**62, 2**62), ('date', -1, Date(-1)),
    ],
)  # fmt: skip
def test_an_entity_matches_exactly_one_key_or_none(cql_type: str, value: object, bound: object) -> None:
    table = dataclasses.replace(KEYED, types=(('k', cql_type), *KEYED.types[1:]))
    found = flat(plan_lookup(BY_KEY, table, False).bind(((value, None), None)))
    assert found == (None if bound is None else (bound,))


@pytest.mark.parametrize(
    ('cql_type', 'value'),
    [
        ('int', 7.9), ('int', 16_777_216.0), ('int', float('nan')), ('int', b'x'), ('text', 7), ('text', b'\xff'),
        ('blob', 7), ('boolean', 2), ('uuid', b'x' * 10**6), ('timestamp', 7.5), ('inet', b'10'), ('date', b'now'),
    ],
)  # fmt: skip
def test_an_entity_that_is_not_of_the_type_is_an_error(cql_type: str, value: object) -> None:
    table = dataclasses.replace(KEYED, types=(('k', cql_type), *KEYED.types[1:]))
    with pytest.raises(DatasetError, match='feature k: got ') as caught:
        plan_lookup(BY_KEY, table, False).bind(((value, None), None))
    assert f'rule: a {cql_type} (' in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_large_key_is_not_shown_whole() -> None:
    asking = SimpleNamespace(lookup=plan_lookup(STORE, LONG, False))
    shown = Reader._describe(asking, (((b'x' * 10**6, None), 'a'), 0))  # type: ignore[arg-type]
    assert shown.startswith("view store: {'model': ")
    assert shown.endswith(', a at None')
    assert len(shown) < 300


@pytest.mark.parametrize(
    'microseconds', [1, 999, 1000, 1001, 1_001_000, 29_007_000, 10**16 + 1, 86_399_999_999_999_999_999]
)
def test_a_ttl_is_exact(microseconds: int) -> None:
    ttl = datetime.timedelta(microseconds=microseconds)
    lookup = plan_lookup(dataclasses.replace(BY_KEY, ttl=ttl), KEYED, True)
    moment = 1_577_836_800_000
    _, latest, too_old = flat(lookup.bind(((7, moment), None)))
    assert latest == moment
    # The newest event that is too old: moment - event >= ttl, and not so a millisecond later.
    assert (moment - too_old) * 1000 >= microseconds > (moment - too_old - 1) * 1000
    assert flat(lookup.bind(((7, -(2**63)), None))) == (7, -(2**63), -(2**63))


def test_an_entry_of_a_map_of_maps_has_its_type() -> None:
    table = dataclasses.replace(KEYED, types=(*KEYED.types, ('n', 'frozen<map<frozen<tuple<int, text>>, double>>')))
    view = dataclasses.replace(BY_KEY, features=("n['x']", "m['5']"))
    assert plan_lookup(view, table, False).kinds == {'n.x': 'float_list', 'm.5': 'bytes_list'}
    with pytest.raises(SchemaError, match='rule: an entry of a map'):
        _ = plan_lookup(dataclasses.replace(BY_KEY, features=("v['x']",)), table, False).kinds


@pytest.mark.parametrize(
    ('where', 'message'),
    [
        ({'shop': 'x'}, "where shop: got 'x', rule: a uuid"),
        ({'shop': [SHOP, uuid.UUID(int=6)]}, "view visits: got several values of 'shop' in where"),
    ],
)
def test_where_is_checked_before_anything_is_read(where: dict, message: str) -> None:
    view = dataclasses.replace(VISITS, entity_columns=('customer',), where=where)
    with pytest.raises(SchemaError, match=message):
        plan_lookup(view, WIDE, False)
    spelled = dataclasses.replace(view, where={'shop': [SHOP, str(SHOP).upper()]})
    assert flat(plan_lookup(spelled, WIDE, False).bind(((3, None), None))) == (3, SHOP)
