"""FeatureStore on a real Cassandra; the oracle is plain CQL, read back by the driver."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import (
    ReadError,
    SchemaError,
    TfxCassandraError,
    UnavailableError,
    WriteError,
)
from tfx_cassandra.components.feature_store import tables
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue, WriteResult
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


@pytest.fixture(scope='module')
def store(connection: CassandraConnection) -> Iterator[FeatureStore]:
    with FeatureStore(connection) as opened:
        yield opened


def _rows(session: Session, connection: CassandraConnection, model_id: str) -> list[tuple]:
    """Returns the rows of one model as the driver reads them, with the timestamps in milliseconds."""
    query = (
        'SELECT feature_name, toUnixTimestamp(timestamp) AS ms, value, metadata, user_id, TTL(value) AS ttl '
        f'FROM {connection.keyspace}.feature_store WHERE model_id = %s ALLOW FILTERING'
    )
    return sorted(tuple(row) for row in session.execute(query, (model_id,)))


def _ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)


def test_a_value_is_written_with_its_user(
    store: FeatureStore, session: Session, connection: CassandraConnection
) -> None:
    store.write_feature('one', 'f', 1.5, NOON, {'user_id': 'u1', 'source': 's'})
    assert _rows(session, connection, 'one') == [('f', _ms(NOON), 1.5, {'user_id': 'u1', 'source': 's'}, 'u1', None)]


def test_the_view_finds_a_users_features(
    store: FeatureStore, session: Session, connection: CassandraConnection
) -> None:
    for user, value in (('view-a', 1.0), ('view-b', 2.0)):
        store.write_feature('view', f'of {user}', value, NOON, {'user_id': user})
    store.write_feature('view', 'of nobody', 3.0, NOON)
    query = f'SELECT model_id, feature_name, value FROM {connection.keyspace}.feature_by_user WHERE user_id = %s'
    assert [tuple(row) for row in session.execute(query, ('view-b',))] == [('view', 'of view-b', 2.0)]


@pytest.mark.parametrize('value', [0.0, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 0.1, None])
@pytest.mark.parametrize(
    'moment',
    [
        NOON,
        NOON + MILLISECOND,
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime.datetime(1, 1, 1, tzinfo=UTC),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-5))),
    ],
)
def test_what_is_written_is_read(store: FeatureStore, value: float | None, moment: datetime.datetime) -> None:
    name = f'{value} at {moment}'
    store.write_feature('kept', name, value, moment, {'ä': '日本'})
    assert store.get_latest_feature('kept', name) == FeatureValue('kept', name, moment, value, {'ä': '日本'})


def test_a_nan_is_kept(store: FeatureStore) -> None:
    store.write_feature('kept', 'nan', math.nan, NOON)
    got = store.get_latest_feature('kept', 'nan')
    assert math.isnan(got.value)


def test_a_rewrite_replaces_the_value_and_keeps_metadata_it_does_not_give(
    store: FeatureStore, session: Session, connection: CassandraConnection
) -> None:
    store.write_feature('rewrite', 'f', 1.0, NOON, {'user_id': 'u1'})
    store.write_feature('rewrite', 'f', 2.0, NOON)
    assert _rows(session, connection, 'rewrite') == [('f', _ms(NOON), 2.0, {'user_id': 'u1'}, 'u1', None)]
    store.write_feature('rewrite', 'f', None, NOON)
    assert _rows(session, connection, 'rewrite')[0][2] is None


def test_a_row_without_metadata_costs_no_tombstone(
    store: FeatureStore, session: Session, connection: CassandraConnection
) -> None:
    store.write_feature('tombstones', 'f', 1.0, NOON)
    query = (
        f'SELECT WRITETIME(user_id) AS written, value FROM {connection.keyspace}.feature_store '
        "WHERE model_id = 'tombstones' AND feature_name = 'f'"
    )
    trace = session.execute(query, trace=True).get_query_trace(max_wait_sec=30)
    cells = [event.description for event in trace.events if 'tombstone cells' in event.description]
    assert cells
    assert all('and 0 tombstone cells' in description for description in cells)


def test_ttl(store: FeatureStore, session: Session, connection: CassandraConnection) -> None:
    store.write_feature('ttl', 'short', 1.0, NOON, ttl=600)
    assert all(result.error is None for result in store.write_features([FeatureValue('ttl', 'x', NOON, 1.0)], ttl=900))
    short, bulk = (row[5] for row in _rows(session, connection, 'ttl'))
    assert 500 < short <= 600 < 800 < bulk <= 900


@pytest.mark.parametrize('ttl', [0, -1, True, 630_720_001, 1.5])
def test_a_ttl_cassandra_cannot_keep(store: FeatureStore, ttl: int) -> None:
    with pytest.raises(ValueError, match=r'^ttl: got .*, rule: seconds from 1 to 630720000'):
        store.write_feature('ttl', 'f', 1.0, NOON, ttl=ttl)


@pytest.mark.parametrize('concurrency', [0, -1, True, 1.5])
def test_a_concurrency_that_is_none(store: FeatureStore, concurrency: int) -> None:
    with pytest.raises(ValueError, match=r'^concurrency: got .*, rule: an integer from 1'):
        store.write_features([], concurrency=concurrency)


def test_a_naive_timestamp_is_refused_everywhere(store: FeatureStore) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match=r'^timestamp: got '):
        store.write_feature('m', 'f', 1.0, naive)
    with pytest.raises(ValueError, match=r'^before: got '):
        store.get_latest_feature('m', 'f', before=naive)


# The values written at NOON - 1 ms .. NOON + 3 ms, as offsets in microseconds from NOON.
WRITTEN = [-1000, 0, 1000, 2000, 3000]


@pytest.mark.parametrize(
    ('start', 'end', 'expected'),
    [
        (0, 2000, [0, 1000]),
        (0, 2001, [0, 1000, 2000]),
        (1, 2000, [1000]),
        (-1, 1000, [0]),
        (-1000, 4000, WRITTEN),
        (-2000, -1000, []),
        (1, 2, []),
        (1, 1000, []),
        (1, 1001, [1000]),
        (3000, 3001, [3000]),
        (3001, 9000, []),
    ],
)
def test_a_window_is_half_open(store: FeatureStore, start: int, end: int, expected: list[int]) -> None:
    def at(offset: int) -> datetime.datetime:
        return NOON + datetime.timedelta(microseconds=offset)

    store.write_features(FeatureValue('window', 'f', at(offset), float(offset)) for offset in WRITTEN)
    got = list(store.get_time_series('window', 'f', TimeWindow(at(start), at(end))))
    assert [value.value for value in got] == expected
    assert [value.timestamp for value in got] == [at(offset) for offset in expected]


def test_the_latest_before_a_moment_excludes_it(store: FeatureStore) -> None:
    for offset in range(3):
        store.write_feature('before', 'f', float(offset), NOON + offset * MILLISECOND)

    def latest(before: datetime.datetime | None) -> float | None:
        got = store.get_latest_feature('before', 'f', before=before)
        return got and got.value

    assert latest(None) == 2.0
    assert latest(NOON + 3 * MILLISECOND) == 2.0
    assert latest(NOON + 2 * MILLISECOND) == 1.0
    assert latest(NOON + 1.001 * MILLISECOND) == 1.0
    assert latest(NOON + MILLISECOND) == 0.0
    assert latest(NOON) is None


def test_the_latest_of_several(store: FeatureStore) -> None:
    names = [f'f{n}' for n in range(300)]
    rows = [
        FeatureValue('several', name, NOON + k * MILLISECOND, float(n), {})
        for k in (0, 1)
        for n, name in enumerate(names)
    ]
    store.write_features(rows)
    got = store.get_latest_features('several', [*names, 'none', 'f0'])
    assert list(got) == [*names, 'none']
    assert got.pop('none') is None
    assert {name: (value.value, value.timestamp, value.metadata) for name, value in got.items()} == {
        f'f{n}': (float(n), NOON + MILLISECOND, None) for n in range(300)
    }
    assert store.get_latest_features('several', []) == {}
    with pytest.raises(ValueError, match=r"^feature_names: got 'f0', rule: several names"):
        store.get_latest_features('several', 'f0')


def test_one_row_that_fails_is_named_and_the_others_are_written(
    store: FeatureStore, session: Session, connection: CassandraConnection
) -> None:
    good = [FeatureValue('partly', f'f{n}', NOON, float(n)) for n in range(10)]
    # Each part fits a partition key, the two together do not; only the server knows.
    bad = FeatureValue('partly' * 6667, 'f' * 40_000, NOON, 1.0)
    results = store.write_features([*good[:4], bad, *good[4:]], concurrency=3)
    assert [result.index for result in results] == list(range(11))
    assert [result.index for result in results if result.error] == [4]
    message = str(results[4].error)
    assert message.startswith(f"{connection.keyspace}.feature_store: cannot write model_id 'partlypartly")
    assert 'timestamp 2013-01-01T12:00:00+00:00 (InvalidRequest: ' in message
    # Cassandra 4.1 counts what separates the parts, too.
    assert re.search(r'Key length of 8000[28] is longer than maximum of 65535', message)
    assert '\n' not in message
    assert isinstance(results[4].error, WriteError)
    assert [(row[0], row[2]) for row in _rows(session, connection, 'partly')] == [
        (f'f{n}', float(n)) for n in range(10)
    ]
    with pytest.raises(WriteError, match=r'Key length of 8000[28]'):
        store.write_feature(bad.model_id, bad.feature_name, 1.0, NOON)
    with pytest.raises(ReadError, match=r'cannot read model_id .*Key length of 8000[28]'):
        store.get_latest_feature(bad.model_id, bad.feature_name)
    with pytest.raises(ReadError, match=r'cannot read model_id .*Key length of 8000[28]'):
        list(store.get_time_series(bad.model_id, bad.feature_name, TimeWindow(NOON, NOON + MILLISECOND)))


@pytest.mark.slow
def test_twenty_thousand_rows(store: FeatureStore, session: Session, connection: CassandraConnection) -> None:
    rows = (FeatureValue('bulk', f'f{n % 4}', NOON + n * MILLISECOND, float(n), {'n': str(n)}) for n in range(20_000))
    results = store.write_features(rows, concurrency=64)
    assert results == [WriteResult(n, None) for n in range(20_000)]
    table = f'{connection.keyspace}.feature_store'
    query = f'SELECT count(*), sum(value) FROM {table} WHERE model_id = %s AND feature_name = %s'
    for n in range(4):
        assert tuple(session.execute(query, ('bulk', f'f{n}')).one()) == (5_000, sum(range(n, 20_000, 4)))
    # More than one page of 5,000 rows, oldest first.
    store.write_features(FeatureValue('bulk', 'f0', NOON - n * MILLISECOND, -float(n)) for n in range(1, 1_001))
    series = store.get_time_series('bulk', 'f0', TimeWindow(NOON - datetime.timedelta(1), NOON + datetime.timedelta(1)))
    assert [value.value for value in series] == [float(-n) for n in range(1_000, 0, -1)] + [
        float(n) for n in range(0, 20_000, 4)
    ]


def test_features_read_from_the_store_can_be_written_to_it(store: FeatureStore) -> None:
    store.write_features(FeatureValue('from', 'f', NOON + n * MILLISECOND, float(n)) for n in range(6_000))
    series = store.get_time_series('from', 'f', TimeWindow(NOON, NOON + datetime.timedelta(1)))
    copies = (dataclasses.replace(value, model_id='to') for value in series)
    assert [result.error for result in store.write_features(copies)] == [None] * 6_000
    assert store.get_latest_feature('to', 'f').value == 5_999.0


@pytest.mark.parametrize(
    ('given_level', 'sent'), [(None, 'LOCAL_QUORUM'), ('ONE', 'ONE'), ('QUORUM', 'QUORUM'), ('all', 'ALL')]
)
def test_a_consistency_holds_for_its_call(
    store: FeatureStore, session: Session, given_level: str | None, sent: str
) -> None:
    levels: list[int] = []

    def note(request: object) -> None:
        levels.append(request.message.consistency_level)

    session.add_request_init_listener(note)
    try:
        store.write_feature('level', 'f', 1.0, NOON, consistency=given_level)
        store.write_features([FeatureValue('level', 'g', NOON, 1.0)], consistency=given_level)
        store.get_latest_feature('level', 'f', consistency=given_level)
        list(store.get_time_series('level', 'f', TimeWindow(NOON, NOON + MILLISECOND), consistency=given_level))
    finally:
        session.remove_request_init_listener(note)
    assert levels == [ConsistencyLevel.name_to_value[sent]] * 4


def test_requests_may_be_retried(store: FeatureStore, session: Session) -> None:
    retriable: list[bool] = []

    def note(request: object) -> None:
        retriable.append(request.query.is_idempotent)

    session.add_request_init_listener(note)
    try:
        store.write_feature('retried', 'f', 1.0, NOON)
        store.get_latest_feature('retried', 'f', before=NOON)
    finally:
        session.remove_request_init_listener(note)
    assert retriable == [True, True]


def test_a_consistency_the_cluster_cannot_meet(store: FeatureStore) -> None:
    # The module's keyspace has one copy.
    with pytest.raises(WriteError, match=r"cannot write model_id 'm', feature_name 'f', .*consistency level THREE"):
        store.write_feature('m', 'f', 1.0, NOON, consistency='THREE')
    with pytest.raises(ReadError, match=r"cannot read model_id 'm', feature_name 'f' .*consistency level THREE"):
        store.get_latest_feature('m', 'f', consistency='THREE')
    with pytest.raises(ValueError, match=r"^consistency: got 'MOST', rule: one of "):
        store.write_feature('m', 'f', 1.0, NOON, consistency='MOST')


def test_stores_share_the_session_and_the_last_one_closes_it(connection: CassandraConnection) -> None:
    mine = dataclasses.replace(connection, connect_timeout=11.0)
    with FeatureStore(mine) as one, FeatureStore(mine) as two, connections.session(mine) as session:
        one.close()
        one.close()
        with pytest.raises(TfxCassandraError, match='the store is not open'):
            one.get_latest_feature('m', 'f')
        two.write_feature('shared', 'f', 1.0, NOON)
    assert session.cluster.is_shutdown
    with one:  # a store may be opened again
        assert one.get_latest_feature('shared', 'f').value == 1.0
        with pytest.raises(TfxCassandraError, match='the store is already open'):
            one.__enter__()


def test_a_series_taken_after_the_store_is_closed(connection: CassandraConnection) -> None:
    with FeatureStore(connection) as store:
        series = store.get_time_series('m', 'f', TimeWindow(NOON, NOON + MILLISECOND))
    with pytest.raises(TfxCassandraError, match='the store is not open'):
        next(series)


def test_a_keyspace_without_the_table(connection: CassandraConnection) -> None:
    absent = dataclasses.replace(connection, keyspace='no_such_keyspace')
    with pytest.raises(SchemaError, match=r'^no_such_keyspace\.feature_store: .*schema apply'), FeatureStore(absent):
        pass
    # Nothing is held on to.
    with pytest.raises(KeyError):
        connections.release(absent)


def test_a_node_that_does_not_prepare_lacks_no_table(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(session: Session, cql: str) -> PreparedStatement:
        raise OperationTimedOut(errors={'127.0.0.1': 'no answer'})

    monkeypatch.setattr(tables, '_prepared', late)
    with pytest.raises(ReadError, match=r'^.*\.feature_store: .*no answer') as caught, FeatureStore(connection):
        pass
    assert 'schema apply' not in str(caught.value)


def test_no_host(connection: CassandraConnection) -> None:
    nowhere = dataclasses.replace(connection, contact_points=('127.0.0.1',), port=1, connect_timeout=1.0)
    with pytest.raises(UnavailableError, match=r'^contact_points: got 127\.0\.0\.1:1, rule: '), FeatureStore(nowhere):
        pass


def test_of_many_writes_to_one_row_the_last_wins(connection: CassandraConnection) -> None:
    with (
        FeatureStore(connection) as store,
        FeatureStore(dataclasses.replace(connection, request_timeout=59.0)) as other,
    ):
        rows = [FeatureValue('order', 'f', NOON, float(value)) for value in range(300, 0, -1)]
        assert all(result.error is None for result in store.write_features(rows, concurrency=300))
        assert store.get_latest_feature('order', 'f').value == 1.0
        for value in range(50, 0, -1):  # two clusters of the driver, whose write times are still one sequence
            (store, other)[value % 2].write_feature('order', 'g', float(value), NOON)
        assert store.get_latest_feature('order', 'g').value == 1.0


BAD_MOMENTS = ['1700000000000000', '-9223372036854775808', '9223372036854775807', 'blobAsTimestamp(0x)']


@pytest.mark.parametrize('moment', BAD_MOMENTS)
def test_a_row_that_python_cannot_hold_disturbs_no_other(
    connection: CassandraConnection, session: Session, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f'bad {moment}'
    insert = f'INSERT INTO {connection.keyspace}.feature_store (model_id, feature_name, timestamp, value) VALUES '
    session.execute(f"{insert}('spoilt', '{name}', {moment}, 1.0)")
    session.execute(f"{insert}('spoilt', 'only {name}', {moment}, 1.0)")
    with FeatureStore(connection) as store:
        store.write_feature('spoilt', name, 2.0, NOON)
        store.write_feature('spoilt', 'good', 3.0, NOON)
        expected = {name: 2.0, f'only {name}': None, 'good': 3.0}
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            # Another user of the session meanwhile.
            others = pool.submit(lambda: [store.get_latest_feature('spoilt', 'good') for _ in iter(done.is_set, True)])
            for before in (None, datetime.datetime(9999, 12, 31, tzinfo=UTC)):
                for _ in range(10):
                    got = store.get_latest_features('spoilt', expected, before=before)
                    assert {name: value and value.value for name, value in got.items()} == expected
            done.set()
            assert {value.value for value in [*others.result(60), store.get_latest_feature('spoilt', 'good')]} == {3.0}
        window = TimeWindow(datetime.datetime.min.replace(tzinfo=UTC), datetime.datetime.max.replace(tzinfo=UTC))
        assert [value.value for value in store.get_time_series('spoilt', name, window)] == [2.0]
        assert list(store.get_time_series('spoilt', f'only {name}', window)) == []
    if (
        moment != '-9223372036854775808' and 'blob' not in moment
    ):  # those sort before every other, and are not asked for
        messages = [record.getMessage() for record in caplog.records]
        told = [message for message in messages if f"feature_name '{name}' is skipped" in message]
        assert len(told) == 1
        assert f'timestamp: got {moment} ms since 1970' in told[0]


@pytest.mark.parametrize('year', [1, 1700, 2242, 4000, 9999])
def test_a_moment_is_kept_to_the_millisecond_in_every_year(connection: CassandraConnection, year: int) -> None:
    moments = [datetime.datetime(year, 12, 31, 23, 59, 59, n * 1000, tzinfo=UTC) for n in (1, 333, 999)]
    with FeatureStore(connection) as store:
        for moment in moments:
            store.write_feature('years', str(year), 1.0, moment)
        window = TimeWindow(moments[0], datetime.datetime.max.replace(tzinfo=UTC))
        assert [value.timestamp for value in store.get_time_series('years', str(year), window)] == moments
