"""One giant partition is read in slices of the window; deleted rows without number hide no live one."""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from cassandra import ReadFailure
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import BatchStatement, BatchType, PreparedStatement
from cql_proxy import CqlProxy
from scans import read_batches, read_rows

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

START = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
DAYS = 8
WINDOW = TimeWindow(START, START + datetime.timedelta(days=DAYS))
DELETED = 100_000
LIVE_EVERY = 2_000


def write_batches(session: Session, statement: PreparedStatement, rows: Iterable[tuple], size: int = 100) -> None:
    """Writes rows, a batch of neighbours at a time: one mutation where they are of one partition."""
    futures: list = []
    iterator = iter(rows)
    while part := list(itertools.islice(iterator, size)):
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in part:
            batch.add(statement, row)
        futures.append(session.execute_async(batch, timeout=60))
        if len(futures) == 64:
            futures.pop(0).result()
    for future in futures:
        future.result()


@pytest.mark.parametrize('rows', [200_000, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_a_giant_partition_is_read_in_parallel_slices(
    session: Session, proxy: CqlProxy, proxied: CassandraConnection, rows: int
) -> None:
    session.execute('TRUNCATE faults.inference_results', timeout=60)
    insert = session.prepare(
        "INSERT INTO faults.inference_results (model_id, timestamp, request_id, prediction) VALUES ('m', ?, ?, ?)"
    )
    write_batches(session, insert, giant(rows))
    got = read_batches(proxied, 'inference_results', columns=['prediction'], window=WINDOW)
    predictions = np.sort(np.concatenate([batch.column(0).to_numpy() for batch in got]))
    assert np.array_equal(predictions, np.arange(rows, dtype=float))

    reads = [execute for execute in proxy.scans() if execute.rows]
    assert len({execute.slice_of('timestamp') for execute in reads}) > 1
    assert most_at_once(reads) > 1


def giant(rows: int) -> Iterator[tuple]:
    """One model's results: half of them in the window's first hour, many at equal times, some before and after it."""
    hour, rest = datetime.timedelta(hours=1), datetime.timedelta(days=DAYS, milliseconds=-1)
    for i in range(rows):
        within = hour * (i / rows) * 2 if i < rows / 2 else rest * (i / rows * 2 - 1)
        same = within // datetime.timedelta(seconds=1) % 60 == 7  # a second each minute
        within = datetime.timedelta(seconds=within // datetime.timedelta(seconds=1)) if same else within
        yield START + within, uuid.UUID(int=i), float(i)
    for i in range(500):
        yield START - datetime.timedelta(milliseconds=i + 1), uuid.UUID(int=i), -1.0
        yield WINDOW.end + datetime.timedelta(milliseconds=i), uuid.UUID(int=i), -2.0


def most_at_once(reads: list) -> int:
    """The most slices that were asked for and not yet answered at one time."""
    return max(len({e.slice_of('timestamp') for e in reads if e.asked <= at < e.answered}) for at in
               [execute.asked for execute in reads][:500])  # fmt: skip


def later(seconds: int) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


@pytest.fixture(scope='module')
def deleted(session: Session) -> list[int]:
    """Tables of one partition, `rows_gone`, and of many, `partitions_gone`, DELETED rows deleted; the live ones."""
    live = [*range(0, DELETED, LIVE_EVERY)]
    gone = [range(start + 1, start + LIVE_EVERY) for start in range(0, DELETED, LIVE_EVERY)]
    for table, partition, at in (('rows_gone', lambda k: 0, later), ('partitions_gone', lambda k: k, lambda k: START)):
        session.execute(f'CREATE TABLE faults.{table} (k int, t timestamp, n int, PRIMARY KEY (k, t))')
        insert = session.prepare(f'INSERT INTO faults.{table} (k, t, n) VALUES (?, ?, ?)')
        delete = session.prepare(f'DELETE FROM faults.{table} WHERE k IN ? AND t IN ?')
        execute_concurrent_with_args(session, insert, [(partition(k), at(k), k) for k in live])
        parts = [part[i : i + 100] for part in gone for i in range(0, LIVE_EVERY, 100)]
        keys = [({*map(partition, part)}, {*map(at, part)}) for part in parts]
        execute_concurrent_with_args(session, delete, keys, concurrency=20)
    return live


@pytest.mark.parametrize('table', ['rows_gone', 'partitions_gone'])
def test_the_driver_alone_meets_too_many_tombstones(session: Session, deleted: list[int], table: str) -> None:
    with pytest.raises(ReadFailure):
        session.execute(f'SELECT n FROM faults.{table}').all()


@pytest.mark.parametrize('table', ['rows_gone', 'partitions_gone'])
def test_tombstones_hide_no_live_row(node: CassandraConnection, deleted: list[int], table: str) -> None:
    assert read_rows(node, table, columns=['n'], window=WINDOW) == [(n,) for n in deleted]


def test_tombstones_of_many_partitions_need_no_window(node: CassandraConnection, deleted: list[int]) -> None:
    assert read_rows(node, 'partitions_gone', columns=['n']) == [(n,) for n in deleted]
