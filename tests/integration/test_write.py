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
