"""ReadFromCassandra against a real cluster: every row once, proven; the oracle is a plain driver loop."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import pathlib
import pickle
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from cassandra.cluster import Session

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import ledger, read, ring
from tfx_cassandra.components.scan.read import ReadFromCassandra
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
PARTITIONS, HOURS = 300, 24


@pytest.fixture(scope='module')
def table(connection: CassandraConnection, session: Session) -> Iterator[str]:
    name = f'{connection.keyspace}.numbers'
    session.execute(
        f'CREATE TABLE {name} (k int, hour timestamp, n bigint, seen timestamp, label text, PRIMARY KEY ((k), hour))'
    )
    insert = session.prepare(f'INSERT INTO {name} (k, hour, n, seen, label) VALUES (?, ?, ?, ?, ?)')
    futures = []
    for k in range(PARTITIONS):
        for h in range(HOURS):
            hour = START + datetime.timedelta(hours=h)
            row = (k, hour, k * 1000 + h, hour + datetime.timedelta(minutes=k), None if k % 3 else 'x')
            futures.append(session.execute_async(insert, row))
            if len(futures) == 200:
                for future in futures:
                    future.result()
                futures = []
    for future in futures:
        future.result()
    yield 'numbers'
    session.execute(f'DROP TABLE {name}')


def rows_of(batches: list[pa.RecordBatch]) -> list[tuple]:
    return sorted(tuple(row.values()) for batch in batches for row in batch.to_pylist())


def collected(transform: beam.PTransform, output: str | None = None) -> list:
    """Runs a source and returns its elements; they come by way of files, since Beam pickles every closure."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = TestPipeline()
        elements = pipeline | transform
        _ = (getattr(elements, output) if output else elements) | beam.Map(_save, folder)
        pipeline.run().wait_until_finish()
        return [pickle.loads(path.read_bytes()) for path in pathlib.Path(folder).iterdir()]


def _save(element: object, folder: str) -> None:
    (pathlib.Path(folder) / uuid.uuid4().hex).write_bytes(pickle.dumps(element))


def scanned(connection: CassandraConnection, table: str, **options: Any) -> list[tuple]:
    """Runs the transform and returns its rows, sorted."""
    return rows_of(collected(ReadFromCassandra(connection, table, **options)))


def scanned_at_once(
    connection: CassandraConnection, table: str, columns: list[str], restrictions: list[dict[str, Any]]
) -> list[list[tuple]]:
    """Runs a read for each restriction in one pipeline, which takes a third of the time of as many pipelines."""
    with tempfile.TemporaryDirectory() as folder:
        targets = [pathlib.Path(folder) / str(number) for number in range(len(restrictions))]
        with TestPipeline() as pipeline:
            for target, where in zip(targets, restrictions, strict=True):
                target.mkdir()
                read_where = f'read {target.name}' >> ReadFromCassandra(connection, table, columns=columns, where=where)
                _ = pipeline | read_where | f'save {target.name}' >> beam.Map(_save, str(target))
        return [rows_of([pickle.loads(path.read_bytes()) for path in target.iterdir()]) for target in targets]


def looped(session: Session, connection: CassandraConnection, table: str, columns: str = 'k, hour, n') -> list[tuple]:
    """The oracle: one driver loop over the whole table."""
    rows = session.execute(f'SELECT {columns} FROM {connection.keyspace}.{table}')
    aware = (
        tuple(value.replace(tzinfo=UTC) if isinstance(value, datetime.datetime) else value for value in row)
        for row in rows
    )
    return sorted(aware)


@pytest.mark.parametrize('options', [{}, {'splits': 1}, {'splits': 500}, {'page_rows': 7}, {'consistency': 'ONE'}])
def test_every_row_once(connection: CassandraConnection, session: Session, table: str, options: dict) -> None:
    got = scanned(connection, table, columns=['k', 'hour', 'n'], **options)
    assert len(got) == PARTITIONS * HOURS
    assert got == looped(session, connection, table)


def test_all_columns_keys_first(connection: CassandraConnection, table: str) -> None:
    batches = collected(ReadFromCassandra(connection, table))
    assert {tuple(batch.schema.names) for batch in batches} == {('k', 'hour', 'label', 'n', 'seen')}


