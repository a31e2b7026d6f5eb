"""A view is checked where it is made."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import uuid

import numpy as np
import pytest

from tfx_cassandra.components import protos
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.proto import cassandra_pb2

WIDE = {'name': 'v', 'table': 't', 'entity_columns': ('e',), 'timestamp_column': 'ts', 'features': ('a', 'b')}
LONG = {**WIDE, 'layout': 'long', 'feature_name_column': 'name', 'value_column': 'value'}


def test_columns() -> None:
    assert FeatureView(**WIDE).columns == ('e', 'ts', 'a', 'b')
    assert FeatureView(**LONG).columns == ('e', 'ts', 'name', 'value')


def test_one_name_may_stand_for_a_tuple() -> None:
    view = FeatureView(**{**WIDE, 'entity_columns': 'e', 'features': 'a'})
    assert (view.entity_columns, view.features) == (('e',), ('a',))


def test_the_prefix_stands_before_features_only() -> None:
    view = FeatureView(**WIDE, prefix='p_')
    assert [view.example_name(feature) for feature in view.features] == ['p_a', 'p_b']


def test_entries_of_maps_renames_and_entities_in_maps() -> None:
    features = ("m['x']", Feature("m['y']", rename='why', default=0.5), 'a')
    view = FeatureView(**{**WIDE, 'entity_columns': "metadata['user_id']", 'features': features}, prefix='p_')
    assert view.example_names == ('p_m.x', 'p_why', 'p_a')
    assert view.entity_names == view.spine_columns == ('user_id',)
    assert view.columns == ('metadata', 'ts', 'm', 'a')
    assert view.value_columns == ('m', 'a')


def test_a_feature_that_is_only_a_name_is_that_name() -> None:
    assert FeatureView(**{**WIDE, 'features': (Feature('a'), 'b')}) == FeatureView(**WIDE)
    assert FeatureView(**WIDE).full_features == (Feature('a'), Feature('b'))


def test_restrictions_have_one_form() -> None:
    views = [FeatureView(**WIDE, where=where) for where in ({'m': 'x', 'n': [1, 2]}, (('m', ('x',)), ('n', (1, 2))))]
    assert views[0] == views[1]
    assert views[0].filters == (('m', ('x',)), ('n', (1, 2)))
    assert FeatureView(**LONG, where={'m': 'x'}).filters == (('name', ('a', 'b')), ('m', ('x',)))


def test_restrictions_may_be_ids_addresses_and_times_and_reach_the_executor() -> None:
    where = {
        'id': [uuid.UUID(int=1), 'x'], 'ip': ipaddress.ip_address('::1'), 'price': decimal.Decimal('1.50'),
        'at': datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), 'day': datetime.date(2020, 1, 1),
        'time': datetime.time(12, 30), 'raw': [b'\0', bytearray(b'a')], 'n': np.int64(3), 'pair': [(1, 'x')],
        'set': [{'a'}],
    }  # fmt: skip
    view = FeatureView(**WIDE, where=where)
    assert view.where[0] == ('id', (uuid.UUID(int=1), 'x'))
    again = protos.from_json(FeatureView, cassandra_pb2.FeatureView, protos.to_json(view, cassandra_pb2.FeatureView))
    assert again == view
    assert hash(again.where) == hash(view.where)
    assert repr(again.where) == repr(view.where)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'name': ''}, "name: got '', rule: a non-empty text"),
        ({'name': 'a', 'rename': ''}, "rename: got '', rule: a non-empty text"),
        ({'name': 'a', 'default': b'x'}, "default: got b'x', rule: a number, a text, a boolean or a tuple"),
        ({'name': 'a', 'default': (1, None)}, 'default: got (1, None), rule: a number'),
    ],
)
def test_bad_features(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        Feature(**arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'features': ()}, 'features: got (), rule: one or more names'),
        ({'features': ('a', 'a')}, "features: got ('a', 'a'), rule: one or more names, each once"),
        ({'entity_columns': ()}, 'entity_columns: got ()'),
        ({'table': ''}, "table: got '', rule: the name of a table"),
        ({'layout': 'tall'}, "layout: got 'tall', rule: 'wide' or 'long'"),
        ({'layout': 'long'}, 'feature_name_column: got None, rule: given with layout long'),
        ({'value_column': 'x'}, "value_column: got 'x', rule: given with layout long, and only then"),
        ({'ttl': datetime.timedelta(0)}, 'ttl: got datetime.timedelta(0), rule: above zero'),
        (
            {'ttl': datetime.timedelta(1), 'timestamp_column': None},
            'ttl: got datetime.timedelta(days=1), rule: above zero, and',
        ),
        ({'join_columns': ('a', 'b')}, "join_columns: got ('a', 'b'), rule: one for each of ('e',)"),
        ({'where': {'m': []}}, "where: got {'m': []}, rule: numbers, texts or booleans, at least one"),
        ({'where': {'m': [None]}}, "where: got {'m': [None]}, rule: numbers"),
        ({'features': (Feature('a'), Feature('b', rename='a'))}, "features: got ['a'], rule: no two"),
        ({'features': ("m['x']", "n['x']"), 'entity_columns': ("k['ts']",)}, "features: got ['ts'], rule: no two"),
        ({'features': ('a', 'ts')}, "features: got ['ts'], rule: no two"),
        ({'features': ('a',), 'entity_columns': ('p_a',), 'prefix': 'p_'}, "features: got ['p_a'], rule: no two"),
    ],
)
def test_bad_views(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        FeatureView(**{**WIDE, **change})
    assert str(caught.value).startswith(message)
