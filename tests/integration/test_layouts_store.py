"""Feature stores with a time bucket, a hash salt or both give what the plain one gives, and touch no other buckets."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from asked import days, partitions_asked
from cassandra.cluster import Session
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tfx_cassandra.components import schema
from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.monitoring import rounds
from tfx_cassandra.components.schema.declaration import LAYOUT_BUCKETS
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

START = datetime.datetime(2013, 1, 30, 22, tzinfo=datetime.timezone.utc)  # the next day is the last of its month
MINUTE = datetime.timedelta(minutes=1)
SPAN = 3 * 24 * 60  # minutes
SETTINGS: dict[str, Any] = {
    'phases': (Phase.explicit, Phase.generate), 'suppress_health_check': list(HealthCheck), 'deadline': None,
}  # fmt: skip
numbers = itertools.count()


def at(minutes: int) -> datetime.datetime:
    return START + minutes * MINUTE


STORES = {
    'plain': Layout(),
    'daily': Layout(Bucket('bucket', 'day', 'timestamp')),
    'spread': Layout(None, Salt('salt', 3, ('timestamp',))),
    'both': Layout(Bucket('bucket', 'hour', 'timestamp'), Salt('salt', 2, ('timestamp', 'feature_name'))),
}


def store_tables(layout: Layout) -> list[schema.Relation]:
    """Declares the tables of a feature store with a layout, as a user would."""
    kinds = {'timestamp': 'timestamp', 'value': 'double', 'metadata': 'map<text, text>'}
    owner = {'model_id': 'text', 'feature_name': 'text'}
    newest = {'timestamp': 'desc'}
    return [
        LAYOUT_BUCKETS,
        schema.table(
            'feature_store', '', {**owner, **kinds, 'user_id': 'text'}, list(owner), newest, layout=layout
        ),
        schema.table(
            'entity_features', '', {'entity_id': 'text', **owner, **kinds}, ['entity_id', *owner], newest, layout=layout
        ),
    ]  # fmt: skip


@pytest.fixture(scope='module')
def stores(connection: CassandraConnection, session: Session) -> Iterator[dict[str, FeatureStore]]:
    with contextlib.ExitStack() as stack:
        opened = {}
        for name, layout in STORES.items():
            mine = dataclasses.replace(connection, keyspace=f'test_layouts_{name}')
            session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)
            schema.apply(mine, schema.SimpleReplication(1), relations=store_tables(layout))
            stack.callback(session.execute, f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)
            opened[name] = stack.enter_context(FeatureStore(mine))
        yield opened


@st.composite
def series(draw: Any) -> dict[str, Any]:
    model = f'm{next(numbers)}'
    keys = st.tuples(st.sampled_from(['f', 'g']), st.integers(0, SPAN - 1))
    values = draw(st.lists(keys, max_size=40, unique=True))
    bounds = st.lists(st.integers(-60, SPAN + 60), min_size=2, max_size=2, unique=True)
    return {
        'model': model,
        'entity': draw(st.sampled_from([None, 'e'])),
        'values': values,
        'as_frame': draw(st.booleans()),
        'deleted': draw(st.none() | bounds.map(sorted)),
        'windows': draw(st.lists(bounds.map(sorted), min_size=2, max_size=4)),
        'moments': draw(st.lists(st.integers(-60, SPAN + 60), min_size=2, max_size=4)),
    }


def outcome_of(store: FeatureStore, drawn: dict[str, Any]) -> list[Any]:
    model, entity = drawn['model'], drawn['entity']
    named: dict[str, Any] = {} if entity is None else {'entity_id': entity}
    rows = [
        FeatureValue(model, feature, at(minute), float(place), {'n': str(place)}, entity)
        for place, (feature, minute) in enumerate(drawn['values'])
    ]
    assert store.write_features(frame_of(rows) if drawn['as_frame'] else rows).failed == []
    if drawn['deleted'] is not None:
        store.delete_features(model, 'f', TimeWindow(*map(at, drawn['deleted'])), **named)
        # What was written before the deletion, and arrives behind it, stays deleted.
        late = FeatureValue(model, 'f', at(drawn['deleted'][0]), 1.0, None, entity, at(0))
        assert store.write_features([late]).failed == []
    found: list[Any] = [store.get_latest_features(model, ['f', 'g', 'none'], **named)]
    for minute in drawn['moments']:
        found.append(store.get_latest_features(model, ['f', 'g'], before=at(minute), **named))
    entities = {} if entity is None else {'entity_ids': [entity, 'other']}
    found.append(store.get_latest_frame(model, ['f', 'g'], timestamps=True, **entities).to_pylist())
    for window in drawn['windows']:
        bounds = TimeWindow(*map(at, window))
        found.append(list(store.get_time_series(model, 'f', bounds, **named)))
        found.append(store.get_time_series_frame(model, ['f', 'g'], bounds, **named).to_pylist())
    return found


def frame_of(rows: list[FeatureValue]) -> pa.RecordBatch:
    fields = [
        'model_id',
        'feature_name',
        'timestamp',
        'value',
        'metadata',
        *['entity_id'] * any(r.entity_id for r in rows),
    ]
    kinds = {
        'timestamp': pa.timestamp('ms', 'UTC'),
        'value': pa.float64(),
        'metadata': pa.map_(pa.string(), pa.string()),
    }
    cells = {
        field: [
            list(row.metadata or {}) and [*(row.metadata or {}).items()] if field == 'metadata' else getattr(row, field)
            for row in rows
        ]
        for field in fields
    }
    return pa.RecordBatch.from_arrays([pa.array(cells[f], kinds.get(f, pa.string())) for f in fields], fields)


def check_stores(stores: dict[str, FeatureStore], drawn: dict[str, Any]) -> None:
    expected = outcome_of(stores['plain'], drawn)
    for name, store in stores.items():
        if name != 'plain':
            assert outcome_of(store, drawn) == expected, name


@settings(max_examples=8, **SETTINGS)
@given(drawn=series())
def test_feature_stores_of_every_layout_agree(stores: dict[str, FeatureStore], drawn: dict[str, Any]) -> None:
    check_stores(stores, drawn)


@pytest.mark.slow
@settings(max_examples=150, **SETTINGS)
@given(drawn=series())
def test_many_feature_stores_of_every_layout(stores: dict[str, FeatureStore], drawn: dict[str, Any]) -> None:
    check_stores(stores, drawn)


def test_a_series_and_the_newest_value_touch_their_buckets_alone(stores: dict[str, FeatureStore]) -> None:
    hours = [START + datetime.timedelta(hours=12 * half) for half in range(40)]  # 20 days
    store = stores['daily']
    values = [FeatureValue('w', 'f', moment, 1.0) for moment in hours]
    assert store.write_features(values).failed == []
    opened = store._core.opened.session
    window = TimeWindow(START + datetime.timedelta(days=5), START + datetime.timedelta(days=7))
    with partitions_asked(opened, 'feature_store') as asked:
        assert len(list(store.get_time_series('w', 'f', window))) == 4
    assert [each['bucket'] for each in asked] == days(*(window.start + datetime.timedelta(days=n) for n in range(3)))
    with partitions_asked(opened, 'feature_store') as asked:
        newest = store.get_latest_feature('w', 'f')
    assert newest is not None
    assert newest.timestamp == hours[-1]
    assert [each['bucket'] for each in asked] == days(hours[-1])
    with partitions_asked(opened, 'feature_store') as asked:
        assert store.get_latest_feature('w', 'none') is None
    assert [each['bucket'] for each in asked][:2] == days(hours[-1], hours[-1] - datetime.timedelta(days=1))
    assert len(asked) == len({each['bucket'] for each in asked})  # each known bucket once, and then it ends


def test_a_keyspace_whose_feature_store_has_a_layout_is_as_declared(
    stores: dict[str, FeatureStore], connection: CassandraConnection
) -> None:
    mine = dataclasses.replace(connection, keyspace='test_layouts_both')
    differences = [str(each) for each in schema.check(mine, views=False)]
    of_stores = [
        each for each in differences if each.startswith(('feature_store', 'entity_features', 'layout_buckets'))
    ]
    assert [each for each in of_stores if '.compaction: ' not in each] == []


def test_the_monitor_lists_the_features_of_a_layout_once(
    stores: dict[str, FeatureStore], connection: CassandraConnection
) -> None:
    values = [FeatureValue('listed', name, at(700 * n), 1.0) for n in range(5) for name in ('f', 'g')]
    assert stores['both'].write_features(values).failed == []
    found = rounds.stored(dataclasses.replace(connection, keyspace='test_layouts_both'), None)
    assert {view.name: view.features for view in found}['listed'] == ('f', 'g')
