"""What is read for a key, and what becomes of what was found: literal cases, without a cluster."""

from __future__ import annotations

import datetime
import uuid

import pyarrow as pa
import pytest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.lookup.latest import moments, plan_lookup

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


def test_statements_and_their_values() -> None:
    wide = plan_lookup(VISITS, WIDE, True)
    assert wide.cql == (
        'SELECT "spent", "more" FROM "ks"."visits" WHERE "shop" = ? AND "customer" = ? AND "at" <= ? AND "at" > ? '
        'ORDER BY "at" DESC'
    )
    key = (str(SHOP).encode(), 3, 10_000)
    assert wide.requests(key) == [(key, None)]
    assert wide.bound((key, None)) == (SHOP, 3, 10_000, 8_000)
    long = plan_lookup(STORE, LONG, False)
    assert long.cql == 'SELECT "value" FROM "ks"."store" WHERE "model" = ? AND "feature" = ? ORDER BY "ts" DESC'
    assert long.requests((b'm', None)) == [((b'm', None), 'a'), ((b'm', None), 'b')]
    assert long.bound(((b'm', None), 'b')) == ('m', 'b')
    assert wide.kinds == {'v_spent': 'float_list', 'v_more.x': 'int64_list'}


def test_keys_are_whole_and_columns_take_defaults() -> None:
    lookup = plan_lookup(VISITS, WIDE, True)
    shop = pa.array([[b's'], [b's'], None, [b's']], pa.large_list(pa.large_binary()))
    batch = pa.RecordBatch.from_arrays(
        [shop, pa.array([[1], [1], [1], [2]], pa.large_list(pa.int64()))], names=['shop', 'customer']
    )
    keys = lookup.keys(batch, [5, 6, 5, None])
    assert keys == [(b's', 1, 5), (b's', 1, 6), None, None]
    found = {((b's', 1, 5), None): (1.5, [('x', 3), ('y', 4)]), ((b's', 1, 6), None): None}
    types = {'spent': pa.float64(), 'more': pa.map_(pa.string(), pa.int32())}
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


def test_what_examples_must_hold() -> None:
    lookup = plan_lookup(VISITS, WIDE, False)
    batch = pa.RecordBatch.from_arrays([pa.array([[1, 2]], pa.large_list(pa.int64()))], names=['shop'])
    with pytest.raises(DatasetError, match="view visits: got entity column 'shop', rule: one value"):
        lookup.keys(batch, [None])
    with pytest.raises(DatasetError, match="as_of: got 'asked', rule: a feature of the examples"):
        moments(batch, 'asked')
    with pytest.raises(DatasetError, match="feature shop: got b'no', rule: a uuid"):
        lookup.bound(((b'no', 1, None), None))
