"""WriteToCassandra against a real cluster: what is written is what a plain driver read gives back."""

from __future__ import annotations

import datetime
import uuid

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.read import ReadFromCassandra
from tfx_cassandra.components.write.transform import WriteToCassandra

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema([
    ('model_id', pa.string()), ('feature_name', pa.string()), ('timestamp', pa.timestamp('us', 'UTC')),
    ('value', pa.float64()), ('metadata', pa.map_(pa.string(), pa.string())),
])  # fmt: skip


@pytest.fixture(scope='module')
def all_types(cassandra_5: None, connection: CassandraConnection, session: Session) -> str:
    session.execute(f'CREATE TYPE {connection.keyspace}.pair (a int, b text)')
    for name in ('all_types', 'all_types_copy'):
        session.execute(
            f"""CREATE TABLE {connection.keyspace}.{name} (
                id int PRIMARY KEY, x uuid, ti timeuuid, de decimal, da date, tm time, du duration, ip inet, b blob,
                bo boolean, l list<int>, s set<text>, m map<text, timestamp>, t tuple<int, text>, p pair,
                v vector<float, 2>, fl float, si smallint, vi varint)"""
        )
    session.execute(
        f"""INSERT INTO {connection.keyspace}.all_types
            (id, x, ti, de, da, tm, du, ip, b, bo, l, s, m, t, p, v, fl, si, vi) VALUES
            (1, uuid(), now(), 1.50, '2013-01-01', '10:00:00.000000001', 1mo2d3ns, '127.0.0.1', 0xff, true, [1, 2],
             {{'b', 'a'}}, {{'k': '2013-01-01 00:00:00+0000'}}, (1, null), {{a: 1, b: 'x'}}, [1, 2], 1.5, 3, 12345)"""
    )
    session.execute(f'INSERT INTO {connection.keyspace}.all_types (id) VALUES (2)')
    return 'all_types'


def write(connection: CassandraConnection, table: str, rows: list, **options: object) -> None:
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create(rows) | WriteToCassandra(connection, table, **options)


def test_mappings_arrive(connection: CassandraConnection, session: Session) -> None:
    rows = [
        {'model_id': 'm', 'feature_name': f'f{i % 7}', 'timestamp': NOON + datetime.timedelta(0, i), 'value': i / 2}
        for i in range(3000)
    ]
    write(connection, 'feature_store', rows)
    live = session.execute(f"SELECT * FROM {connection.keyspace}.feature_store WHERE model_id = 'm' ALLOW FILTERING")
    got = sorted((row.feature_name, row.timestamp.replace(tzinfo=UTC), row.value) for row in live)
    assert got == sorted((row['feature_name'], row['timestamp'], row['value']) for row in rows)


def test_user_id_comes_from_the_metadata(connection: CassandraConnection, session: Session) -> None:
    row = {'model_id': 'u', 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0, 'metadata': {'user_id': 'ada'}}
    write(connection, 'feature_store', [row])
    got = session.execute(f"SELECT model_id, value FROM {connection.keyspace}.feature_by_user WHERE user_id = 'ada'")
    assert [tuple(row) for row in got] == [('u', 1.0)]


def test_every_type_survives_a_copy(connection: CassandraConnection, session: Session, all_types: str) -> None:
    with TestPipeline() as pipeline:
        _ = pipeline | ReadFromCassandra(connection, all_types) | WriteToCassandra(connection, 'all_types_copy')
    source, copy = (
        sorted(map(tuple, session.execute(f'SELECT * FROM {connection.keyspace}.{name}')), key=lambda row: row[0])
        for name in ('all_types', 'all_types_copy')
    )
    assert len(source) == 2
    assert copy == source


