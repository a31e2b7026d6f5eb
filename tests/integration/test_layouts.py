"""Tables with a bucket, a salt or both give what the plain table gives: reads, windows, latest values and joins."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from asked import days, ms, partitions_asked
from cassandra.cluster import Session
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scans import read_rows

from tfx_cassandra.components import WriteToCassandra, schema
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.join.join import join
from tfx_cassandra.components.dataset.spec import label
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.lookup.latest import plan_lookup
from tfx_cassandra.components.lookup.reader import Reader
from tfx_cassandra.components.lookup.spine import LookUp
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.source import plan_splits
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 30, 22, tzinfo=UTC)  # the next day is the last of its month
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = datetime.timedelta(minutes=1)
SPAN = 3 * 24 * 60  # minutes
LAYOUTS = {
    'plain': Layout(),
    'daily': Layout(Bucket('bucket', 'day', 'at')),
    'spread': Layout(None, Salt('part', 4, ('at', 'id'))),
    'salted': Layout(None, Salt('part', 8, ('sensor', 'kind'))),
    'both': Layout(Bucket('bucket', 'hour', 'at'), Salt('part', 3, ('id',))),
    'monthly': Layout(Bucket('bucket', 'month', 'at'), Salt('part', 2, ('kind', 'sensor'))),
}
OTHERS = [name for name in LAYOUTS if name != 'plain']
VIEW = FeatureView('view', 'plain', ('sensor', 'kind'), 'at', ('value', 'note'))
LABELS = LabelSource('events', ('sensor', 'kind'), 'at', ('i',))
numbers = itertools.count()


def declared(name: str, layout: Layout) -> schema.Relation:
    columns = {
        'sensor': 'text', 'kind': 'text', 'at': 'timestamp', 'id': 'int', 'value': 'double', 'note': 'text',
    }  # fmt: skip
    return schema.table(name, 'Readings.', columns, ['sensor', 'kind'], {'at': 'desc', 'id': 'asc'}, layout=layout)


@pytest.fixture(scope='module')
def laid_out(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """A connection to a keyspace with the readings in every layout, and events."""
    schema.apply(connection, schema.SimpleReplication(1), relations=[declared(*each) for each in LAYOUTS.items()])
    session.execute(
        f'CREATE TABLE {connection.keyspace}.events '
        '(day int, at timestamp, i int, sensor text, kind text, PRIMARY KEY (day, at, i))'
    )
    session.cluster.refresh_schema_metadata()
    return connection


def at(minutes: int) -> datetime.datetime:
    return START + minutes * MINUTE


@st.composite
def readings(draw: Any) -> dict[str, Any]:
    """Rows of three sensors that no other example has, and moments at which they are asked for."""
    example = next(numbers)
    ties = draw(st.booleans())
    keys = st.tuples(st.integers(0, 2), st.integers(0, SPAN - 1), st.integers(0, 3))
    unique = (lambda key: key) if ties else (lambda key: key[:2])
    drawn = draw(st.lists(st.tuples(keys, st.integers(0, 600)), max_size=40, unique_by=lambda row: unique(row[0])))
    rows = [
        {
            'sensor': f'{example}-{sensor}', 'kind': 'k', 'at': at(minute), 'id': number,
            'value': None if place % 5 == 4 else float(place), 'note': None if place % 3 == 2 else f'n{place}',
            # Distinct, so that rows of one time have an order.
            'written': at(minute + lag) + datetime.timedelta(microseconds=place),
        }
        for place, ((sensor, minute, number), lag) in enumerate(drawn)
    ]  # fmt: skip
    moments = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(-60, SPAN + 60)), min_size=4, max_size=12))
    return {
        'rows': rows, 'ties': ties, 'names': [f'{example}-{number}' for number in range(4)],
        'asked': [(f'{example}-{sensor}', at(minute)) for sensor, minute in moments],
        'ttl': draw(st.none() | st.integers(1, SPAN).map(lambda minutes: minutes * MINUTE)),
        'window': TimeWindow(*map(at, sorted(draw(st.sets(st.integers(-60, SPAN), min_size=2, max_size=2))))),
    }  # fmt: skip


def write(session: Session, connection: CassandraConnection, drawn: dict[str, Any]) -> None:
    for name in LAYOUTS:
        table = tables.describe(session, connection.keyspace, name)
        assert TableWriter(session, table, WriteOptions(timestamp_column='written')).write(drawn['rows']) == []
    insert = session.prepare(
        f'INSERT INTO {connection.keyspace}.events (day, at, i, sensor, kind) VALUES (1, ?, ?, ?, ?)'
    )
    session.execute(f'DELETE FROM {connection.keyspace}.events WHERE day = 1')
    for i, (sensor, moment) in enumerate(drawn['asked']):
        session.execute(insert, (moment, i, sensor, 'k'))


def scanned(raw: Session, request: ReadRequest) -> Iterator[pa.RecordBatch]:
    plan = plan_splits(request)
    for group in plan.groups:
        for batch in Fetcher(raw, plan.scan, request.planned(plan.page_rows)).fetch(group):
            if isinstance(batch, pa.RecordBatch):
                yield request.kept(filtered(batch, plan.scan), plan.scan)


def rows_read(raw: Session, request: ReadRequest) -> list[dict[str, Any]]:
    rows = [row for batch in scanned(raw, request) for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: (row['sensor'], row['at'], row['id']))


def latest(raw: Session, connection: CassandraConnection, view: FeatureView, keys: list[Any], by_time: bool) -> Any:
    reader = Reader(raw, plan_lookup(view, tables.describe(raw, connection.keyspace, view.table), by_time))
    return {name: column.to_pylist() for name, column in reader.read(keys).items()}


def joined(connection: CassandraConnection, view: FeatureView, cut_off: bool) -> list[list[dict[str, Any]]]:
    """Returns the training set of either plan, its events in order."""
    window = TimeWindow(at(-100), at(SPAN + 100))
    configured = TrainingSetOptions(connection, (view,), window, labels=LABELS, availability_cut_off=cut_off)
    with connections.session(connection, RawHandler) as raw:
        found = sources.describe(configured)
        batches = [
            label.spine(batch, LABELS, window.end) for batch in scanned(raw, found.reads[sources.LABELS].request)
        ]
        spine = pa.Table.from_batches(batches).combine_chunks()
        read = found.reads[view.name]
        empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in read.schema], schema=read.schema)
        held = [facts(empty, view), *(facts(batch, view) for batch in scanned(raw, read.request))]
        by_scan, _ = join(spine, 'at', pa.Table.from_batches(held), view, cut_off=cut_off)
        lookup = LookUp(connection, configured.read, [(view, read)], 'at', cut_off=cut_off)
        lookup.setup()
        try:
            by_key = next(lookup.process(spine.to_batches()[0]))
        finally:
            lookup.teardown()
    return [sorted(rows.to_pylist(), key=lambda row: row['i']) for rows in (by_scan, by_key)]


def check_layouts(laid_out: CassandraConnection, session: Session, drawn: dict[str, Any]) -> None:
    write(session, laid_out, drawn)
    names, window = tuple(drawn['names']), drawn['window']
    one = (('sensor', names[:1]), ('kind', ('k',)))
    keys = [(sensor, 'k', ms(moment)) for sensor, moment in drawn['asked']]
    view = dataclasses.replace(VIEW, ttl=drawn['ttl'])
    results: dict[str, list[Any]] = {}
    with connections.session(laid_out, RawHandler) as raw:
        for name in LAYOUTS:
            found: list[Any] = [
                rows_read(raw, ReadRequest(laid_out, name, filters=(('sensor', names),))),
                rows_read(raw, ReadRequest(laid_out, name, window=window, filters=(('sensor', names),))),
                rows_read(raw, ReadRequest(laid_out, name, window=window, filters=one)),
                rows_read(raw, ReadRequest(laid_out, name, filters=one)),
            ]
            mine = dataclasses.replace(view, table=name)
            found += [joined(laid_out, mine, cut_off) for cut_off in (False, True)]
            if not drawn['ties']:
                timeless = [(*key[:2], None) for key in keys]
                found += [latest(raw, laid_out, mine, keys, True)]
                found += [latest(raw, laid_out, dataclasses.replace(mine, ttl=None), timeless, False)]
            results[name] = found
    assert [row['at'] for row in results['plain'][0]] == sorted_times(drawn['rows'])
    for name in OTHERS:
        for number, (got, expected) in enumerate(zip(results[name], results['plain'], strict=True)):
            assert got == expected, (name, number)
    for by_scan, by_key in results['plain'][4:6]:
        assert by_key == by_scan


def sorted_times(rows: list[dict[str, Any]]) -> list[datetime.datetime]:
    return [row['at'] for row in sorted(rows, key=lambda row: (row['sensor'], row['at'], row['id']))]


SETTINGS: dict[str, Any] = {
    'phases': (Phase.explicit, Phase.generate), 'suppress_health_check': list(HealthCheck), 'deadline': None,
}  # fmt: skip


@settings(max_examples=3, **SETTINGS)
@given(drawn=readings())
def test_every_layout_gives_what_the_plain_table_gives(
    laid_out: CassandraConnection, session: Session, drawn: dict[str, Any]
) -> None:
    check_layouts(laid_out, session, drawn)


@pytest.mark.slow
@settings(max_examples=60, **SETTINGS)
@given(drawn=readings())
def test_many_series_in_every_layout(laid_out: CassandraConnection, session: Session, drawn: dict[str, Any]) -> None:
    check_layouts(laid_out, session, drawn)


# --- What a read touches ----------------------------------------------------------------------------------------------


def test_a_lookup_touches_the_buckets_of_its_window_alone(laid_out: CassandraConnection, session: Session) -> None:
    hours = [START + datetime.timedelta(hours=12 * half) for half in range(40)]  # 20 days
    rows = [{'sensor': 'w', 'kind': 'k', 'at': moment, 'id': 1, 'value': 1.0} for moment in hours]
    assert TableWriter(session, tables.describe(session, laid_out.keyspace, 'daily')).write(rows) == []
    view = dataclasses.replace(VIEW, table='daily', features=('value',), ttl=datetime.timedelta(days=3))
    moment = START + datetime.timedelta(days=8)
    with connections.session(laid_out, RawHandler) as raw:
        with partitions_asked(raw, 'daily') as asked:
            found = latest(raw, laid_out, view, [('w', 'k', ms(moment))], True)
        assert found == {'value': [1.0]}
        assert [each['bucket'] for each in asked] == days(moment)  # the newest is there: no other is read
        with partitions_asked(raw, 'daily') as asked:
            nothing = latest(raw, laid_out, view, [('none', 'k', ms(moment))], True)
        assert nothing == {'value': [None]}
        assert [each['bucket'] for each in asked] == days(*(moment - datetime.timedelta(days=n) for n in range(4)))


def test_a_scan_of_one_key_reads_its_partitions_alone(laid_out: CassandraConnection, session: Session) -> None:
    rows = [{'sensor': 's', 'kind': 'k', 'at': at(60 * hour), 'id': 1, 'value': 1.0} for hour in range(60)]
    for name in ('daily', 'salted', 'spread', 'both'):
        assert TableWriter(session, tables.describe(session, laid_out.keyspace, name)).write(rows) == []
    window = TimeWindow(at(60), at(26 * 60))
    one = (('sensor', ('s',)), ('kind', ('k',)))
    counts = {
        name: len(
            {split.area.tokens for split in plan_splits(ReadRequest(laid_out, name, None, window, None, one)).splits}
        )
        for name in LAYOUTS
        if name != 'monthly'
    }
    assert counts == {'plain': 1, 'daily': 2, 'salted': 1, 'spread': 4, 'both': 25 * 3}


def test_a_computed_salt_asks_one_partition_and_another_one_all(
    laid_out: CassandraConnection, session: Session
) -> None:
    row = {'sensor': 'x', 'kind': 'k', 'at': at(0), 'id': 7, 'value': 2.0}
    asked_of = {}
    with connections.session(laid_out, RawHandler) as raw:
        for name in ('salted', 'spread'):
            assert TableWriter(session, tables.describe(session, laid_out.keyspace, name)).write([row]) == []
            with partitions_asked(raw, name) as asked:
                view = dataclasses.replace(VIEW, table=name, features=('value',))
                assert latest(raw, laid_out, view, [('x', 'k', None)], False) == {'value': [2.0]}
            asked_of[name] = [each['part'] for each in asked]
    assert asked_of['salted'] == [zlib.crc32(b'\0\1x\0\0\1k\0') % 8]
    assert sorted(asked_of['spread']) == [0, 1, 2, 3]


# --- Writers ----------------------------------------------------------------------------------------------------------


def test_rows_may_have_the_layout_and_must_agree_with_it(laid_out: CassandraConnection, session: Session) -> None:
    table = tables.describe(session, laid_out.keyspace, 'both')
    row = {'sensor': 'c', 'kind': 'k', 'at': at(61), 'id': 5, 'value': 1.0}
    bucket, part = at(60), zlib.crc32((5).to_bytes(4, 'big')) % 3
    good = [row, {**row, 'bucket': bucket}, {**row, 'part': part}, {**row, 'bucket': bucket, 'part': None}]
    bad = [{**row, 'bucket': at(120)}, {**row, 'part': (part + 1) % 3}]
    writer = TableWriter(session, table)
    failures = writer.write([*good, *bad])
    assert [failure.row for failure in failures] == [4, 5]
    assert [failure.message for failure in failures] == [
        'bucket: got 2013-01-31 00:00:00+00:00, rule: 2013-01-30 23:00:00+00:00, '
        "as 'bucket=bucket:hour:at' gives for at = 2013-01-30 23:01:00+00:00",
        f"part: got {(part + 1) % 3}, rule: {part}, as 'salt=part:3:id' gives for id = 5",
    ]
    query = f"SELECT bucket, part FROM {laid_out.keyspace}.both WHERE sensor = 'c' ALLOW FILTERING"
    assert [tuple(found) for found in session.execute(query)] == [(bucket.replace(tzinfo=None), part)]
    assert [failure.message for failure in writer.write([{'sensor': 'c', 'kind': 'k', 'id': 1}])] == [
        "row: got no ['bucket', 'at'], rule: every column of the primary key has a value"
    ]


def test_pipelines_and_ingest_fill_the_layout(
    laid_out: CassandraConnection, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{'sensor': 'p', 'kind': 'k', 'at': at(700 * n), 'id': n, 'value': float(n), 'note': None} for n in range(6)]
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create(rows) | WriteToCassandra(laid_out, 'both')
    where = {'sensor': 'p', 'kind': 'k'}
    columns = [*rows[0]]
    expected = sorted(tuple(row.values()) for row in rows)
    assert read_rows(laid_out, 'both', where=where, columns=columns) == expected
    file = tmp_path / 'rows.jsonl'
    file.write_text(''.join(json.dumps({**row, 'sensor': 'q', 'at': row['at'].isoformat()}) + '\n' for row in rows))
    csv = tmp_path / 'rows.csv'
    csv.write_text(
        'sensor,kind,at,id,value\n'
        + ''.join(f'r,k,{row["at"].isoformat()},{row["id"]},{row["value"]}\n' for row in rows)
    )
    arguments = [
        '--contact-points',
        ','.join(laid_out.contact_points),
        '--port',
        str(laid_out.port),
        '--keyspace',
        laid_out.keyspace,
    ]
    for path, sensor in ((file, 'q'), (csv, 'r')):
        assert cli.main(['ingest', 'both', str(path), *arguments]) == 0
        found = read_rows(laid_out, 'both', where={**where, 'sensor': sensor}, columns=columns)
        assert found == [(sensor, *row[1:]) for row in expected]


def test_buckets_need_their_table(connection: CassandraConnection, session: Session) -> None:
    mine = dataclasses.replace(connection, keyspace='test_layouts_bare')
    session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)
    try:
        schema.apply(mine, schema.SimpleReplication(1), relations=[declared('daily', LAYOUTS['daily'])])
        session.cluster.refresh_schema_metadata()
        table = tables.describe(session, mine.keyspace, 'daily')
        with pytest.raises(
            SchemaError, match=r"test_layouts_bare\.daily: got 'bucket=bucket:day:at', rule: a keyspace with"
        ):
            TableWriter(session, table)
    finally:
        session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)


@pytest.mark.parametrize('name', ['spread', 'both'])
def test_the_newest_value_of_all_salts_is_found(laid_out: CassandraConnection, session: Session, name: str) -> None:
    rows = [{'sensor': 'y', 'kind': 'k', 'at': at(30 * n), 'id': n, 'value': float(n)} for n in range(24)]
    assert TableWriter(session, tables.describe(session, laid_out.keyspace, name)).write(rows) == []
    view = dataclasses.replace(VIEW, table=name, features=('value',))
    with connections.session(laid_out, RawHandler) as raw:
        moments = [('y', 'k', ms(at(30 * n + 7))) for n in range(24)]
        assert latest(raw, laid_out, view, moments, True) == {'value': [float(n) for n in range(24)]}
        assert latest(raw, laid_out, view, [('y', 'k', None)], False) == {'value': [23.0]}
