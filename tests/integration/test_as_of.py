"""Reads as of a reference time: the same content while writers keep writing, and what cannot be given back."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadOptions, ReadRequest
from tfx_cassandra.components.scan.read import ReadFromCassandra
from tfx_cassandra.components.window import EPOCH, TimeWindow

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
WINDOW = TimeWindow.parse('2013-01-01T00:00Z/2013-01-02T00:00Z')
PARTITIONS, ROWS = 20, 50


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    session.execute(
        f'CREATE TABLE {connection.keyspace}.readings (id text, at timestamp, x double, y int, tags set<text>, '
        'PRIMARY KEY (id, at))'
    )
    insert = session.prepare(f'INSERT INTO {connection.keyspace}.readings (id, at, x) VALUES (?, ?, ?)')
    for p in range(PARTITIONS):
        for r in range(ROWS):
            session.execute(insert, (f'p{p}', WINDOW.start + datetime.timedelta(minutes=2 * r), p + r / 4))
    return connection


@pytest.fixture
def as_of(filled: CassandraConnection, session: Session) -> Iterator[datetime.datetime]:
    """A reference time after which a thread writes new rows and new cells of old rows, until the test is done."""
    time.sleep(0.05)
    moment = datetime.datetime.now(UTC)
    time.sleep(0.05)
    new = session.prepare(f'INSERT INTO {filled.keyspace}.readings (id, at, x, tags) VALUES (?, ?, ?, ?)')
    more = session.prepare(f'UPDATE {filled.keyspace}.readings SET y = ? WHERE id = ? AND at = ?')
    done, started = threading.Event(), threading.Event()

    def write() -> None:
        i = 0
        while not done.is_set():
            odd = WINDOW.start + datetime.timedelta(minutes=2 * (i % ROWS) + 1, milliseconds=i)
            session.execute(new, (f'p{i % (PARTITIONS + 5)}', odd, 1.0, {'new'}))
            session.execute(more, (i, f'p{i % PARTITIONS}', WINDOW.start + datetime.timedelta(minutes=2 * (i % ROWS))))
            i += 1
            if i == 100:
                started.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert started.wait(60)
    yield moment
    done.set()
    writer.join()


def read(
    connection: CassandraConnection, folder: Path, as_of: datetime.datetime | None, table: str = 'readings'
) -> list:
    """Reads a table in a pipeline; returns its rows as sorted texts."""
    path = folder / str(len(list(folder.iterdir())))
    with beam.Pipeline() as pipeline:
        batches = pipeline | ReadFromCassandra(connection, table, as_of=as_of)
        rows = batches | beam.FlatMap(lambda batch: [repr(list(row.values())) for row in batch.to_pylist()])
        _ = rows | beam.io.WriteToText(str(path), shard_name_template='')
    return sorted(path.read_text().splitlines())


def test_two_reads_are_equal_while_a_writer_writes(
    filled: CassandraConnection, as_of: datetime.datetime, tmp_path: Path
) -> None:
    first = read(filled, tmp_path, as_of)
    time.sleep(0.2)
    assert read(filled, tmp_path, as_of) == first
    assert len(first) == PARTITIONS * ROWS
    assert all(
        row.endswith(', None]') and 'new' not in row for row in first
    )  # cells of old rows that were written later
    # Without the reference time the writer shows.
    now = read(filled, tmp_path, None)
    assert len(now) > len(first)
    assert now != read(filled, tmp_path, None)


def test_a_reference_time_before_all_writes_leaves_nothing(filled: CassandraConnection, tmp_path: Path) -> None:
    assert read(filled, tmp_path, EPOCH + datetime.timedelta(days=1)) == []
    options = ReadRequest(filled, 'readings', window=WINDOW)
    assert probe.has_rows(options)
    assert not probe.has_rows(ReadRequest(filled, 'readings', window=WINDOW, as_of=EPOCH))
    assert not probe.has_rows(ReadRequest(filled, 'readings', window=TimeWindow(EPOCH, WINDOW.start)))


def test_what_cannot_be_given_back(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    session.execute(f'CREATE TABLE {filled.keyspace}.lost (id text, at timestamp, x int, PRIMARY KEY (id, at))')
    insert = session.prepare(f'INSERT INTO {filled.keyspace}.lost (id, at, x) VALUES (?, ?, ?)')
    for name in ('kept', 'replaced', 'deleted'):
        session.execute(insert, (name, WINDOW.start, 1))
    time.sleep(0.05)
    moment = datetime.datetime.now(UTC)
    time.sleep(0.05)
    session.execute(insert, ('replaced', WINDOW.start, 2))
    session.execute(f'DELETE FROM {filled.keyspace}.lost WHERE id = %s', ('deleted',))
    assert [row[:7] for row in read(filled, tmp_path, moment, 'lost')] == ["['kept'"]


def test_a_restriction_that_a_later_write_could_change_is_refused(
    filled: CassandraConnection, session: Session
) -> None:
    options = ReadRequest(filled, 'readings', filters=(('x', (1.0,)),), as_of=EPOCH)
    with pytest.raises(SchemaError, match="as_of: got a restriction of 'x', rule: of key columns only"):
        options.scan(session)


def test_the_fingerprint_asked_for_before_is_that_of_the_content(filled: CassandraConnection, session: Session) -> None:
    options = ReadRequest(filled, 'readings', window=WINDOW)
    before = probe.fingerprint(options)
    assert (
        probe.fingerprint(ReadRequest(filled, 'readings', window=WINDOW, options=ReadOptions(splits=3, page_rows=7)))
        == before
    )
    session.execute(f'UPDATE {filled.keyspace}.readings SET y = 5 WHERE id = %s AND at = %s', ('p0', WINDOW.start))
    assert probe.fingerprint(options) != before