def test_a_null_leaves_what_the_table_holds(connection: CassandraConnection, session: Session) -> None:
    key = {'model_id': 'n', 'feature_name': 'f', 'timestamp': NOON}
    write(connection, 'feature_store', [{**key, 'value': 1.0}])
    write(connection, 'feature_store', [{**key, 'value': None, 'metadata': {'a': 'b'}}])
    row = session.execute(f"SELECT value FROM {connection.keyspace}.feature_store WHERE model_id = 'n' ALLOW FILTERING")
    assert row.one().value == 1.0


def test_the_later_write_time_wins_whatever_the_order(connection: CassandraConnection, session: Session) -> None:
    key = {'model_id': 'w', 'feature_name': 'f', 'timestamp': NOON}
    for value, hour in ((2.0, 2), (1.0, 1)):
        known_at = NOON + datetime.timedelta(hours=hour)
        write(connection, 'feature_store', [{**key, 'value': value, 'known_at': known_at}], timestamp_column='known_at')
    row = session.execute(
        f"SELECT value, writetime(value) AS at FROM {connection.keyspace}.feature_store WHERE model_id = 'w' "
        'ALLOW FILTERING'
    ).one()
    assert (row.value, row.at) == (2.0, int((NOON + datetime.timedelta(hours=2)).timestamp() * 1e6))


def test_ttl(connection: CassandraConnection, session: Session) -> None:
    row = {'model_id': 't', 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0}
    write(connection, 'feature_store', [row], ttl=datetime.timedelta(hours=1))
    left = session.execute(
        f"SELECT ttl(value) AS left FROM {connection.keyspace}.feature_store WHERE model_id = 't' ALLOW FILTERING"
    ).one()
    assert 3500 < left.left <= 3600


BAD_ROWS = [
    ({'model_id': 'bad', 'feature_name': 'f', 'value': 1.0}, "got no ['timestamp']"),
    ({'model_id': 'bad', 'feature_name': 'f', 'timestamp': NOON, 'vlaue': 1.0}, "got fields ['vlaue']"),
    ({'model_id': 'bad', 'feature_name': 'f', 'timestamp': NOON.replace(tzinfo=None), 'value': 1.0}, 'time zone'),
    ({'model_id': 'bad', 'feature_name': 'f', 'timestamp': NOON.replace(microsecond=1), 'value': 1.0}, 'milliseconds'),
    (
        {'model_id': 'bad', 'feature_name': 'f', 'timestamp': NOON, 'value': 'much'},
        "value: got 'much', rule: a value of type double",
    ),
    ({'model_id': 'x' * 70000, 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0}, '65535'),
]


def test_of_two_rows_with_one_key_the_last_wins(connection: CassandraConnection, session: Session) -> None:
    # In one batch both would have one write time, and the larger value would win.
    rows = [
        {'model_id': 'd', 'feature_name': 'f', 'timestamp': NOON + datetime.timedelta(seconds=i), 'value': value}
        for value in (9.0, 1.0)
        for i in range(100)
    ]
    write(connection, 'feature_store', rows)
    live = session.execute(
        f"SELECT value FROM {connection.keyspace}.feature_store WHERE model_id = 'd' ALLOW FILTERING"
    )
    assert [row.value for row in live] == [1.0] * 100


@pytest.mark.usefixtures('cassandra_5')
def test_a_row_the_server_refuses_does_not_take_its_neighbours_along(
    connection: CassandraConnection, session: Session
) -> None:
    session.execute(f"CREATE INDEX IF NOT EXISTS ON {connection.keyspace}.model_metrics (entries(tags)) USING 'sai'")
    rows = [
        {'model_id': 'r', 'metric_name': 'f', 'timestamp': NOON + datetime.timedelta(0, i), 'value': 1.0, 'tags': tags}
        for i, tags in enumerate([{'a': 'b'}, {'a': 'x' * 70000}, {'a': 'c'}])
    ]
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create(rows) | WriteToCassandra(connection, 'model_metrics', max_errors=None)
        assert_that(result.failed | beam.Map(lambda failure: failure.row), equal_to([rows[1]]))
    live = session.execute(f"SELECT tags FROM {connection.keyspace}.model_metrics WHERE model_id = 'r' ALLOW FILTERING")
    assert [dict(row.tags) for row in live] == [{'a': 'c'}, {'a': 'b'}]