def test_the_steps_of_pipelines_share_two_sessions(
    connection: CassandraConnection, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, opening = [], connections._open
    monkeypatch.setattr(connections, '_open', lambda given: opened.append(given) or opening(given))
    own = dataclasses.replace(connection, connect_timeout=9.7)  # of nobody else
    for _ in range(2):
        assert len(scanned(own, table, columns=['k'])) == PARTITIONS * HOURS
    assert opened == [own, own]  # one to plan, one to read


def test_a_table_that_is_made_anew_between_two_pipelines(connection: CassandraConnection, session: Session) -> None:
    """What a session that is kept knows of the schema is of before."""
    own = dataclasses.replace(connection, connect_timeout=9.8)
    for column in ('a', 'b'):
        session.execute(f'CREATE TABLE {connection.keyspace}.anew (k int PRIMARY KEY, {column} int)')
        session.execute(f'INSERT INTO {connection.keyspace}.anew (k, {column}) VALUES (1, 2)')
        (batch,) = collected(ReadFromCassandra(own, 'anew'))
        assert batch.to_pylist() == [{'k': 1, column: 2}]
        session.execute(f'DROP TABLE {connection.keyspace}.anew')


WINDOWS = [
    (datetime.timedelta(0), datetime.timedelta(hours=1)),
    (datetime.timedelta(hours=2), datetime.timedelta(hours=5)),
    (datetime.timedelta(hours=2, milliseconds=1), datetime.timedelta(hours=5, milliseconds=1)),
    (datetime.timedelta(days=-1), datetime.timedelta(0)),
    (datetime.timedelta(hours=23), datetime.timedelta(days=9)),
]


@pytest.mark.parametrize(('start', 'end'), WINDOWS)
@pytest.mark.parametrize('column', ['hour', 'seen'])
def test_windows_are_half_open(
    connection: CassandraConnection, session: Session, table: str, start: datetime.timedelta, end: datetime.timedelta,
    column: str,
) -> None:  # fmt: skip
    window = TimeWindow(START + start, START + end)
    got = scanned(connection, table, columns=['k', 'n'], window=window, time_column=column)
    index = {'hour': 0, 'seen': 1}[column]
    everything = looped(session, connection, table, 'hour, seen, k, n')
    assert got == sorted(row[2:] for row in everything if window.start <= row[index] < window.end)


def test_where(connection: CassandraConnection, session: Session, table: str) -> None:
    got = scanned(connection, table, columns=['n'], where={'k': [3, 4], 'label': 'x'})
    assert got == [(3000 + h,) for h in range(HOURS)]


def coverage_of(options: read.ReadRequest) -> ledger.Coverage:
    (found,) = collected(read.ScanTable(options), 'coverage')
    return found


@pytest.mark.parametrize(('keys', 'ranges'), [((3,), 1), ((3, 4, 3), 2), ((-1,), 1), ((), 0)])
def test_partition_keys_read_their_partitions_alone(
    connection: CassandraConnection, table: str, keys: tuple, ranges: int
) -> None:
    coverage = coverage_of(read.ReadRequest(connection, table, filters=(('k', keys),)))
    assert coverage.ranges == ranges
    assert all(entry.token_range.width == 1 for entry in coverage.reads)
    assert coverage.rows == HOURS * len({key for key in keys if key >= 0})


def test_ids_may_be_given_as_text_or_as_ids(connection: CassandraConnection, session: Session) -> None:
    name, ids = f'{connection.keyspace}.by_id', [uuid.UUID(int=i) for i in range(5)]
    session.execute(f'CREATE TABLE {name} (id uuid PRIMARY KEY, n int)')
    for i, key in enumerate(ids):
        session.execute(f'INSERT INTO {name} (id, n) VALUES (%s, %s)', (key, i))
    where = {'id': [ids[1], str(ids[3])]}
    assert scanned(connection, 'by_id', columns=['n'], where=where) == [(1,), (3,)]
    with pytest.raises(Exception, match="where id: got 'x', rule: a uuid"):
        scanned(connection, 'by_id', where={'id': 'x'})


@pytest.mark.usefixtures('cassandra_5')
def test_restrictions_are_compared_as_the_column_s_type(connection: CassandraConnection, session: Session) -> None:
    name, key = f'{connection.keyspace}.typed', uuid.UUID('0011aabb-ccdd-4eff-8011-223344556677')
    session.execute(
        f'CREATE TABLE {name} (price decimal, id uuid, ip inet, at timestamp, day date, hour time, big varint, '
        'f float, raw blob, few frozen<set<text>>, pair frozen<tuple<int, text>>, near vector<float, 2>, n int, '
        'PRIMARY KEY ((price), id))'
    )
    session.execute(
        f'INSERT INTO {name} (price, id, ip, at, day, hour, big, f, raw, few, pair, near, n) VALUES (1.50, {key}, '
        "'2001:db8::1', '2020-01-01T00:00:00Z', '2020-01-01', '12:30:00', 7, 0.1, 0xcafe, {'a', 'b'}, (1, 'x'), "
        '[0.5, 1], 1)'
    )
    session.execute(f'INSERT INTO {name} (price, id, big, n) VALUES (1.5, {key}, blobAsVarint(0x0007), 2)')
    session.execute(f'INSERT INTO {name} (price, id, n) VALUES (2.5, {uuid.UUID(int=1)}, 3)')
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({'id': str(key).upper()}, [1, 2]), ({'id': f'{{{key}}}'}, [1, 2]), ({'id': key.hex}, [1, 2]),
        ({'id': key}, [1, 2]), ({'ip': '2001:DB8:0::1'}, [1]), ({'ip': ipaddress.ip_address('2001:db8::1')}, [1]),
        ({'n': [1, '2']}, [1, 2]), ({'price': 1.5}, [1, 2]), ({'price': decimal.Decimal('2.500')}, [3]),
        ({'price': [1, 2]}, []), ({'at': '2020-01-01T01:00+01:00'}, [1]),
        ({'at': datetime.datetime(2020, 1, 1, tzinfo=UTC)}, [1]),
        ({'day': '2020-01-01'}, [1]), ({'day': datetime.date(2020, 1, 1)}, [1]), ({'hour': datetime.time(12, 30)}, [1]),
        ({'big': 7}, [1, 2]), ({'f': 0.1}, [1]), ({'raw': b'\xca\xfe'}, [1]), ({'few': [['b', 'a']]}, [1]),
        ({'pair': [(1, 'x'), (2, 'y')]}, [1]), ({'near': [[0.5, 1.0]]}, [1]),
    ]  # fmt: skip
    found = scanned_at_once(connection, 'typed', ['n'], [where for where, _ in cases])
    for (where, rows), got in zip(cases, found, strict=True):
        assert got == [(row,) for row in rows], where
    for where, message in [
        ({'n': True}, 'where n: got True, rule: a int'), ({'day': 'today'}, "where day: got 'today', rule: a date"),
        ({'pair': (1, 'x')}, 'where pair: got 1, rule: a frozen<tuple<int, text>>'),
    ]:  # fmt: skip
        with pytest.raises(Exception, match=message):
            scanned(connection, 'typed', columns=['n'], where=where)


