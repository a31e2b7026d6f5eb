"""Spans, reference times and splits of CassandraExampleGen on a real cluster, and what TFX's cache makes of them."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from cassandra.cluster import Session
from tfx import types
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import standard_artifacts

from tfx_cassandra.components.dataset.files.split import EntitySplits, TimeSplits
from tfx_cassandra.components.dataset.join import leaks
from tfx_cassandra.components.dataset.spec.span import DAY, SpanRange
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.example_gen import executor
from tfx_cassandra.components.example_gen.component import CassandraExampleGen
from tfx_cassandra.components.window import EPOCH

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
LAST = 15_706  # 2013-01-01: the last day with rows; the day before has some too
VISITS = FeatureView('visits', 'visits', ('shop', 'customer'), 'at', ('spent', 'items'))
BUCKETS = (('train', 3), ('eval', 1))


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    for table in ('visits', 'cached'):
        session.execute(
            f'CREATE TABLE {connection.keyspace}.{table} '
            '(shop text, customer int, at timestamp, spent double, items int, PRIMARY KEY ((shop, customer), at))'
        )
        insert = session.prepare(
            f'INSERT INTO {connection.keyspace}.{table} (shop, customer, at, spent) VALUES (?, ?, ?, ?)'
        )
        for i in range(400):
            # Half of the rows in each of two days.
            moment = EPOCH + (LAST - i % 2) * DAY + datetime.timedelta(minutes=i)
            session.execute(insert, (f's{i % 7}', i % 5, moment, i / 4))
    return connection


def run(component: CassandraExampleGen, folder: Path) -> types.Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    return artifact


def tables(folder: Path, names: list[str]) -> dict[str, pa.Table]:
    columns = ['shop', 'customer', 'at']
    return {name: leaks.read(sorted(map(str, folder.glob(f'Split-{name}/*.gz'))), columns) for name in names}


@pytest.mark.parametrize(
    ('span', 'first', 'last', 'count'),
    [
        ('latest', LAST, LAST, 200),
        (SpanRange(count=2), LAST - 1, LAST, 400),
        pytest.param(SpanRange(count=3, first=LAST), LAST, LAST, 200, marks=pytest.mark.slow),
        (SpanRange(count=1, skip=1), LAST - 1, LAST - 1, 200),
        pytest.param(LAST, LAST, LAST, 200, marks=pytest.mark.slow),
        (LAST + 3, LAST + 3, LAST + 3, 0),
        (SpanRange(LAST - 3, LAST), LAST - 3, LAST, 400),
    ],
)
def test_spans(filled: CassandraConnection, tmp_path: Path, span: object, first: int, last: int, count: int) -> None:
    artifact = run(CassandraExampleGen(filled, VISITS, span=span), tmp_path)
    assert artifact.get_int_custom_property('span') == last
    assert artifact.get_int_custom_property('examples') == count
    start, end = EPOCH + first * DAY, EPOCH + (last + 1) * DAY
    assert artifact.get_string_custom_property('window') == f'{start.isoformat()}/{end.isoformat()}'
    assert json.loads((tmp_path / 'coverage.json').read_text())['spans'] == [first, last]
    fingerprint = artifact.get_string_custom_property('fingerprint')
    assert artifact.get_int_custom_property('version') == int(fingerprint, 16) >> 256 - 52


def test_an_unchanged_window_has_the_same_version_and_the_same_bytes(
    filled: CassandraConnection, session: Session, tmp_path: Path
) -> None:
    def version(name: str) -> tuple[int, dict[str, bytes]]:
        component = CassandraExampleGen(filled, VISITS, span=LAST - 1)
        made = run(component, tmp_path / name).get_int_custom_property('version')
        files = (tmp_path / name).glob('Split-*/*')
        return made, {f'{path.parent.name}/{path.name}': path.read_bytes() for path in files}

    first = version('a')
    assert version('b') == first
    session.execute(
        f'UPDATE {filled.keyspace}.visits SET items = 1 WHERE shop = %s AND customer = %s AND at = %s',
        ('s1', 1, EPOCH + (LAST - 1) * DAY + datetime.timedelta(minutes=1)),
    )
    assert version('c')[0] != first[0]


@pytest.mark.parametrize(
    ('span', 'kind', 'message'),
    [
        (40_000, ValueError, 'span: got 40000, rule: spans that are complete at'),
        (SpanRange(count=1, first=LAST + 1), DatasetError, 'span: got none in test_spans.visits, rule: a complete'),
    ],
)
def test_spans_that_cannot_be_read(
    filled: CassandraConnection, tmp_path: Path, span: object, kind: type, message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(CassandraExampleGen(filled, VISITS, span=span), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_reference_time_in_the_future_is_refused(filled: CassandraConnection, tmp_path: Path) -> None:
    later = datetime.datetime.now(UTC) + DAY
    with pytest.raises(ValueError, match=r'as_of: got .* rule: not in the future'):
        run(CassandraExampleGen(filled, VISITS, span=LAST, as_of=later), tmp_path)


@pytest.fixture
def writer(filled: CassandraConnection, session: Session) -> Iterator[datetime.datetime]:
    """A reference time, and a thread that writes rows of a third day and of the last one after it."""
    time.sleep(0.05)
    moment = datetime.datetime.now(UTC)
    time.sleep(0.05)
    insert = session.prepare(f'INSERT INTO {filled.keyspace}.visits (shop, customer, at, spent) VALUES (?, ?, ?, ?)')
    done, started = threading.Event(), threading.Event()

    def write() -> None:
        i = 0
        while not done.is_set():
            at = EPOCH + (LAST + i % 2) * DAY + datetime.timedelta(hours=23, milliseconds=i)
            session.execute(insert, (f's{i % 9}', i % 5, at, 0.5))
            i += 1
            if i == 50:
                started.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert started.wait(60)
    yield moment
    done.set()
    thread.join()
    time.sleep(0.01)
    # The other tests know two days of rows.
    for shop in range(9):
        for customer in range(5):
            session.execute(
                f'DELETE FROM {filled.keyspace}.visits WHERE shop = %s AND customer = %s AND at >= %s',
                (f's{shop}', customer, EPOCH + LAST * DAY + datetime.timedelta(hours=23)),
            )


@pytest.mark.slow
def test_the_same_reference_time_gives_the_same_fingerprint_while_a_writer_writes(
    filled: CassandraConnection, writer: datetime.datetime, tmp_path: Path
) -> None:
    def fingerprint(name: str, as_of: datetime.datetime | None) -> str:
        artifact = run(CassandraExampleGen(filled, VISITS, span='latest', as_of=as_of), tmp_path / name)
        if as_of:
            assert artifact.get_string_custom_property('as_of') == as_of.isoformat()
            assert artifact.get_int_custom_property('span') == LAST
            assert artifact.get_int_custom_property('examples') == 200
        return artifact.get_string_custom_property('fingerprint')

    first = fingerprint('a', writer)
    time.sleep(0.2)
    assert fingerprint('b', writer) == first
    assert fingerprint('c', None) != fingerprint('d', None)


def test_splits_by_entity_and_by_time_do_not_leak(filled: CassandraConnection, tmp_path: Path) -> None:
    span = SpanRange(LAST - 1, LAST)
    gap = datetime.timedelta(hours=2)
    starts = (EPOCH + LAST * DAY + datetime.timedelta(hours=3),)
    by_entity = EntitySplits(BUCKETS, ('shop', 'customer'))
    by_time = TimeSplits(BUCKETS, 'at', gap, starts)
    names = [name for name, _ in BUCKETS]

    def examples(name: str, **options: object) -> dict[str, pa.Table]:
        artifact = run(CassandraExampleGen(filled, VISITS, span=span, **options), tmp_path / name)  # type: ignore[arg-type]
        assert json.loads(artifact.split_names) == names
        found = tables(tmp_path / name, names)
        assert artifact.get_int_custom_property('examples') == sum(map(len, found.values()))
        assert all(map(len, found.values()))
        return found

    entity = examples('entity', split=by_entity)
    assert sum(map(len, entity.values())) == 400
    assert leaks.find(entity, ['shop', 'customer']) == []
    assert leaks.find(entity, time_column='at')
    timed = examples('time', split=by_time)
    assert leaks.find(timed, time_column='at', gap=gap) == []
    assert leaks.find(timed, time_column='at', gap=2 * gap)
    assert sum(map(len, timed.values())) == 400 - 60  # rows every 2 minutes: 2 h of the last day lie in the gap
    assert leaks.find(timed, ['shop', 'customer'])


@pytest.mark.slow
def test_tfx_s_cache_follows_the_content_where_drivers_run(
    filled: CassandraConnection, session: Session, tmp_path: Path
) -> None:
    view = FeatureView('cached', 'cached', ('shop', 'customer'), 'at', ('spent', 'items'))

    def runs(cache_by: str) -> int:
        generate = CassandraExampleGen(filled, view, span='latest', cache_by=cache_by)
        dag = pipeline.Pipeline(
            cache_by, str(tmp_path / cache_by), components=[generate], enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / f'{cache_by}.sqlite')),
        )  # fmt: skip
        LocalDagRunner().run(dag)
        return len(list((tmp_path / cache_by).glob('CassandraExampleGen/examples/*/coverage.json')))

    assert [runs('content'), runs('content'), runs('configuration'), runs('configuration')] == [1, 1, 1, 1]
    row = ('s1', 1, EPOCH + LAST * DAY + datetime.timedelta(minutes=1))
    session.execute(f'INSERT INTO {filled.keyspace}.cached (shop, customer, at, spent) VALUES (%s, %s, %s, 9)', row)
    assert [runs('content'), runs('configuration')] == [2, 1]
    # A newer span is not answered with an older one, whatever the cache goes by.
    row = ('s1', 1, EPOCH + (LAST + 5) * DAY)
    session.execute(f'INSERT INTO {filled.keyspace}.cached (shop, customer, at, spent) VALUES (%s, %s, %s, 9)', row)
    assert [runs('content'), runs('configuration')] == [3, 2]