@pytest.mark.parametrize(('row', 'reason'), BAD_ROWS)
def test_a_bad_row_fails_the_pipeline(connection: CassandraConnection, row: dict, reason: str) -> None:
    with pytest.raises(Exception, match='max_errors = 0') as caught:
        write(connection, 'feature_store', [row])
    assert reason in str(caught.value)


def test_dead_letters_carry_row_and_error(connection: CassandraConnection, session: Session) -> None:
    good = {'model_id': 'good', 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0}
    bad = [row for row, _ in BAD_ROWS]
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create([good, *bad]) | WriteToCassandra(connection, 'feature_store', max_errors=None)
        assert_that(result.failed | beam.Map(lambda failure: failure.row), equal_to(bad))
    kept = session.execute(
        f"SELECT count(*) FROM {connection.keyspace}.feature_store WHERE model_id = 'good' ALLOW FILTERING"
    ).one()
    assert kept.count == 1


def test_record_batches_with_text_uuids(connection: CassandraConnection, session: Session) -> None:
    request = uuid.uuid4()
    batch = pa.RecordBatch.from_pydict({'model_id': ['m'], 'request_id': [str(request)], 'timestamp': [NOON]})
    write(connection, 'inference_results', [batch])
    row = session.execute(f"SELECT * FROM {connection.keyspace}.inference_results WHERE model_id = 'm'").one()
    assert (row.request_id, row.timestamp.replace(tzinfo=UTC)) == (request, NOON)


@pytest.mark.usefixtures('cassandra_5')
def test_the_last_row_of_a_key_wins_in_one_request_and_after_a_refused_one(
    connection: CassandraConnection, session: Session
) -> None:
    session.execute(f"CREATE INDEX IF NOT EXISTS ON {connection.keyspace}.model_metrics (entries(tags)) USING 'sai'")
    key = {'model_id': 'order', 'metric_name': 'f', 'timestamp': NOON}
    # The index refuses the first row, and with it the request of the first fifty, which are then sent one by one.
    refused = {**key, 'timestamp': NOON + datetime.timedelta(days=1), 'value': 1.0, 'tags': {'a': 'x' * 70000}}
    rows = [refused, *({**key, 'value': float(value)} for value in range(120, 0, -1))]
    write(connection, 'model_metrics', rows, max_errors=1)
    live = session.execute(
        f"SELECT value FROM {connection.keyspace}.model_metrics WHERE model_id = 'order' ALLOW FILTERING"
    )
    assert [row.value for row in live] == [1.0]


def test_a_key_of_other_bytes_is_the_same_key(connection: CassandraConnection, session: Session) -> None:
    """1.0 and 1.00 are one decimal, and one row, though their bytes differ."""
    name = f'{connection.keyspace}.prices'
    session.execute(f'CREATE TABLE {name} (id int, price decimal, value double, PRIMARY KEY (id, price))')
    prices = ['1.0', '1.00', '1', '1.000']
    rows = [{'id': 1, 'price': price, 'value': float(4 - i)} for i, price in enumerate(prices)]
    write(connection, 'prices', rows)
    assert [row.value for row in session.execute(f'SELECT value FROM {name}')] == [1.0]


def test_rows_without_a_write_time_have_that_of_their_writing(
    connection: CassandraConnection, session: Session
) -> None:
    began = datetime.datetime.now(UTC)
    rows = [
        {'model_id': 'now', 'feature_name': 'f', 'timestamp': NOON + datetime.timedelta(0, i), 'value': 1.0}
        for i in range(120)
    ]
    write(connection, 'feature_store', rows, ttl=datetime.timedelta(hours=1))
    found = session.execute(
        f'SELECT writetime(value) AS at, ttl(value) AS left FROM {connection.keyspace}.feature_store '
        "WHERE model_id = 'now' ALLOW FILTERING"
    ).all()
    assert len({row.at for row in found}) == 120  # no two share one
    assert all(began.timestamp() * 1e6 <= row.at <= datetime.datetime.now(UTC).timestamp() * 1e6 for row in found)
    assert all(3500 < row.left <= 3600 for row in found)