@pytest.mark.usefixtures('cassandra_5')
def test_write_times_are_the_server_s(connection: CassandraConnection, session: Session) -> None:
    name = f'{connection.keyspace}.dated'
    session.execute(f'CREATE TABLE {name} (k int PRIMARY KEY, v int, tags map<text, text>, few frozen<list<int>>)')
    session.execute(f"INSERT INTO {name} (k, v, tags) VALUES (1, 1, {{'a': 'x'}}) USING TIMESTAMP 111")
    session.execute(f"UPDATE {name} USING TIMESTAMP 333 SET tags['b'] = 'y' WHERE k = 1")
    session.execute(f'INSERT INTO {name} (k, few) VALUES (2, [1]) USING TIMESTAMP 222')
    options = read.ReadRequest(connection, 'dated', columns=('k',), writetimes=('v', 'tags', 'few'))
    batches = collected(read.ScanTable(options), 'batches')
    assert batches[0].schema.names == ['k', 'writetime(v)', 'writetime(tags)', 'writetime(few)']
    assert rows_of(batches) == [(1, 111, 333, None), (2, None, None, 222)]


def test_nodes_and_times_stand_in_the_ledger(connection: CassandraConnection, session: Session, table: str) -> None:
    window = TimeWindow(START, START + datetime.timedelta(hours=3))
    coverage = coverage_of(read.ReadRequest(connection, table, window=window))
    nodes = {str(host.endpoint) for host in session.cluster.metadata.all_hosts()}
    assert {entry.coordinator for entry in coverage.reads} <= nodes
    assert {(entry.area.times.start, entry.area.times.end) for entry in coverage.reads} == {window.bounds}


def test_the_plan_grows_with_the_table(connection: CassandraConnection, session: Session) -> None:
    name = f'{connection.keyspace}.bulky'
    session.execute(f'CREATE TABLE {name} (k int, t timestamp, v blob, PRIMARY KEY ((k), t))')
    insert = session.prepare(f'INSERT INTO {name} (k, t, v) VALUES (?, ?, ?)')
    options = read.ReadRequest(connection, 'bulky')
    empty = read.plan_splits(options)
    assert (empty.bytes, empty.page_rows) == (pytest.approx(0, abs=2000), 5000)
    megabyte = bytes(1 << 20)
    for k in range(40):
        session.execute(insert, (k, START, megabyte))
    planned = read.plan_splits(options)
    assert planned.bytes == pytest.approx(40 << 20, rel=0.1)
    assert planned.page_rows == pytest.approx(4, abs=1)
    session.execute(f'DROP TABLE {name}')


