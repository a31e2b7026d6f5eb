"""A view is checked where it is made."""

from __future__ import annotations

import datetime

import pytest

from tfx_cassandra.components.dataset.view import FeatureView

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


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'features': ()}, 'features: got (), rule: one or more names'),
        ({'features': ('a', 'a')}, "features: got ('a', 'a'), rule: one or more names, each once"),
        ({'entity_columns': ()}, 'entity_columns: got ()'),
        ({'table': ''}, "table: got '', rule: a non-empty text"),
        ({'layout': 'tall'}, "layout: got 'tall', rule: 'wide' or 'long'"),
        ({'layout': 'long'}, 'feature_name_column: got None, rule: given with layout long'),
        ({'value_column': 'x'}, "value_column: got 'x', rule: given with layout long, and only then"),
        ({'ttl': datetime.timedelta(0)}, 'ttl: got datetime.timedelta(0), rule: above zero'),
        ({'features': ('a', 'ts')}, "features: got ['ts'], rule: no two"),
        ({'features': ('a',), 'entity_columns': ('p_a',), 'prefix': 'p_'}, "features: got ['p_a'], rule: no two"),
    ],
)
def test_bad_views(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        FeatureView(**{**WIDE, **change})
    assert str(caught.value).startswith(message)