@pytest.fixture(scope='module')
def marked(connection: CassandraConnection, session: Session) -> str:
    session.execute(
        f"""CREATE TABLE {connection.keyspace}.marked (
            id int, at timestamp, value double, tags set<text>, notes map<text, text>, owner text STATIC,
            PRIMARY KEY (id, at)) WITH comment = 'latest values, event_time=at'"""
    )
    session.execute(f'CREATE TABLE {connection.keyspace}.visits (id int, day int, n counter, PRIMARY KEY (id, day))')
    return 'marked'


def only(session: Session, connection: CassandraConnection, table: str, columns: str, key: int) -> tuple:
    (row,) = session.execute(f'SELECT {columns} FROM {connection.keyspace}.{table} WHERE id = {key}')
    return tuple(row)


def test_a_table_may_declare_its_write_time(connection: CassandraConnection, session: Session, marked: str) -> None:
    session.execute(f"CREATE TABLE {connection.keyspace}.newest (id int PRIMARY KEY, at timestamp, value double) "
                    "WITH comment = 'event_time=at'")  # fmt: skip
    late, early = ({'id': 1, 'at': NOON + datetime.timedelta(hours=hour), 'value': float(hour)} for hour in (2, 1))
    write(connection, 'newest', [late])
    write(connection, 'newest', [early])  # arrives late, and overwrites nothing
    assert only(session, connection, 'newest', 'value, writetime(value)', 1) == (
        2.0, int((NOON + datetime.timedelta(hours=2)).timestamp() * 1e6)
    )  # fmt: skip


def test_nulls_delete_if_they_shall(connection: CassandraConnection, session: Session, marked: str) -> None:
    key = {'id': 2, 'at': NOON}
    known_at = {'known_at': NOON}
    later = {'known_at': NOON + datetime.timedelta(seconds=1)}
    first = {**key, 'value': 1.0, 'tags': {'a'}, 'notes': {'a': 'b'}}
    write(connection, marked, [{**first, **known_at}], timestamp_column='known_at')
    write(connection, marked, [{**key, 'value': None, **later}], timestamp_column='known_at')
    assert only(session, connection, marked, 'value', 2) == (1.0,)
    # Columns that no row has are kept, whatever nulls do.
    nothing = {**key, 'value': None, 'tags': None, **later}
    write(connection, marked, [nothing], timestamp_column='known_at', nulls='delete')
    assert only(session, connection, marked, 'value, tags, notes', 2) == (None, None, {'a': 'b'})


def test_collections_are_replaced_or_added_to(connection: CassandraConnection, session: Session, marked: str) -> None:
    key = {'id': 3, 'at': NOON}
    moments = [NOON + datetime.timedelta(seconds=second) for second in range(3)]
    rows = [{**key, 'tags': {tag}, 'notes': {tag: 'x'}, 'w': w} for tag, w in zip('abc', moments, strict=True)]
    write(connection, marked, rows[:1], timestamp_column='w')
    write(connection, marked, [*rows[1:2], *rows[1:2]], timestamp_column='w', collections='append')
    assert only(session, connection, marked, 'tags, notes', 3) == ({'a', 'b'}, {'a': 'x', 'b': 'x'})
    write(connection, marked, [{**key, 'tags': None, 'w': moments[2]}], timestamp_column='w', collections='append')
    assert only(session, connection, marked, 'tags', 3) == ({'a', 'b'},)
    write(connection, marked, rows[2:], timestamp_column='w')
    assert only(session, connection, marked, 'tags, notes', 3) == ({'c'}, {'c': 'x'})


