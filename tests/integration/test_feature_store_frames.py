"""Frames of the feature store, entity_features, write times and deletions; the oracle is a dictionary of writes."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from cassandra.cluster import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import ReadError, SchemaError, WriteError
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue, WriteResult
from tfx_cassandra.components.schema.declaration import FEATURE_STORE
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)
DAY = TimeWindow(NOON, NOON + datetime.timedelta(1))


@pytest.fixture(scope='module')
def store(connection: CassandraConnection) -> Iterator[FeatureStore]:
    with FeatureStore(connection) as opened:
        yield opened


def at(offset: int) -> datetime.datetime:
    return NOON + offset * MILLISECOND


def values(store: FeatureStore, model_id: str, feature: str, **entity: str) -> list[tuple[int, float | None]]:
    """Returns (offset from noon in milliseconds, value) of a feature, oldest first."""
    series = store.get_time_series(model_id, feature, DAY, **entity)
    return [((value.timestamp - NOON) // MILLISECOND, value.value) for value in series]


def columns(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {
        'model_id': pa.string(), 'feature_name': pa.string(), 'entity_id': pa.string(),
        'timestamp': pa.timestamp('ms', 'UTC'), 'value': pa.float64(), 'written_at': pa.timestamp('us', 'UTC'),
        'metadata': pa.map_(pa.string(), pa.string()),
    }  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds[name]) for name in rows[0]]))


# --- entity_features beside feature_store -----------------------------------------------------------------------------


def test_two_entities_have_values_of_their_own_where_feature_store_has_one(store: FeatureStore) -> None:
    for entity, value in (('u1', 1.0), ('u2', 2.0)):
        store.write_feature('entities', 'f', value, NOON, {'a': entity}, entity_id=entity)
    store.write_feature('entities', 'f', 3.0, NOON)
    assert store.get_latest_feature('entities', 'f', entity_id='u1') == FeatureValue(
        'entities', 'f', NOON, 1.0, {'a': 'u1'}, 'u1'
    )
    assert store.get_latest_feature('entities', 'f', entity_id='u2').value == 2.0
    assert store.get_latest_feature('entities', 'f', entity_id='u3') is None
    assert store.get_latest_feature('entities', 'f') == FeatureValue('entities', 'f', NOON, 3.0)
    assert values(store, 'entities', 'f', entity_id='u2') == [(0, 2.0)]
    store.delete_features('entities', 'f', DAY, entity_id='u2')
    assert [values(store, 'entities', 'f', entity_id=entity) for entity in ('u1', 'u2')] == [[(0, 1.0)], []]
    assert values(store, 'entities', 'f') == [(0, 3.0)]


def test_one_input_may_be_for_both_tables(store: FeatureStore) -> None:
    rows = [FeatureValue('both', 'f', at(n), float(n), None, None if n % 2 else f'u{n}') for n in range(6)]
    assert store.write_features(rows) == [WriteResult(n, None) for n in range(6)]
    assert values(store, 'both', 'f') == [(1, 1.0), (3, 3.0), (5, 5.0)]
    assert values(store, 'both', 'f', entity_id='u4') == [(4, 4.0)]


def test_a_keyspace_without_entity_features(session: Session, connection: CassandraConnection) -> None:
    bare = dataclasses.replace(connection, keyspace=f'{connection.keyspace}_bare')
    session.execute(
        f"CREATE KEYSPACE {bare.keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
    try:
        session.execute(FEATURE_STORE.cql.replace('{keyspace}', bare.keyspace))
        with FeatureStore(bare) as store:
            store.write_feature('without', 'f', 1.0, NOON)
            message = r'\.entity_features: got no such table, rule: .*`tfx-cassandra schema apply` creates it'
            with pytest.raises(SchemaError, match=message):
                store.get_latest_feature('without', 'f', entity_id='u')
    finally:
        session.execute(f'DROP KEYSPACE {bare.keyspace}')


# --- frames of the newest values --------------------------------------------------------------------------------------


def test_a_row_for_each_model_and_a_column_for_each_feature(store: FeatureStore) -> None:
    store.write_features(
        FeatureValue(f'frame {m}', f'f{n}', at(k), m + n / 10 + k)
        for m in range(3) for n in range(40) for k in (0, 1) if (m, n) != (1, 7)
    )  # fmt: skip
    store.write_feature('frame 2', 'f3', None, at(5))
    names = [f'f{n}' for n in range(40)]
    models = ['frame 2', 'frame 0', 'none', 'frame 1', 'frame 2']
    table = store.get_latest_frame(models, [*names, 'f0'], timestamps=True)
    assert table.column_names == ['model_id', *names, *(f'timestamp({name})' for name in names)]
    assert table['model_id'].to_pylist() == models
    for n, name in enumerate(names):
        expected = [None if m is None or (m, n) in ((1, 7), (2, 3)) else m + n / 10 + 1 for m in (2, 0, None, 1, 2)]
        assert table[name].to_pylist() == expected
    assert table['timestamp(f3)'].to_pylist() == [at(5), at(1), None, at(1), at(5)]
    assert table.schema.field('timestamp(f3)').type == pa.timestamp('ms', 'UTC')
    assert store.get_latest_frame('frame 0', ['f1'], before=at(1)).to_pylist() == [{'model_id': 'frame 0', 'f1': 0.1}]
    polars, pandas = (store.get_latest_frame(models, names, as_=form) for form in ('polars', 'pandas'))
    assert isinstance(polars, pl.DataFrame)
    assert isinstance(pandas, pd.DataFrame)
    assert polars.to_dicts() == table.select(['model_id', *names]).to_pylist()
    assert list(pandas['f0']) == pytest.approx([3.0, 1.0, math.nan, 2.0, 3.0], nan_ok=True)
    assert store.get_latest_frame([], ['f1']).to_pylist() == []
    assert store.get_latest_frame('frame 0', []).to_pylist() == [{'model_id': 'frame 0'}]


def test_a_row_for_each_entity(store: FeatureStore) -> None:
    store.write_features(
        FeatureValue('users', name, NOON, float(n), None, f'u{n}') for n in range(50) for name in ('a', 'b')
    )
    entities = [f'u{n}' for n in (7, 60, 3, 7)]
    rows = store.get_latest_frame('users', ['b', 'a', 'c'], entity_ids=entities).to_pylist()
    assert rows == [
        {'entity_id': entity, 'model_id': 'users', 'b': value, 'a': value, 'c': None}
        for entity, value in zip(entities, (7.0, None, 3.0, 7.0), strict=True)
    ]
    assert store.get_latest_frame('users', ['a'], entity_ids=[]).num_rows == 0


def test_a_series_of_several_features_in_one_frame(store: FeatureStore) -> None:
    store.write_features(FeatureValue('together', 'a', at(n), float(n)) for n in range(0, 6000))
    store.write_features(FeatureValue('together', 'b', at(n), None if n == 4 else -float(n)) for n in range(4, 7000, 3))
    table = store.get_time_series_frame('together', ['a', 'b', 'none'], DAY)
    assert table.column_names == ['timestamp', 'a', 'b', 'none']
    every = [n for n in range(7000) if n < 6000 or n % 3 == 1]
    assert table['timestamp'].to_pylist() == [at(n) for n in every]
    assert table['a'].to_pylist() == [float(n) if n < 6000 else None for n in every]
    assert table['b'].to_pylist() == [-float(n) if n > 4 and n % 3 == 1 else None for n in every]
    assert table['none'].null_count == len(every)
    assert store.get_time_series_frame('together', ['none'], DAY, as_='polars').height == 0


def test_a_read_of_several_features_goes_to_a_replica_of_all_of_them(store: FeatureStore, session: Session) -> None:
    sent = []

    def note(request: Any) -> None:
        sent.append(request.query)

    session.add_request_init_listener(note)
    try:
        store.get_latest_features('routed', [f'f{n}' for n in range(60)])
    finally:
        session.remove_request_init_listener(note)
    assert len(sent) == 3  # of one node, at most 25 features each
    assert all(query.routing_key for query in sent)
    assert {query.routing_key[:9] for query in sent} == {b'\0\x06routed\0'}


@pytest.mark.parametrize(
    ('arguments', 'options', 'message'),
    [
        (('m', 'f'), {}, r"^feature_names: got 'f', rule: several names, not one text"),
        (('m', ['f', 'model_id']), {}, r"^feature_names: got 'model_id', rule: names that differ from"),
        (('m', ['f', 'timestamp(f)']), {'timestamps': True}, r"^feature_names: got 'timestamp\(f\)', rule: names that"),
        (('m', ['f']), {'as_': 'numpy'}, r"^as_: got 'numpy', rule: one of 'arrow', 'polars', 'pandas'"),
        ((['m', 'n'], ['f']), {'entity_ids': ['u']}, r"^model_ids: got \['m', 'n'\], rule: one model"),
        (('m', ['f']), {'entity_ids': 'u'}, r"^entity_ids: got 'u', rule: several names"),
        (('m', ['f']), {'entity_ids': ['']}, r"^entity_id: got '', rule: a text of 1 to 65535 bytes"),
        (('', ['f']), {}, r"^model_id: got '', rule: a text of 1 to 65535 bytes"),
        (
            ('m', ['f']),
            {'before': datetime.datetime(2013, 1, 1)},
            r'^before: got .*, rule: a datetime with a time zone',
        ),
    ],
)
def test_mistakes_in_a_frame(store: FeatureStore, arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        store.get_latest_frame(*arguments, **options)
    assert '\n' not in str(caught.value)


def test_a_read_that_fails_names_its_features(store: FeatureStore) -> None:
    with pytest.raises(ReadError, match=r"cannot read model_id 'm', feature_name 'f0' or 2 more \(.*level THREE"):
        store.get_latest_frame('m', ['f0', 'f1', 'f2'], consistency='THREE')


# --- write times and deletions ----------------------------------------------------------------------------------------


def test_a_replay_does_not_overwrite_a_correction(store: FeatureStore) -> None:
    recorded, corrected = NOON, NOON + datetime.timedelta(hours=1)
    first = FeatureValue('replay', 'f', NOON, 9.0, written_at=recorded)
    store.write_features([first])
    store.write_feature('replay', 'f', 1.0, NOON, written_at=corrected)
    store.write_features([first])  # the log is read again
    assert values(store, 'replay', 'f') == [(0, 1.0)]
    store.write_features(columns([{'model_id': 'replay', 'feature_name': 'f', 'timestamp': NOON, 'value': 9.0}]),
                         written_at=recorded)  # fmt: skip
    assert values(store, 'replay', 'f') == [(0, 1.0)]
    store.write_feature('replay', 'f', 2.0, NOON)  # now
    assert values(store, 'replay', 'f') == [(0, 2.0)]


def test_a_range_is_deleted(store: FeatureStore) -> None:
    store.write_features(FeatureValue('deleted', name, at(n), float(n)) for n in range(10) for name in ('f', 'g'))
    store.delete_features('deleted', 'f', TimeWindow(at(2), at(5)))
    assert [n for n, _ in values(store, 'deleted', 'f')] == [0, 1, 5, 6, 7, 8, 9]
    assert len(values(store, 'deleted', 'g')) == 10
    store.write_feature('deleted', 'f', 3.5, at(3))
    assert (3, 3.5) in values(store, 'deleted', 'f')
    # Bounds may be finer than Cassandra's milliseconds.
    fine = datetime.timedelta(microseconds=1)
    store.delete_features('deleted', 'g', TimeWindow(at(2) + fine, at(4) + fine))
    assert [n for n, _ in values(store, 'deleted', 'g')] == [0, 1, 2, 5, 6, 7, 8, 9]


def test_a_deletion_as_of_a_moment_keeps_what_is_written_later(store: FeatureStore) -> None:
    hour = datetime.timedelta(hours=1)
    store.write_feature('as of', 'f', 1.0, at(1), written_at=NOON)
    store.write_feature('as of', 'f', 2.0, at(2), written_at=NOON + 2 * hour)
    store.delete_features('as of', 'f', DAY, written_at=NOON + hour)
    assert values(store, 'as of', 'f') == [(2, 2.0)]
    store.write_feature('as of', 'f', 3.0, at(3), written_at=NOON)  # late: the deletion was already there
    store.write_feature('as of', 'f', 4.0, at(4))
    assert values(store, 'as of', 'f') == [(2, 2.0), (4, 4.0)]


def test_mistakes_in_a_deletion(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match=r'^window: got 7, rule: a TimeWindow'):
        store.delete_features('m', 'f', 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'^written_at: got .*, rule: a datetime with a time zone'):
        store.delete_features('m', 'f', DAY, written_at=datetime.datetime(2013, 1, 1))
    with pytest.raises(WriteError, match=r"cannot delete model_id 'm', feature_name 'f' \(.*level THREE"):
        store.delete_features('m', 'f', DAY, consistency='THREE')


# What happens to one key, in whatever order: (write time, offset, value), or (write time, None, None) for a deletion of
# offsets 0 and 1. Write times are distinct, for of equal ones the greater value would win.
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.one_of(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.floats(-9, 9))), st.just((None, None))),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda event: event[0],
)
_runs = iter(range(10**9))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, min_size=1, max_size=3), st.sampled_from([None, 'u']))
def test_writes_and_deletions_in_any_order_end_as_their_write_times_say(
    store: FeatureStore, events: list[list], entity: str | None
) -> None:
    model, names = f'any order {next(_runs)}', [f'f{n}' for n in range(len(events))]
    options: dict[str, Any] = {} if entity is None else {'entity_id': entity}
    expected: dict[str, dict[int, float | None]] = {}
    for name, happened in zip(names, events, strict=True):
        for written, (offset, value), as_frame in happened:
            moment = NOON + datetime.timedelta(microseconds=written)
            if offset is None:
                store.delete_features(model, name, TimeWindow(at(0), at(2)), written_at=moment, **options)
                continue
            row = {'model_id': model, 'feature_name': name, 'timestamp': at(offset), 'value': value, **options}
            rows = columns([{**row, 'written_at': moment}]) if as_frame else [FeatureValue(**row, written_at=moment)]
            assert not store.write_features(rows).failed
        state: dict[int, float | None] = {}
        for _, (offset, value), _ in sorted(happened, key=lambda event: event[0]):
            if offset is None:
                state = {place: kept for place, kept in state.items() if place > 1}
            else:
                state[offset] = value
        expected[name] = state
    for name in names:
        assert values(store, model, name, **options) == sorted(expected[name].items())
    for bound in (None, 2):
        found = store.get_latest_features(model, names, before=None if bound is None else at(bound), **options)
        for name in names:
            left = {place: value for place, value in expected[name].items() if bound is None or place < bound}
            latest = found[name] and ((found[name].timestamp - NOON) // MILLISECOND, found[name].value)
            assert latest == (max(left.items()) if left else None)
    frame = store.get_time_series_frame(model, names, DAY, **options).to_pylist()
    moments = sorted({place for state in expected.values() for place in state})
    assert frame == [
        {'timestamp': at(place), **{name: expected[name].get(place) for name in names}} for place in moments
    ]


# --- frames that are written ------------------------------------------------------------------------------------------


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {
            'model_id': 'bulk', 'feature_name': f'f{n % 5}', 'timestamp': at(n), 'value': None if n % 7 == 3 else n / 2,
            'metadata': [('user_id', f'u{n}'), ('n', str(n))] if n % 3 == 0 else None,
        }
        for n in range(count)
    ]  # fmt: skip


FORMS = {
    'batch': lambda table: table.combine_chunks().to_batches()[0],
    'table': lambda table: pa.concat_tables([table.slice(0, 17), table.slice(17)]),
    'polars': pl.from_arrow,
    'pandas': lambda table: table.to_pandas().assign(
        value=table['value'].to_pandas().astype('Float64'),
        metadata=[None if m is None else dict(m) for m in table['metadata'].to_pylist()],
    ),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('entity', [None, 'u'])
def test_a_frame_writes_what_its_values_would(
    store: FeatureStore, session: Session, connection: CassandraConnection, form: str, entity: str | None
) -> None:
    options = {} if entity is None else {'entity_id': entity}
    rows = [{**row, 'model_id': f'{form} {entity}', **options} for row in rows_of(200)]
    results = store.write_features(FORMS[form](columns(rows)))
    assert results == [WriteResult(n, None) for n in range(200)]
    one_by_one = [{**row, 'model_id': f'{form} {entity} 1', 'metadata': row['metadata'] and dict(row['metadata'])}
                  for row in rows]  # fmt: skip
    store.write_features(FeatureValue(**row) for row in one_by_one)
    table = 'feature_store' if entity is None else 'entity_features'
    query = (
        f'SELECT feature_name, timestamp, value, metadata{", user_id" * (entity is None)} '
        f'FROM {connection.keyspace}.{table} WHERE model_id = %s ALLOW FILTERING'
    )
    written, oracle = (sorted(map(tuple, session.execute(query, (f'{form} {entity}{end}',)))) for end in ('', ' 1'))
    assert len(written) == 200
    assert repr(written) == repr(oracle)


def test_a_null_in_a_frame_replaces_a_value_and_keeps_metadata(store: FeatureStore) -> None:
    store.write_feature('null', 'f', 1.0, NOON, {'user_id': 'u'})
    row = {'model_id': 'null', 'feature_name': 'f', 'timestamp': NOON, 'value': None, 'metadata': None}
    store.write_features(columns([row]))
    assert store.get_latest_feature('null', 'f') == FeatureValue('null', 'f', NOON, None, {'user_id': 'u'})
    store.write_features(columns([row, {**row, 'value': 2.0}, {**row, 'value': None}, {**row, 'value': 3.0}]))
    assert store.get_latest_feature('null', 'f').value == 3.0  # the later row counts


def test_a_frame_with_rows_that_fail(store: FeatureStore) -> None:
    rows = [{'model_id': 'partly', 'feature_name': f'f{n}', 'timestamp': at(n), 'value': 1.0} for n in range(6)]
    rows[1]['feature_name'], rows[3]['model_id'], rows[4]['timestamp'] = '', None, None
    results = store.write_features(columns(rows))
    assert [result.index for result in results if result.error] == [1, 3, 4]
    assert [result.index for result in results.failed] == [1, 3, 4]
    messages = [str(result.error) for result in results.failed]
    assert "cannot write row 1 of the frame (feature_name: got '', rule: a text of 1 to 65535 bytes" in messages[0]
    assert "cannot write row 3 of the frame (row: got no ['model_id'], rule: " in messages[1]
    assert len(results) == 6
    assert repr(results) == '<WriteResults of 6 rows, 3 failed>'
    refused = store.write_features(columns(rows[:1]), consistency='THREE')
    assert 'cannot write row 0 of the frame (Unavailable: ' in str(refused[0].error)


def test_ttl_of_a_frame(store: FeatureStore, session: Session, connection: CassandraConnection) -> None:
    rows = [{'model_id': 'ttl', 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0}]
    store.write_features(columns(rows), ttl=600)
    query = f"SELECT TTL(value) FROM {connection.keyspace}.feature_store WHERE model_id = 'ttl' AND feature_name = 'f'"
    assert 500 < session.execute(query).one()[0] <= 600


GOOD = {'model_id': ['m'], 'feature_name': ['f'], 'timestamp': [NOON], 'value': [1.0]}


@pytest.mark.parametrize(
    ('frame', 'message'),
    [
        (pd.DataFrame({'model_id': ['m']}), r"^rows: got \['model_id'\], rule: the columns model_id, feature_name, "),
        (pl.DataFrame({**GOOD, 'other': [1]}), r"^rows: got \['model_id', .*'other'\], rule: the columns "),
        (pl.DataFrame({**GOOD, 'entity_id': ['u'], 'user_id': ['u']}), r'^rows: got .*, rule: without user_id'),
        (pd.DataFrame({**GOOD, 'timestamp': [datetime.datetime(2013, 1, 1)]}),
         r"^timestamp: got 'timestamp\[ns\]', rule: a column of timestamps with a time zone"),
        (pl.DataFrame({**GOOD, 'written_at': [1]}), r"^written_at: got 'int64', rule: a column of timestamps with"),
        (pa.table({**GOOD, 'metadata': [{'a': 'b'}]}), r"^metadata: got 'struct<a: string>', rule: a column of maps"),
    ],
)  # fmt: skip
def test_mistakes_in_a_written_frame(store: FeatureStore, frame: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.write_features(frame)