def test_a_view_is_read_like_a_table(connection: CassandraConnection, session: Session) -> None:
    session.execute(
        f'INSERT INTO {connection.keyspace}.feature_store (model_id, feature_name, timestamp, value, user_id) '
        f"VALUES ('m', 'f', '2013-01-01', 1.5, 'ada')"
    )
    assert scanned(connection, 'feature_by_user', columns=['user_id', 'value']) == [('ada', 1.5)]


def test_an_empty_table(connection: CassandraConnection) -> None:
    assert scanned(connection, 'model_metrics') == []


@pytest.mark.parametrize('index', [0, 17, -1])
def test_a_lost_split_fails_the_pipeline_and_is_named(
    connection: CassandraConnection, table: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[ring.TokenRange] = []
    subdivide = ring.subdivide

    def forgetful(ranges: list[ring.TokenRange], count: int) -> list[ring.TokenRange]:
        splits = subdivide(ranges, count)
        lost.append(splits.pop(index))
        return splits

    monkeypatch.setattr(ring, 'subdivide', forgetful)
    with pytest.raises(Exception, match='token ranges not read') as caught:
        scanned(connection, table)
    assert str(lost[0]) in str(caught.value)


def test_the_fingerprint_is_of_the_content_not_of_the_splits(
    connection: CassandraConnection, session: Session, table: str
) -> None:
    def coverage(splits: int) -> ledger.Coverage:
        return coverage_of(read.ReadRequest(connection, table, options=read.ReadOptions(splits=splits)))

    first, second = coverage(3), coverage(70)
    assert first.ranges < second.ranges
    assert first.rows == second.rows == PARTITIONS * HOURS
    assert first.fingerprint('q', 'w') == second.fingerprint('q', 'w')
    session.execute(
        f"UPDATE {connection.keyspace}.{table} SET n = -1 WHERE k = 5 AND hour = '2013-01-01 00:00:00+0000'"
    )
    assert coverage(3).checksum != first.checksum
    session.execute(
        f"UPDATE {connection.keyspace}.{table} SET n = 5000 WHERE k = 5 AND hour = '2013-01-01 00:00:00+0000'"
    )
    assert coverage(3).checksum == first.checksum


def test_a_range_that_cannot_be_read_fails_the_pipeline_and_is_named(
    connection: CassandraConnection, session: Session
) -> None:
    # More replicas than there are nodes anywhere in the tests, so that ALL cannot be reached.
    session.execute(
        'CREATE KEYSPACE IF NOT EXISTS test_scan_rf WITH replication = '
        "{'class': 'SimpleStrategy', 'replication_factor': 7}"
    )
    session.execute('CREATE TABLE IF NOT EXISTS test_scan_rf.t (k int PRIMARY KEY)')
    with pytest.raises(Exception, match=r'^test_scan_rf.t at ALL token range \(-?\d+, -?\d+\]: not read in 7 attempts'):
        scanned(dataclasses.replace(connection, keyspace='test_scan_rf'), 't', consistency='ALL')
    session.execute('DROP KEYSPACE test_scan_rf')


@pytest.mark.parametrize(
    ('change', 'options', 'message'),
    [
        ({}, {'table': 'numbres'}, "table: got 'numbres', rule: a table of keyspace test_scan"),
        ({}, {'table': 'numbers', 'columns': ['m']}, "columns: got 'm', rule: a column of test_scan.numbers"),
        ({'keyspace': 'nope'}, {'table': 'numbers'}, "keyspace: got 'nope', rule: a keyspace of the cluster"),
        ({'contact_points': ('127.0.0.250',)}, {'table': 'numbers'}, 'contact_points: got 127.0.0.250:'),
        ({'local_datacenter': 'mars'}, {'table': 'numbers'}, "local_datacenter: got 'mars', rule: a data center of"),
    ],
)
def test_what_the_cluster_lacks_is_one_line(
    connection: CassandraConnection, table: str, change: dict, options: dict, message: str
) -> None:
    with pytest.raises(Exception, match='rule') as caught:
        scanned(dataclasses.replace(connection, **change), **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'table': ''}, "table: got '', rule: the name of a table"),
        ({'columns': []}, 'columns: got [], rule: one or more names'),
        ({'splits': 0}, 'splits: got 0, rule: an integer of at least 1'),
        ({'page_rows': -1}, 'page_rows: got -1, rule'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST', rule: one of"),
        ({'time_column': 'hour'}, "time_column: got 'hour', rule: given together with window"),
    ],
)
def test_bad_arguments_are_refused_at_once(connection: CassandraConnection, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        ReadFromCassandra(connection, **{'table': 'numbers', **options})
    assert str(caught.value).startswith(message)