def test_each_row_may_have_its_own_time_to_live(connection: CassandraConnection, session: Session, marked: str) -> None:
    rows = [{'id': 10 + i, 'at': NOON, 'value': 1.0, 'keep': keep} for i, keep in enumerate([100, None, 10_000])]
    now = datetime.datetime.now(UTC)
    write(connection, marked, [{**row, 'w': now} for row in rows], ttl_column='keep', timestamp_column='w')
    left = [only(session, connection, marked, 'ttl(value)', 10 + i)[0] for i in range(3)]
    assert (50 < left[0] <= 100, left[1], 9_900 < left[2] <= 10_000) == (True, None, True)
    bad = [{'id': 20, 'at': NOON, 'keep': keep} for keep in (0, -1, 20 * 365 * 86400 + 1, 'x', 1.5)]
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create(bad) | WriteToCassandra(connection, marked, ttl_column='keep', max_errors=None)
        assert_that(result.failed | beam.Map(lambda failure: failure.row), equal_to(bad))
        named = result.failed | beam.Map(lambda failure: failure.error.startswith('marked: keep: got '))
        assert_that(named, equal_to([True] * 5), label='errors')


def test_a_row_without_clustering_columns_writes_static_ones(
    connection: CassandraConnection, session: Session, marked: str
) -> None:
    rows = [{'id': 30, 'owner': 'ada', 'w': NOON}, {'id': 30, 'at': NOON, 'value': 1.0, 'w': NOON}]
    bad = [{'id': 31, 'owner': 'eve', 'value': 1.0, 'w': NOON}, {'owner': 'eve', 'w': NOON}]
    with TestPipeline() as pipeline:
        written = WriteToCassandra(connection, marked, timestamp_column='w', max_errors=None)
        result = pipeline | beam.Create([rows + bad]) | beam.FlatMap(list) | written
        errors = [
            'marked: row: got value without the clustering columns, rule: the whole primary key, or static columns',
            "marked: row: got no ['id'], rule: every column of the primary key has a value",
        ]
        assert_that(result.failed | beam.Map(lambda failure: failure.error), equal_to(errors))
    assert only(session, connection, marked, 'at, value, owner', 30)[1:] == (1.0, 'ada')
    assert list(session.execute(f'SELECT * FROM {connection.keyspace}.marked WHERE id = 31')) == []


def test_counters_are_added_to(connection: CassandraConnection, session: Session, marked: str) -> None:
    rows = [{'id': 1, 'day': day, 'n': n} for day, n in ((1, 2), (1, 3), (2, -1), (2, None))]
    write(connection, 'visits', rows)
    write(connection, 'visits', rows)
    found = session.execute(f'SELECT day, n FROM {connection.keyspace}.visits WHERE id = 1')
    assert sorted(tuple(row) for row in found) == [(1, 10), (2, -2)]


def test_a_partition_that_is_larger_than_a_request(connection: CassandraConnection, session: Session) -> None:
    rows = [
        {'model_id': 'large', 'feature_name': 'f', 'timestamp': NOON + datetime.timedelta(0, i), 'value': float(i),
         'metadata': {'a': 'x' * (i % 3000)}}
        for i in range(3000)
    ]  # fmt: skip
    entries = [{**row, 'metadata': list(row['metadata'].items())} for row in rows]
    batches = [pa.RecordBatch.from_pylist(entries[start : start + 700], SCHEMA) for start in range(0, 3000, 700)]
    write(connection, 'feature_store', batches)
    live = session.execute(
        f"SELECT value, metadata FROM {connection.keyspace}.feature_store WHERE model_id = 'large' ALLOW FILTERING"
    )
    assert sorted((row.value, len(row.metadata['a'])) for row in live) == [(float(i), i % 3000) for i in range(3000)]
